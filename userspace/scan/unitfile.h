/* SPDX-License-Identifier: Apache-2.0 */
/* What a line of a unit file runs or reads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The absolute path in an Exec…= or EnvironmentFile= line; false: there is none to judge. */
bool hf_unit_path(const char *line, char *dst, size_t size);
