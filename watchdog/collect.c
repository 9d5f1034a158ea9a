/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a collection, and reading its manifest. */
#include "watchdog/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/str.h"

#define COLLECT_MAGIC 0x434f4c4cu
/* A line per source. */
#define MANIFEST_MAX 16384u

struct hf_collect_run {
	unsigned magic;
	struct hf_worker *worker;
	int manifest;
	void (*on_progress)(void *userdata, uint32_t percent, const char *text);
	void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int archive,
			const char *json, const char *reason);
	void *userdata;
};

static struct hf_collect_run *run_free(struct hf_collect_run *c)
{
	if (!c)
		return NULL;
	(void)hf_close(c->manifest);
	c->magic = 0;
	free(c);
	return NULL;
}
HF_DEFINE_CLEANUP(struct hf_collect_run *, run_free);

static void on_worker_progress(void *userdata, uint32_t percent, const char *text)
{
	struct hf_collect_run *c = HF_CAST(userdata, struct hf_collect_run, COLLECT_MAGIC);

	if (c->on_progress)
		c->on_progress(c->userdata, percent, text);
}

static void on_worker_done(void *userdata, enum hf_worker_outcome outcome, int result,
			   const char *reason)
{
	struct hf_collect_run *c = HF_CAST(userdata, struct hf_collect_run, COLLECT_MAGIC);
	char json[MANIFEST_MAX + 1] = "";
	ssize_t n = 0;

	if (outcome == HF_WORKER_SUCCEEDED)
		n = pread(c->manifest, json, MANIFEST_MAX, 0);
	json[n > 0 ? n : 0] = 0;
	json[strcspn(json, "\n")] = 0;
	/* What a worker wrote is passed on only as far as it can be text. */
	if (!hf_utf8_valid(json, strlen(json)))
		json[0] = 0;
	c->on_done(c->userdata, outcome, result, json, reason);
	run_free(c);
}

int hf_collect_begin(struct hf_watchdog *w, uint64_t idle_limit_ns, uint64_t hard_limit_ns,
		     void (*on_progress)(void *userdata, uint32_t percent, const char *text),
		     void (*on_done)(void *userdata, enum hf_worker_outcome outcome, int archive,
				     const char *json, const char *reason),
		     void *userdata, struct hf_collect_run **ret, struct hf_err *err)
{
	_cleanup_(run_freep) struct hf_collect_run *c = NULL;
	int r;

	if (!w->workers)
		return hf_err_set(err, -EAGAIN, "the watchdog is not ready");
	c = calloc(1, sizeof(*c));
	if (!c)
		return hf_err_set(err, -ENOMEM, "out of memory");
	c->magic = COLLECT_MAGIC;
	c->on_progress = on_progress;
	c->on_done = on_done;
	c->userdata = userdata;
	c->manifest = memfd_create("holdfast-manifest", MFD_CLOEXEC);
	if (c->manifest < 0)
		return hf_err_set(err, -errno, "make a memfd");
	r = hf_worker_start(w->workers,
			    &(struct hf_worker_request){
				    .name = "collect",
				    .params = w->paths.installed ? "" : "dir .\n",
				    .inputs = &c->manifest,
				    .inputs_n = 1,
				    .idle_limit_ns = idle_limit_ns,
				    .hard_limit_ns = hard_limit_ns,
				    .on_progress = on_worker_progress,
				    .on_done = on_worker_done,
				    .userdata = c,
			    },
			    &c->worker, err);
	if (r == 0)
		*ret = TAKE_PTR(c); /* its own until on_done */
	return r;
}

void hf_collect_cancel(struct hf_collect_run *c)
{
	hf_worker_cancel(c->worker);
}
