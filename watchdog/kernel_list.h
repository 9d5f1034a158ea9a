/* SPDX-License-Identifier: Apache-2.0 */
/* All BPF programs that the kernel has loaded, whoever's they are. */
#pragma once

#include "base/str.h"

/*
 * Appends one line per program as userspace/scan/bpflist.h wants it: id, type, name, uid of who
 * loaded it, 1 when it is held by us. -EPERM: only CAP_SYS_ADMIN may ask.
 */
int hf_kernel_list(struct hf_buf *out);
