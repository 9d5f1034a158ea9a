/* SPDX-License-Identifier: Apache-2.0 */
/* The cause table's look-ups. */
#include "holdfast/cause.h"

#include <stddef.h>

#include "base/assert.h"
#include "base/str.h"

static const struct {
	const char *name;
	const char *text;
	enum hf_cause_side side;
} causes[] = {
#define X(id, name_, side_, text_) [HF_CAUSE_##id] = {name_, text_, HF_SIDE_##side_},
	HF_CAUSE_TABLE(X)
#undef X
};

const char *hf_cause_name(enum hf_cause c)
{
	hf_assert(c < _HF_CAUSE_MAX);
	return causes[c].name;
}

const char *hf_cause_text(enum hf_cause c)
{
	hf_assert(c < _HF_CAUSE_MAX);
	return causes[c].text;
}

enum hf_cause_side hf_cause_side(enum hf_cause c)
{
	hf_assert(c < _HF_CAUSE_MAX);
	return causes[c].side;
}

enum hf_cause hf_cause_from_name(const char *name)
{
	for (unsigned c = 0; name && c < _HF_CAUSE_MAX; c++) {
		if (hf_streq(causes[c].name, name))
			return (enum hf_cause)c;
	}
	return HF_CAUSE_UNKNOWN;
}
