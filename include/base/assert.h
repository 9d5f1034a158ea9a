/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hf_assert() is for our own bugs and is always compiled in: a supervisor restarts us. What the
 * kernel, a peer, the disk, the clock or a configuration says is never asserted.
 */
#pragma once

#include <stddef.h>

_Noreturn void hf_assert_failed(const char *expr, const char *file, int line, const char *func);

#define hf_assert(expr)                                                        \
	do {                                                                   \
		if (__builtin_expect(!(expr), 0))                              \
			hf_assert_failed(#expr, __FILE__, __LINE__, __func__); \
	} while (0)

/*
 * Recovers an object from a callback's void pointer and checks its magic, the object's first
 * member: `struct hf_x *x = HF_CAST(userdata, struct hf_x, HF_X_MAGIC);`
 */
#define HF_CAST(ptr, type, magic_value)                      \
	({                                                   \
		type *_o = (ptr);                            \
		hf_assert(_o && _o->magic == (magic_value)); \
		_o;                                          \
	})
