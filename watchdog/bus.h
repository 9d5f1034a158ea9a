/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog's end of the local bus: REQ/REP on watchdog.sock. The only file with nng and
 * protobuf-c in it. Root may do everything, a component's user may read, everybody else gets a
 * Response with EPERM and one clear line.
 */
#pragma once

#include "base/cleanup.h"
#include "watchdog/watchdog.h"

int hf_bus_new(struct hf_watchdog *w, struct hf_bus **ret);
/* Takes NULL, returns NULL. Removes the socket's file. */
struct hf_bus *hf_bus_free(struct hf_bus *b);
HF_DEFINE_CLEANUP(struct hf_bus *, hf_bus_free);
