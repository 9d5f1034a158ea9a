/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound ownership. An owner is declared with one of these attributes and leaves the scope
 * only through TAKE_PTR/TAKE_FD, so that one function can be judged without opening its callees.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Defines f##p(T *) for use with _cleanup_(); f takes NULL and returns NULL. */
#define HF_DEFINE_CLEANUP(type, f)       \
	static inline void f##p(type *p) \
	{                                \
		if (*p)                  \
			f(*p);           \
	}                                \
	struct hf_swallow_semicolon

static inline void hf_freep(void *p)
{
	free(*(void **)p);
}

static inline void hf_fclosep(FILE **f)
{
	if (*f)
		(void)fclose(*f);
}

void hf_closep(int *fd);

#define _cleanup_free_   _cleanup_(hf_freep)
#define _cleanup_close_  _cleanup_(hf_closep)
#define _cleanup_fclose_ _cleanup_(hf_fclosep)

#define TAKE_PTR(p)                        \
	({                                 \
		__typeof__(p) *_pp = &(p); \
		__typeof__(p) _p = *_pp;   \
		*_pp = NULL;               \
		_p;                        \
	})

#define TAKE_FD(fd)                \
	({                         \
		int *_fdp = &(fd); \
		int _fd = *_fdp;   \
		*_fdp = -1;        \
		_fd;               \
	})

#define HF_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
