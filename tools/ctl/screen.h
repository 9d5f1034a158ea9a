/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live screen on a terminal: alternate screen, keys without Enter, size. Whatever ends the
 * program but SIGKILL leaves the terminal as it was.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/ctl/term.h"

/* One per process. keys: standard input is a terminal, so that they can be read. */
void hf_screen_open(const struct hf_term *t);
/* Idempotent. */
void hf_screen_close(void);

/* Rows of the terminal; 24 when it does not say. */
unsigned hf_screen_rows(const struct hf_term *t);
/* Shows text from the top (whole lines, cut to the rows there are), and footer on the last row. */
void hf_screen_draw(const struct hf_term *t, const char *text, const char *footer);

enum {
	HF_SCREEN_TIMEOUT = 0,
	HF_SCREEN_RESIZED = -1,
	HF_SCREEN_ENDED = -2, /* a signal asks us to end, or the terminal is gone */
};
/* Waits for a key at most until that time (monotonic). A character, or one of the above. */
int hf_screen_key(uint64_t until_ns);
/* A signal asked us to end. */
bool hf_screen_ended(void);
