/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end of the local bus; the only user of nng in the CLI. */
#pragma once

#include "base/cleanup.h"
#include "tools/ctl/ctl.h"

#define HF_CTL_DEADLINE_MS 3000u

enum hf_ctl_daemon { HF_CTL_AGENT, HF_CTL_WATCHDOG };

/* What a request came to. text is one line without "holdfast: "; code an exit code. */
struct hf_ctl_problem {
	int code;
	char text[512];
};

struct hf_ctl_question {
	enum hf_ctl_daemon daemon;
	Bus__Request *request;
	unsigned deadline_ms;
	/* The result: */
	int r;                   /* 0, or -errno with the problem */
	Bus__Response *response; /* owned by the caller; NULL when r < 0 */
	struct hf_ctl_problem problem;
};

/*
 * Asks one or both daemons at once and returns when each has its result, the deadlines at the
 * latest, whatever the daemon does. A request goes out once and is never repeated. tick (or NULL) is
 * called about ten times a second meanwhile.
 */
void hf_ctl_ask_all(const struct hf_ctl *c, struct hf_ctl_question *questions, size_t n,
		    void (*tick)(void *userdata), void *userdata);

/*
 * Asks and waits. 0 with *ret owned by the caller (bus__response__free_unpacked), or -errno with
 * the problem: nobody there, no right, no answer in time, or refused (Response.error).
 */
int hf_ctl_ask(const struct hf_ctl *c, enum hf_ctl_daemon daemon, Bus__Request *q,
	       unsigned deadline_ms, Bus__Response **ret, struct hf_ctl_problem *ret_problem);
/* The same; prints the problem and returns the exit code. */
int hf_ctl_ask_or_fail(const struct hf_ctl *c, enum hf_ctl_daemon daemon, Bus__Request *q,
		       unsigned deadline_ms, Bus__Response **ret);

/* The answer fits no question of ours: says so, HF_CTL_BAD_NEWS. */
int hf_ctl_fail_misfit(const struct hf_ctl *c, enum hf_ctl_daemon daemon);

/* The agent's event stream. */
struct hf_ctl_stream;

int hf_ctl_stream_open(const struct hf_ctl *c, struct hf_ctl_stream **ret,
		       struct hf_ctl_problem *ret_problem);
struct hf_ctl_stream *hf_ctl_stream_close(struct hf_ctl_stream *s);
HF_DEFINE_CLEANUP(struct hf_ctl_stream *, hf_ctl_stream_close);

enum hf_ctl_stream_news {
	HF_CTL_STREAM_EVENT, /* *ret is an event, owned by the caller */
	HF_CTL_STREAM_QUIET, /* nothing within wait_ms */
	HF_CTL_STREAM_GONE,  /* the agent went away; it is being waited for */
	HF_CTL_STREAM_BACK,  /* and it is back (GONE may have been too short to be told): what came
				meanwhile is in its recent events; told before any newer event */
};
/* One of the above, or -errno. */
int hf_ctl_stream_next(struct hf_ctl_stream *s, unsigned wait_ms, Bus__Event **ret);
