/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a process that found a bug in itself: one line on stderr, then abort(), so that the
 * supervisor sees SIGABRT and a core dump shows the place. No allocation, no lock, no logging
 * module: any of them may be what is broken.
 */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void hf_assert_failed(const char *expr, const char *file, int line, const char *func)
{
	char msg[512];
	int n = snprintf(msg, sizeof(msg), "assertion failed: %s (%s:%d, %s)\n", expr, file, line,
			 func);

	if (n > 0) {
		size_t len = (size_t)n < sizeof(msg) ? (size_t)n : sizeof(msg) - 1;

		/* Nothing is left to do if stderr is gone. */
		if (write(STDERR_FILENO, msg, len) < 0)
			abort();
	}
	abort();
}
