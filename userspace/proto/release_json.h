/* SPDX-License-Identifier: Apache-2.0 */
/* `holdfast release … --json`. Silent, any thread, no state. */
#pragma once

#include <jansson.h>

#include "bus.pb-c.h"

/* New references; NULL on ENOMEM. */
json_t *hf_releases_json(const Bus__Releases *m);
json_t *hf_release_json(const Bus__Release *r);
