/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes secrets out of text that leaves the host: private keys (PEM, also when the text begins
 * within one), Authorization and Cookie headers, values of keys that are called token, password,
 * secret and the like, passwords in URLs, our own tokens, JSON web tokens.
 */
#pragma once

#include "base/str.h"

#define HF_REDACTED "[redacted]"

/* Appends the text without them. How many there were, or -ENOMEM. */
long hf_redact(const char *text, size_t len, struct hf_buf *out);
