/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "watchdog/bus.h"

#include <nng/nng.h>
#include <systemd/sd-event.h>

#include "bus.pb-c.h"
