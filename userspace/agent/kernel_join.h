/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joins the end of a connection with the end of the process that owned it: "because pid 812 'nginx'
 * was killed by SIGKILL from pid 77 'kill' 3 ms before". The kernel tells an exit before it closes
 * the process's descriptors, so looking back is enough. The other side of a connection on the same
 * host is joined as well, by the reversed pair of addresses.
 *
 * Memory is fixed: two direct-mapped tables. A collision forgets the older entry: then an event
 * goes without its cause, never with a wrong one (identity is compared whole). Pure, silent.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bus.pb-c.h"

struct hf_join;

struct hf_join *hf_join_new(void); /* NULL: no memory */
struct hf_join *hf_join_free(struct hf_join *j);

/* An exit this long before an end of a connection has nothing to do with it. */
#define HF_JOIN_WINDOW_NS UINT64_C(5000000000)

#define HF_JOIN_TEXT_MAX  160

/*
 * Remembers exits, and fills dst with the cause of an end of a connection; dst is "" if there is
 * none. Events come in the order in which they were read.
 */
void hf_join_event(struct hf_join *j, const Bus__Event *e, char dst[static HF_JOIN_TEXT_MAX]);
