/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging. A function is either logging or silent, and no failure is logged twice: base/, net/,
 * proto/ are silent (debug only); main, agent, watchdog and portal modules log once, saying what
 * failed, the object in 'quotes', and the error.
 *
 * Where it goes: the journal's native socket when stderr is the journal (fields kept apart), else
 * stderr as `2026-01-02T03:04:05.123Z name[pid] level: text key=value`. Thread-safe.
 */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

enum hf_log_level {
	HF_LOG_ERROR = 3, /* syslog severities */
	HF_LOG_WARN = 4,
	HF_LOG_NOTICE = 5,
	HF_LOG_INFO = 6,
	HF_LOG_DEBUG = 7,
};

/*
 * Journal fields of an event, for machines; a NULL key ends the list. Keys: A-Z, 0-9, '_'. On stderr
 * they follow the text as key=value, in lower case and without our prefix HOLDFAST_.
 */
struct hf_log_field {
	const char *key;
	const char *value;
};

/* name is borrowed for the life of the process. Reads HOLDFAST_LOG=error|warn|notice|info|debug. */
void hf_log_init(const char *name);
void hf_log_set_level(enum hf_log_level level);
enum hf_log_level hf_log_level(void);
int hf_log_level_from_name(const char *name);

void hf_log(enum hf_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hf_logv(enum hf_log_level level, const struct hf_log_field *fields, const char *fmt,
	     va_list ap) __attribute__((format(printf, 3, 0)));
void hf_log_fields(enum hf_log_level level, const struct hf_log_field *fields, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Appends ": <text of -r>" and returns r. r is evaluated before anything can change errno. */
int hf_log_r(enum hf_log_level level, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* The analyzer looks into no other file: tell it that r comes back. */
#define hf_log_r(level, r, ...)                             \
	({                                                  \
		int _r = (r);                               \
		(void)(hf_log_r)((level), _r, __VA_ARGS__); \
		_r;                                         \
	})
#endif

#define hf_error(...)  hf_log(HF_LOG_ERROR, __VA_ARGS__)
#define hf_warn(...)   hf_log(HF_LOG_WARN, __VA_ARGS__)
#define hf_notice(...) hf_log(HF_LOG_NOTICE, __VA_ARGS__)
#define hf_info(...)   hf_log(HF_LOG_INFO, __VA_ARGS__)
#define hf_debug(...)                                      \
	do {                                               \
		if (hf_log_level() >= HF_LOG_DEBUG)        \
			hf_log(HF_LOG_DEBUG, __VA_ARGS__); \
	} while (0)
#define hf_error_r(r, ...) hf_log_r(HF_LOG_ERROR, (r), __VA_ARGS__)
#define hf_warn_r(r, ...)  hf_log_r(HF_LOG_WARN, (r), __VA_ARGS__)

/* Whose line it is that we pass on. */
struct hf_log_origin {
	const char *name; /* of its program; not what the line says, which is not to be trusted */
	pid_t pid;        /* 0: it has ended */
	uid_t uid;
	gid_t gid;
	const struct hf_log_field *fields; /* as for hf_log_fields() */
};

/*
 * A line that another process wrote to a stderr we read, without '\n'. To the journal it goes taken
 * apart, with the level, text and cause it names, as a message of that process (as root; of ours
 * when it has ended). To stderr it goes as it is.
 */
void hf_log_pass_on(const struct hf_log_origin *o, const char *line, size_t len);

/* Out of memory, the one error whose text is always the same. Returns -ENOMEM. */
int hf_log_oom(void);
