/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An error a person reads: status and a sentence, extended from the outside in ("load policy: open
 * 'x': No such file"). For tools and configuration; daemons' inner functions return -errno.
 */
#pragma once

#include <stdbool.h>

#define HF_ERR_MSG_MAX 512

struct hf_err {
	int code; /* 0 or -errno */
	char msg[HF_ERR_MSG_MAX];
};

/* Sets the error and returns code. err may be NULL. */
int hf_err_set(struct hf_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Prefixes "<context>: ". Returns err->code. */
int hf_err_wrap(struct hf_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__
/* The analyzer looks into no other file: tell it that the code comes back. */
#define hf_err_set(err, code, ...)                             \
	({                                                     \
		int _code = (code);                            \
		(void)(hf_err_set)((err), _code, __VA_ARGS__); \
		_code;                                         \
	})
#endif
