/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mend for nng 1.5 (Debian 12), for every program that listens with it: a caller that connects
 * and hangs up before nng has sent its greeting makes that send fail with EPIPE, nng takes this for
 * "I was closed", and the listener never accepts again. Any local user could so silence the bus.
 *
 * The program calls hf_nng_guard() once before it listens. It does nothing by itself: it brings in
 * our sendmsg(), which libnng then uses, and which says ECONNRESET for EPIPE; to that nng answers
 * by accepting the next caller. Newer nng does not need it and is not harmed.
 */
#pragma once

void hf_nng_guard(void);
