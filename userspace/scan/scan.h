/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-scan: one look over the host, and what it found. This is what its checks share; a check
 * is one file with one function and a line in table.c.
 *
 * A scan writes nothing but its result, follows no symbolic link that a user of the host can move,
 * enters neither pseudo nor network file systems, and reads files that change under it at most
 * twice. Everything a check does goes through hf_scan_tick(), where it is slowed down, shown as
 * progress and cancelled.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/str.h"
#include "userspace/scan/findings.h"

#define HF_SCAN_PATHS_MAX 64u /* as many as config.yml may name */
#define HF_SCAN_NOTE_MAX  256u

/* What a scan is asked to do; see params.c for its form as text. */
struct hf_scan_params {
	uint64_t checks; /* bit n: line n of the table; 0: all */
	char *paths[HF_SCAN_PATHS_MAX];
	size_t paths_n;                   /* 0: everywhere */
	char *watched[HF_SCAN_PATHS_MAX]; /* the baseline's */
	size_t watched_n;
	char *exclude[HF_SCAN_PATHS_MAX];
	size_t exclude_n;
	unsigned cpu_percent;
	bool accept;        /* what is there now becomes the baseline */
	bool have_baseline; /* there is a file to compare with */
	bool keep_baseline; /* there is somebody who keeps a new one */
	bool have_bpf;      /* there is a list of loaded programs */
	char no_bpf[128];   /* why not */
};

enum hf_check_result {
	HF_CHECK_NOT_WANTED,
	HF_CHECK_DONE,
	HF_CHECK_PARTIAL,     /* some of it could not be looked at; note says what */
	HF_CHECK_NOT_CHECKED, /* nothing could; note says why */
	HF_CHECK_CANCELLED,
	_HF_CHECK_RESULT_MAX,
};

struct hf_check_state {
	enum hf_check_result result;
	char note[HF_SCAN_NOTE_MAX];
	uint64_t looked_at, unreadable, took_ns;
};

#define HF_CHECKS_MAX 16u

struct hf_scan {
	struct hf_scan_params params;
	int root;                                /* "/", or a test's tree */
	int proc;                                /* "/proc" of it; -1: none */
	int baseline_in, baseline_out, bpf_list; /* -1: none */
	int progress;                            /* HF_WORKER_FD_PROGRESS; -1: nobody listens */
	const volatile sig_atomic_t *cancelled;  /* NULL: cannot be */

	struct hf_findings findings;
	struct hf_check_state state[HF_CHECKS_MAX];
	size_t current;            /* line of the table */
	const char *baseline_word; /* what happened to it, for the summary; NULL: nothing */

	/* hf_scan_tick() */
	uint64_t work, ticks;
	uint64_t started_ns, window_ns, window_cpu_ns, progress_ns;
	uint32_t share_done, share_all; /* weights of the table */
	double fraction;                /* of the current check */
	uint64_t files, bytes;
};

struct hf_check {
	const char *id;
	const char *title; /* what it looks for, for people */
	unsigned weight;   /* its share of the progress */
	bool files;        /* it can be kept to some paths; the others are left out then */
	/* 0, or -errno: -ECANCELED and -EPIPE end the scan, the rest is this check's end. */
	int (*run)(struct hf_scan *s);
};

extern const struct hf_check hf_checks[];
extern const size_t hf_checks_n;

/* ---- what a check calls ------------------------------------------------------------------------ */

/*
 * After each small piece of work: a file, 64 KiB of one, a process. Sleeps when the scan is over its
 * share of the processor. -ECANCELED or -EPIPE: leave at once, with that.
 */
int hf_scan_tick(struct hf_scan *s, uint64_t units, const char *what);
/* How far the current check is, 0 to 1. */
void hf_scan_fraction(struct hf_scan *s, double fraction);
/* For a walk whose length is only guessed: near 1 at n = expected, never 1. */
void hf_scan_fraction_of(struct hf_scan *s, uint64_t n, uint64_t expected);

void hf_scan_found(struct hf_scan *s, enum hf_severity severity, const char *id, const char *path,
		   const char *fix, const char *evidence, ...)
	__attribute__((format(printf, 6, 7)));

/* The current check could look at nothing, or not at all of it. */
void hf_scan_not_checked(struct hf_scan *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void hf_scan_partial(struct hf_scan *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* path is absolute; opened below the scan's root, where links lead nowhere out of it. -errno. */
int hf_scan_open(const struct hf_scan *s, const char *path, int flags);
/* The same without following the last link. */
int hf_scan_lstat(const struct hf_scan *s, const char *path, struct stat *ret);
/* A small file as text, with a NUL behind; owned by the caller. -EFBIG above max. */
int hf_scan_read(const struct hf_scan *s, const char *path, size_t max, char **ret,
		 size_t *ret_len);
/* Is it one of the paths that are left out, or below one? */
bool hf_scan_excluded(const struct hf_scan *s, const char *path);
/* Is it below dir, or dir itself? */
bool hf_path_below(const char *path, const char *dir);

/* ---- the scan ------------------------------------------------------------------------------------ */

/* Runs the wanted checks. 0, -ECANCELED or -EPIPE. */
int hf_scan_run(struct hf_scan *s);
/* Appends the result as JSON, max bytes at the most: what is left out is counted in it. */
int hf_scan_result(struct hf_scan *s, size_t max, struct hf_buf *out);
void hf_scan_done(struct hf_scan *s);

/* Text to parameters. -EINVAL, and why in *ret_why. */
int hf_scan_params_parse(char *text, struct hf_scan_params *ret, char why[static 128]);
void hf_scan_params_done(struct hf_scan_params *p);
/* "setuid,baseline" to bits of the table; -EINVAL when one of them is unknown. */
int hf_scan_checks_parse(const char *text, uint64_t *ret);
