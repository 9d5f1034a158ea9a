/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-collect: what somebody who helps from afar wants to see, in one archive without secrets.
 * A source is one line of the table in sources.c. Everything that goes into the archive is text and
 * passes hf_redact(); there is no way around it.
 */
#pragma once

#include <stdbool.h>

#include "base/str.h"
#include "holdfast/paths.h"
#include "userspace/collect/archive.h"

/* Of one source: a day of a noisy log, 1000 events. What is older is left out. */
#define HF_COLLECT_SOURCE_MAX (2u << 20)

struct hf_collect {
	struct hf_paths paths;
	struct hf_archive archive;
	struct hf_buf manifest; /* JSON of the files, grows */
	unsigned files, failed;
	unsigned long long redactions;
};

struct hf_collect_source {
	const char *name; /* in the archive */
	/*
	 * Appends its text to out, at most HF_COLLECT_SOURCE_MAX bytes of it. -errno, with one line in
	 * why, when there is none; *ret_cut when older parts are left out.
	 */
	int (*make)(struct hf_collect *c, struct hf_buf *out, bool *ret_cut, char why[static 160]);
};

extern const struct hf_collect_source hf_collect_sources[];
extern const size_t hf_collect_sources_n;

/* Makes one source and puts it into the archive; failures are in the manifest. -EFBIG: it is full. */
int hf_collect_add(struct hf_collect *c, const struct hf_collect_source *source);
/* Appends what the manifest is: one JSON object. */
void hf_collect_manifest(const struct hf_collect *c, struct hf_buf *out);

/* ---- where texts come from -------------------------------------------------------------------- */

/* The end of a file, whole lines. *ret_cut: there is more before. -errno. */
int hf_collect_tail(const char *path, size_t max, struct hf_buf *out, bool *ret_cut);
/* Appends the names in a directory; one that is not there is said. */
int hf_collect_list(const char *path, struct hf_buf *out);
/* The newest records of a unit in the journal, oldest first. -ENOENT: there is no journal. */
int hf_collect_journal(const char *unit, size_t max, struct hf_buf *out, bool *ret_cut);
/*
 * One request to a daemon's bus socket and its answer, by the protocol of nng's REQ over ipc. -errno;
 * a deadline of some seconds.
 */
int hf_collect_ask(const char *socket_path, const void *request, size_t len, struct hf_buf *answer);
