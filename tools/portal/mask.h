/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes secrets out of a configuration that an agent reported (YAML, JSON, INI, environment files),
 * before it is stored or shown. Pure; works on text it does not parse, so it rather masks too much:
 * the value of a key whose name says secret, a URL's user information, a private key in PEM.
 */
#pragma once

#include <stddef.h>

#include "base/str.h"

/* Appends the masked text to out. *ret: how many values were replaced by ***. -ENOMEM. */
int hf_mask_config(const char *text, size_t len, struct hf_buf *out, unsigned *ret);
