/* SPDX-License-Identifier: Apache-2.0 */
/* What was found, capped, and JSON of strings that may be no text at all. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum hf_severity {
	HF_SEVERITY_INFO,
	HF_SEVERITY_LOW,
	HF_SEVERITY_MEDIUM,
	HF_SEVERITY_HIGH,
	HF_SEVERITY_CRITICAL,
	_HF_SEVERITY_MAX,
};

/* "info" … */
const char *hf_severity_name(unsigned severity);

struct hf_finding {
	enum hf_severity severity;
	unsigned check;
	const char *id;  /* a constant: "setuid.unpackaged" */
	const char *fix; /* a constant */
	char *path;      /* any bytes but NUL and, as the kernel has it */
	char *evidence;
};

/* More from one check are a flood: counted, and only worse ones take a place. */
#define HF_FINDINGS_PER_CHECK 500u

struct hf_findings {
	struct hf_finding *items;
	size_t n, cap;
	uint64_t total[_HF_SEVERITY_MAX]; /* found, kept or not */
	uint64_t dropped;
};

/* Copies path and evidence. Out of memory: counted as dropped. */
void hf_findings_add(struct hf_findings *f, const struct hf_finding *finding);
/* The worst first, within that by check and path. */
void hf_findings_sort(struct hf_findings *f);
void hf_findings_done(struct hf_findings *f);

/*
 * Appends s as a JSON string. What is not UTF-8 comes as \xHH in the text (so as "\\xHH"); false is
 * returned then.
 */
bool hf_findings_json_string(struct hf_buf *out, const char *s);
