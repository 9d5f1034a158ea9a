/* SPDX-License-Identifier: Apache-2.0 */
/* One configuration value: from text, to text, compared. Private to the config module. */
#pragma once

#include "base/config.h"

/* The value from a scalar's text; not for lists. -EINVAL (value untouched), -ENOMEM. */
int hf_config_value_set(const struct hf_config_entry *e, void *cfg, const char *text);
/* One more item of a list. -EINVAL, -E2BIG (already at max), -ENOMEM. */
int hf_config_value_append(const struct hf_config_entry *e, void *cfg, const char *text);
/* Frees the value and makes it zero. */
void hf_config_value_clear(const struct hf_config_entry *e, void *cfg);
int hf_config_value_default(const struct hf_config_entry *e, void *cfg);

/* What text was refused for: "a number of seconds from 5 to 300". text may be NULL. */
void hf_config_value_expected(const struct hf_config_entry *e, const char *text, char *dst,
			      size_t size);
/* The value as YAML on one line. -ENOMEM. */
int hf_config_value_print(const struct hf_config_entry *e, const void *cfg, struct hf_buf *out);
bool hf_config_value_equal(const struct hf_config_entry *e, const void *a, const void *b);

/* The bound in force where the table says 0. */
uint64_t hf_config_value_max(const struct hf_config_entry *e);
