/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, options, JSON lines, points in time. */
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "userspace/proto/event_json.h"

static void complain(const char *fmt, va_list ap)
{
	_cleanup_free_ char *safe = NULL;
	char text[1024];

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	safe = hf_term_safe(text);
	(void)fflush(stdout);
	(void)fprintf(stderr, "holdfast: %s\n", safe);
}

int hf_ctl_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	return code;
}

int hf_ctl_usage(const char *usage, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "usage: holdfast %s\n", usage);
	return HF_CTL_USAGE;
}

/* The option that arg is; *ret_value points behind '=' or is NULL. */
static const struct hf_ctl_option *find_option(const struct hf_ctl_option *options, size_t n,
					       const char *arg, const char **ret_value)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(options[i].name);

		if (strncmp(arg, options[i].name, len) != 0)
			continue;
		if (arg[len] == '\0' || (arg[len] == '=' && !options[i].flag)) {
			*ret_value = arg[len] ? arg + len + 1 : NULL;
			return &options[i];
		}
	}
	return NULL;
}

int hf_ctl_parse(struct hf_ctl *c, int argc, char **argv, const char *usage,
		 const struct hf_ctl_option *options, size_t n_options, const char **words,
		 size_t max_words, size_t *ret_words)
{
	bool only_words = false;
	size_t n = 0;

	for (int i = 1; i < argc; i++) {
		const struct hf_ctl_option *o;
		const char *value = NULL;

		/* A lone "-" is a word: standard input. */
		if (only_words || argv[i][0] != '-' || argv[i][1] == '\0') {
			if (n == max_words)
				return hf_ctl_usage(usage, "%s: '%s' is one word too many", argv[0],
						    argv[i]);
			words[n++] = argv[i];
			continue;
		}
		if (hf_streq(argv[i], "--")) {
			only_words = true;
			continue;
		}
		if (hf_streq(argv[i], "--json")) {
			c->json = true;
			continue;
		}
		o = find_option(options, n_options, argv[i], &value);
		if (!o)
			return hf_ctl_usage(usage, "%s: no option '%s'", argv[0], argv[i]);
		if (o->flag) {
			*o->flag = true;
			continue;
		}
		if (!value && i + 1 < argc)
			value = argv[++i];
		if (!value)
			return hf_ctl_usage(usage, "%s: %s needs a value", argv[0], o->name);
		if (o->value) {
			*o->value = value;
		} else {
			if (*o->list_n == o->list_max)
				return hf_ctl_usage(usage, "%s: too many of %s", argv[0], o->name);
			o->list[(*o->list_n)++] = value;
		}
	}
	if (ret_words)
		*ret_words = n;
	return 0;
}

int hf_ctl_print_json(json_t *v)
{
	/* ASCII, since C1 controls in UTF-8 would reach a terminal otherwise. */
	_cleanup_free_ char *text = v ? json_dumps(v, HF_JSON_FLAGS | JSON_ENSURE_ASCII) : NULL;

	json_decref(v);
	if (!text)
		return hf_ctl_fail(HF_CTL_BAD_NEWS,
				   "out of memory; try again when the host has some");
	(void)puts(text);
	return HF_CTL_OK;
}

static int local_time(struct tm *tm, uint64_t *ret_ns)
{
	time_t t;

	tm->tm_isdst = -1;
	t = mktime(tm);
	if (t < 0)
		return -EINVAL;
	*ret_ns = (uint64_t)t * HF_NS_PER_S;
	return 0;
}

int hf_ctl_parse_since(const char *text, uint64_t now_ns, uint64_t *ret_ns)
{
	static const char *const of_day[] = {"%H:%M:%S", "%H:%M"};
	static const char *const dates[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"};
	time_t now = (time_t)(now_ns / HF_NS_PER_S);
	uint64_t ms, ago_ns;
	struct tm tm = {};
	const char *end;

	if (hf_parse_rfc3339(text, ret_ns) == 0)
		return 0;
	if (hf_parse_duration_ms(text, &ms) == 0) {
		/* Longer ago than the epoch is "everything". */
		if (__builtin_mul_overflow(ms, HF_NS_PER_MS, &ago_ns) || ago_ns > now_ns)
			ago_ns = now_ns;
		*ret_ns = now_ns - ago_ns;
		return 0;
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(of_day); i++) {
		if (!localtime_r(&now, &tm))
			return -EINVAL;
		tm.tm_sec = 0;
		end = strptime(text, of_day[i], &tm);
		if (end && !*end)
			return local_time(&tm, ret_ns);
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(dates); i++) {
		tm = (struct tm){};
		end = strptime(text, dates[i], &tm);
		if (end && !*end)
			return local_time(&tm, ret_ns);
	}
	return -EINVAL;
}
