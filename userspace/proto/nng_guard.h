/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps nng's ipc listener alive. In nng before 1.6 (Debian 12 has 1.5.2) a caller that is gone
 * before the listener greeted it ends the listener: EPIPE of that greeting is taken for the
 * listener's own end, and nobody can connect any more. A caller that gave up while we were stopped
 * or starved does this, and so does anybody who only connects and closes.
 */
#pragma once

/*
 * Called once by whoever listens. The work is done by being linked: the program then has a
 * sendmsg() that says ECONNRESET instead of EPIPE, which nng takes for the peer's end. The linker
 * exports it by itself, because a library on its line (nng) asks for it.
 */
void hf_nng_guard(void);
