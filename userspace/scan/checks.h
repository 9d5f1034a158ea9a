/* SPDX-License-Identifier: Apache-2.0 */
/* The checks, one file each; see table.c. */
#pragma once

#include "userspace/scan/scan.h"

int hf_check_modules(struct hf_scan *s);
int hf_check_bpf(struct hf_scan *s);
int hf_check_executables(struct hf_scan *s);
int hf_check_listeners(struct hf_scan *s);
int hf_check_writable(struct hf_scan *s);
int hf_check_setuid(struct hf_scan *s);
int hf_check_packages(struct hf_scan *s);
int hf_check_baseline(struct hf_scan *s);
