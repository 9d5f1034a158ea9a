/* SPDX-License-Identifier: Apache-2.0 */
/* A scan without a watchdog: holdfast-scan as a child of ours, with our own rights. */
#pragma once

#include <stdbool.h>

#include "base/str.h"
#include "tools/ctl/ctl.h"

struct hf_scan_wish {
	const char *checks; /* NULL: all */
	const char *const *paths;
	size_t paths_n;
	bool accept;
};

/*
 * Runs it to its end; progress is called for each of its frames, *stop asks it to stop. 0 with the
 * result's text in out, -ECANCELED, or -errno with one line in why.
 */
int hf_scan_local(const struct hf_ctl *c, const struct hf_scan_wish *w, const volatile int *stop,
		  void (*progress)(void *userdata, unsigned percent, const char *text),
		  void *userdata, struct hf_buf *out, char why[static 256]);
