/* SPDX-License-Identifier: Apache-2.0 */
/* A line of /proc/modules. */
#pragma once

#include <stdbool.h>

#define HF_MODULE_NAME_MAX 64u /* MODULE_NAME_LEN is 56 on 64-bit hosts */

/* taint is "" for a module without flags. */
bool hf_module_parse(const char *line, char name[static HF_MODULE_NAME_MAX], char taint[static 16]);
