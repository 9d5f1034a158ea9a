/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "selftests/unit/test_util.h"

#include "userspace/agent/supervise.h"
#include "gen.skel.h"
