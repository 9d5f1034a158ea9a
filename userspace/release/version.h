/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions of releases: Semantic Versioning 2.0.0, with caps. `1.2.3`, `1.3.0-rc.1`, `1.2.3+build5`.
 * A version is also a part of a directory's name, so its characters are [0-9A-Za-z.+-] only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HF_VERSION_MAX 48 /* with NUL */

bool hf_version_valid(const char *s);
/* Precedence of two valid versions: < 0, 0, > 0. Build metadata does not count. */
int hf_version_compare(const char *a, const char *b);
