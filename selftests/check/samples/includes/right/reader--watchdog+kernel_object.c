/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "watchdog/kernel_load.h"

#include <bpf/libbpf.h>

#include "holdfast/kernel_policy.h"
#include "holdfast.skel.h"
