/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast(1): what its verbs share. A verb gets its own arguments, talks to the local bus, prints
 * the answer to stdout and errors to stderr as `holdfast: <what failed>: <why>; <what to do>`, and
 * returns an exit code. Nothing of the agent is linked here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "bus.pb-c.h"
#include "holdfast/paths.h"
#include "tools/ctl/term.h"

enum hf_ctl_exit {
	HF_CTL_OK = 0,
	HF_CTL_BAD_NEWS = 1, /* the answer is bad news, or the request was refused */
	HF_CTL_USAGE = 2,
	HF_CTL_UNREACHABLE = 3, /* nobody answers */
};

#define HF_CTL_DENIED "permission denied: run as root or join group 'holdfast'"

struct hf_ctl {
	const char *verb; /* opens every complaint */
	struct hf_paths paths;
	bool json;
	int cwd; /* where the caller stands; --dir changes the working directory */
	struct hf_term out;
};

/* argv[0] is the verb. */
typedef int (*hf_ctl_verb_fn)(struct hf_ctl *c, int argc, char **argv);

int hf_ctl_status(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_events(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_top(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_outages(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_actions(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_enroll(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_reset(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_component(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_release(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_config(struct hf_ctl *c, int argc, char **argv);
int hf_ctl_scan(struct hf_ctl *c, int argc, char **argv);

/* "holdfast: " and one line to stderr; bytes that could move the cursor are replaced. Returns code. */
int hf_ctl_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As above with how the verb is called. HF_CTL_USAGE. */
int hf_ctl_usage(const char *usage, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * The options of a verb. --json is understood everywhere, also behind the verb; an option may be
 * written --name value or --name=value. Fills words with what is no option.
 */
struct hf_ctl_option {
	const char *name;   /* "--kind" */
	const char **value; /* NULL: a flag */
	bool *flag;
	const char **list; /* with value NULL and flag NULL: collects up to list_max values */
	size_t *list_n, list_max;
};
/* Returns 0, or HF_CTL_USAGE after saying why. */
int hf_ctl_parse(struct hf_ctl *c, int argc, char **argv, const char *usage,
		 const struct hf_ctl_option *options, size_t n_options, const char **words,
		 size_t max_words, size_t *ret_words);

/* Prints one JSON value on a line; takes the reference over. HF_CTL_OK, or bad news on ENOMEM. */
int hf_ctl_print_json(json_t *v);

/*
 * "5m" ago, "14:03" or "14:03:11" today, "2026-01-02", "2026-01-02 14:03:11" (local), or RFC 3339.
 * -EINVAL.
 */
int hf_ctl_parse_since(const char *text, uint64_t now_ns, uint64_t *ret_ns);

/* The agent's word about a failed enrolment, with what to do about it. Owned; NULL on ENOMEM. */
char *hf_enroll_complaint(const char *text);
