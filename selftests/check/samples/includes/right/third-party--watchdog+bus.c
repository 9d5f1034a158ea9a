/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include <nng/nng.h>
#include <systemd/sd-event.h>

#include "bus.pb-c.h"
