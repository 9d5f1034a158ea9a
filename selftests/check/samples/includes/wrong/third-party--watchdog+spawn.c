/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "watchdog/spawn.h"

#include <nng/nng.h>
