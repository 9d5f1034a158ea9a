/* SPDX-License-Identifier: Apache-2.0 */
/* What config.yml says about telemetry as what the kernel is told. Pure. */
#pragma once

#include "holdfast/config.h"
#include "watchdog/kernel_filter.h"

/* The lists in *ret are cfg's: they live as long as it does. */
void hf_policy_from_config(const struct hf_config *cfg, struct hf_kernel_filter *ret);
