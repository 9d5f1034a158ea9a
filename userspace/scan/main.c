/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-scan: started by the watchdog, or by holdfast(1) where no watchdog runs, with the
 * descriptors of holdfast/worker.h and these inputs: the kept baseline, room for a new one, the list
 * of loaded BPF programs.
 */
#include "userspace/scan/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "holdfast/worker.h"

/* 64 paths of each kind, and some words. */
#define PARAMS_MAX (1u << 20)
/* What a person reads, and one message of the channel carries: HF_ACTION_RESULT_MAX and its frame. */
#define RESULT_MAX (160u * 1024)

enum {
	FD_BASELINE_IN = HF_WORKER_FD_INPUT,
	FD_BASELINE_OUT,
	FD_BPF_LIST,
};

static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

static int read_params(struct hf_scan_params *ret, char why[static 128])
{
	_cleanup_free_ char *text = calloc(1, PARAMS_MAX + 1);
	ssize_t n;

	if (!text)
		return -ENOMEM;
	n = hf_read_full(HF_WORKER_FD_PARAMS, text, PARAMS_MAX);
	(void)hf_strlcpy(why, "the parameters cannot be read", 128);
	if (n < 0)
		return (int)n;
	return hf_scan_params_parse(text, ret, why);
}

static int write_result(struct hf_scan *s)
{
	struct hf_buf out = {};
	int r = hf_scan_result(s, RESULT_MAX, &out);

	if (r == 0)
		r = hf_write_full(HF_WORKER_FD_RESULT, out.data, out.len);
	hf_buf_done(&out);
	return r;
}

static int scan(struct hf_scan *s)
{
	char why[128];
	int r;

	if (read_params(&s->params, why) < 0)
		return hf_worker_send_done(HF_WORKER_FD_PROGRESS, HF_WORKER_FAILED, why);
	s->root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root < 0)
		return hf_worker_send_done(HF_WORKER_FD_PROGRESS, HF_WORKER_FAILED,
					   "the root directory cannot be opened");
	r = hf_scan_run(s);
	if (r == -EPIPE)
		return r;
	if (r == -ECANCELED)
		return hf_worker_send_done(HF_WORKER_FD_PROGRESS, HF_WORKER_CANCELLED, "cancelled");
	r = write_result(s);
	if (r < 0)
		return hf_worker_send_done(HF_WORKER_FD_PROGRESS, HF_WORKER_FAILED,
					   "the result cannot be written");
	return hf_worker_send_done(HF_WORKER_FD_PROGRESS, HF_WORKER_SUCCEEDED, "");
}

static int usage(FILE *f)
{
	(void)fprintf(f, "Usage: holdfast-scan --worker\n\n"
			 "Started by holdfast-watchdog and by 'holdfast scan', which is what you "
			 "want.\n");
	return f == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	struct hf_scan s = {
		.root = -1,
		.proc = -1,
		.baseline_in = FD_BASELINE_IN,
		.baseline_out = FD_BASELINE_OUT,
		.bpf_list = FD_BPF_LIST,
		.progress = HF_WORKER_FD_PROGRESS,
		.cancelled = &cancelled,
	};
	int type, r;
	socklen_t len = sizeof(type);

	if (argc == 2 && hf_streq(argv[1], "--version")) {
		(void)printf("holdfast-scan %s\n", HF_VERSION);
		return 0;
	}
	if (argc == 2 && hf_streq(argv[1], "--help"))
		return usage(stdout);
	/* By hand it has not what it needs. */
	if (argc != 2 || !hf_streq(argv[1], "--worker") ||
	    getsockopt(HF_WORKER_FD_PROGRESS, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return usage(stderr);
	(void)signal(SIGTERM, on_signal);
	(void)signal(SIGINT, on_signal);
	(void)signal(SIGXFSZ, SIG_IGN); /* a full result is an error, not an end */
	r = scan(&s);
	(void)hf_close(s.root);
	(void)hf_close(s.proc);
	hf_scan_done(&s);
	return r < 0 ? 1 : 0;
}
