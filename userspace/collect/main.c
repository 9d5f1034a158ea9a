/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-collect: started by the watchdog with the descriptors of holdfast/worker.h and one input,
 * room for the manifest. Its only parameter is the instance: "dir ." or nothing.
 */
#include "userspace/collect/collect.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "holdfast/worker.h"

/* What a portal keeps of one action. */
#define ARCHIVE_MAX (16u << 20)
#define PARAMS_MAX  256

static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

static int read_params(struct hf_collect *c)
{
	char text[PARAMS_MAX] = "";
	ssize_t n = hf_read_full(HF_WORKER_FD_PARAMS, text, sizeof(text) - 1);

	if (n < 0)
		return (int)n;
	text[strcspn(text, "\n")] = 0;
	if (*text && !hf_startswith(text, "dir "))
		return -EINVAL;
	return hf_paths_init(*text ? text + strlen("dir ") : NULL, &c->paths);
}

static int add_all(struct hf_collect *c)
{
	for (size_t i = 0; i < hf_collect_sources_n; i++) {
		int r = hf_worker_send_progress(HF_WORKER_FD_PROGRESS,
						(uint32_t)(100 * i / hf_collect_sources_n), i + 1,
						hf_collect_sources[i].name);

		if (r < 0)
			return r;
		if (cancelled)
			return -ECANCELED;
		r = hf_collect_add(c, &hf_collect_sources[i]);
		if (r < 0 && r != -EFBIG)
			return r;
	}
	return 0;
}

static int collect(struct hf_collect *c)
{
	struct hf_buf manifest = {};
	int r = read_params(c);

	if (r == 0)
		r = hf_archive_begin(&c->archive, HF_WORKER_FD_RESULT, ARCHIVE_MAX, time(NULL));
	if (r == 0)
		r = add_all(c);
	if (r == 0) {
		hf_collect_manifest(c, &manifest);
		r = hf_archive_add(&c->archive, "holdfast/manifest.json", manifest.data,
				   manifest.len);
		if (r == 0 || r == -EFBIG)
			r = hf_archive_end(&c->archive);
	}
	if (r == 0)
		r = hf_write_full(HF_WORKER_FD_INPUT, manifest.data, manifest.len);
	hf_buf_done(&manifest);
	hf_archive_done(&c->archive);
	hf_buf_done(&c->manifest);
	return r;
}

static int usage(FILE *f)
{
	(void)fprintf(f, "Usage: holdfast-collect --worker\n\nStarted by holdfast-watchdog.\n");
	return f == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	struct hf_collect c = {};
	int type, r;
	socklen_t len = sizeof(type);

	if (argc == 2 && hf_streq(argv[1], "--version")) {
		(void)printf("holdfast-collect %s\n", HF_VERSION);
		return 0;
	}
	if (argc == 2 && hf_streq(argv[1], "--help"))
		return usage(stdout);
	if (argc != 2 || !hf_streq(argv[1], "--worker") ||
	    getsockopt(HF_WORKER_FD_PROGRESS, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return usage(stderr);
	(void)signal(SIGTERM, on_signal);
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN); /* a daemon that hangs up is no end */
	r = collect(&c);
	if (r == -EPIPE)
		return 1;
	if (r == -ECANCELED)
		r = hf_worker_send_done(HF_WORKER_FD_PROGRESS, HF_WORKER_CANCELLED, "cancelled");
	else
		r = hf_worker_send_done(HF_WORKER_FD_PROGRESS,
					r < 0 ? HF_WORKER_FAILED : HF_WORKER_SUCCEEDED,
					r < 0 ? strerror(-r) : "");
	return r < 0 ? 1 : 0;
}
