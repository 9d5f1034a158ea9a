/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan by hand. The CLI asks every quarter of a second; one that does not ask any more was killed,
 * and its scan is cancelled. The result stays until the next scan or LEASE_S later.
 */
#include "watchdog/bus_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "watchdog/scan.h"

#define BUS_SCAN_MAGIC 0x42534341u
/* A terminal that is stopped for a moment (^Z, a slow link) is not a dead one. */
#define LEASE_S 60
/* As much as the CLI takes in one answer; a scan's own limit is a quarter of it. */
#define RESULT_MAX ((size_t)1 << 20)

struct hf_bus_scan {
	unsigned magic;
	struct hf_watchdog *w;
	uint64_t id; /* of the last one; 0: there was none */
	struct hf_scan_run *run;
	uint32_t percent;
	char text[HF_WORKER_TEXT_MAX];
	enum hf_worker_outcome outcome;
	char *result; /* NULL: none */
	size_t result_len;
	sd_event_source *lease;
};

static void renew_lease(struct hf_bus_scan *b)
{
	(void)sd_event_source_set_time(b->lease,
				       hf_now_monotonic_ns() / 1000 + LEASE_S * UINT64_C(1000000));
	(void)sd_event_source_set_enabled(b->lease, SD_EVENT_ONESHOT);
}

static void forget_result(struct hf_bus_scan *b)
{
	free(b->result);
	b->result = NULL;
	b->result_len = 0;
}

static int on_lease(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_bus_scan *b = HF_CAST(userdata, struct hf_bus_scan, BUS_SCAN_MAGIC);

	(void)source;
	(void)usec;
	if (b->run)
		hf_scan_cancel(b->run);
	else
		forget_result(b);
	return 0;
}

static void on_progress(void *userdata, uint32_t percent, const char *text)
{
	struct hf_bus_scan *b = HF_CAST(userdata, struct hf_bus_scan, BUS_SCAN_MAGIC);

	b->percent = percent;
	(void)hf_strlcpy(b->text, text, sizeof(b->text));
}

static void on_done(void *userdata, enum hf_worker_outcome outcome, int result, const char *reason)
{
	struct hf_bus_scan *b = HF_CAST(userdata, struct hf_bus_scan, BUS_SCAN_MAGIC);
	_cleanup_close_ int fd = result;
	ssize_t n;

	b->run = NULL;
	b->outcome = outcome;
	(void)hf_strlcpy(b->text, reason, sizeof(b->text));
	renew_lease(b);
	if (fd < 0)
		return;
	b->percent = 100;
	b->result = malloc(RESULT_MAX);
	n = b->result ? hf_read_full(fd, b->result, RESULT_MAX) : -ENOMEM;
	b->result_len = n > 0 ? (size_t)n : 0;
}

static int start(struct hf_bus_scan *b, const Bus__ScanRequest *q, struct hf_err *err)
{
	const struct hf_scan_order order = {
		.checks = q->checks,
		.paths = (const char *const *)q->paths,
		.paths_n = q->n_paths,
		.accept_baseline = q->accept_baseline,
	};
	int r;

	if (b->run)
		return hf_err_set(err, -EBUSY, "a scan is running already");
	r = hf_scan_begin(b->w, &order, on_progress, on_done, b, &b->run, err);
	if (r < 0)
		return r;
	forget_result(b);
	b->id++;
	b->percent = 0;
	(void)hf_strlcpy(b->text, "starts", sizeof(b->text));
	return 0;
}

int hf_bus_scan_answer(struct hf_bus_scan *b, const Bus__ScanRequest *q, Bus__ScanState *ret,
		       struct hf_err *err)
{
	int r;

	bus__scan_state__init(ret);
	if (q->verb == BUS__SCAN_REQUEST__VERB__START) {
		r = start(b, q, err);
		if (r < 0)
			return r;
	} else if (q->id != b->id || b->id == 0) {
		return hf_err_set(err, -ENOENT, "there is no such scan; another one was started");
	}
	renew_lease(b);
	if (q->verb == BUS__SCAN_REQUEST__VERB__CANCEL && b->run)
		hf_scan_cancel(b->run);
	ret->id = b->id;
	ret->state = (char *)(b->run ? "running" : hf_worker_outcome_name(b->outcome));
	ret->percent = b->percent;
	ret->text = b->text;
	if (q->verb == BUS__SCAN_REQUEST__VERB__RESULT && b->result) {
		ret->result.data = (uint8_t *)b->result;
		ret->result.len = b->result_len;
	}
	return 0;
}

int hf_bus_scan_new(struct hf_watchdog *w, struct hf_bus_scan **ret)
{
	_cleanup_(hf_bus_scan_freep) struct hf_bus_scan *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->magic = BUS_SCAN_MAGIC;
	b->w = w;
	/* Another watchdog's number means nothing here. */
	b->id = hf_now_boottime_ns();
	r = sd_event_add_time(w->event, &b->lease, CLOCK_MONOTONIC, UINT64_MAX, 1000000, on_lease,
			      b);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

struct hf_bus_scan *hf_bus_scan_free(struct hf_bus_scan *b)
{
	if (!b)
		return NULL;
	sd_event_source_disable_unref(b->lease);
	forget_result(b);
	b->magic = 0;
	free(b);
	return NULL;
}
