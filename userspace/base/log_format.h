/* SPDX-License-Identifier: Apache-2.0 */
/* How a log message looks on its two ways out. Pure functions, private to base/ and its tests. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/str.h"

/* A message is cut here: the journal's socket buffer and a reader's patience bound it. */
#define HF_LOG_TEXT_MAX   2048
#define HF_LOG_FIELDS_MAX 32

/* NULL for a value that is no level. */
const char *hf_log_level_name(enum hf_log_level level);

/*
 * Takes the power from text: newlines and tabs become spaces, other control characters '?', so that
 * one message is one line and no terminal obeys it. Text that is no UTF-8 loses all non-ASCII.
 */
void hf_log_tame(char *text);

/* One line with '\n' at the end. -ENOMEM. */
int hf_log_format_line(struct hf_buf *out, uint64_t realtime_ns, const char *name, pid_t pid,
		       enum hf_log_level level, const char *text,
		       const struct hf_log_field *fields);

/* What a line of hf_log_format_line() says, cut up in place. */
struct hf_log_line {
	enum hf_log_level level;
	char *text;
	char *cause; /* of a last field cause=word, which is then no part of the text; or NULL */
};

/* A line of any other form is a text with level warn: somebody wrote past the log. */
void hf_log_parse_line(char *line, struct hf_log_line *ret);

/* One datagram of the journal's native protocol. -ENOMEM. */
int hf_log_format_journal(struct hf_buf *out, const char *name, enum hf_log_level level,
			  const char *text, const struct hf_log_field *fields);

/* Sends to this socket path from now on; NULL: to stderr. */
void hf_log_use_journal(const char *socket_path);
