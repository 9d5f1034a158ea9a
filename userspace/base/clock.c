/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading clocks, and times as text. Text is always UTC and never depends on the locale or TZ.
 * The civil calendar is computed here, because timegm() accepts a 31st of February.
 */
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/str.h"

static uint64_t now_ns(clockid_t id)
{
	struct timespec ts;

	/* Linux has had these three clocks since 2.6.39: a failure is our bug. */
	hf_assert(clock_gettime(id, &ts) == 0);
	if (ts.tv_sec < 0)
		return 0; /* a wall clock set before 1970 */
	return (uint64_t)ts.tv_sec * HF_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t hf_now_monotonic_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

uint64_t hf_now_boottime_ns(void)
{
	return now_ns(CLOCK_BOOTTIME);
}

uint64_t hf_now_realtime_ns(void)
{
	return now_ns(CLOCK_REALTIME);
}

uint64_t hf_boottime_to_realtime_ns(uint64_t boot_ns)
{
	uint64_t real = hf_now_realtime_ns();
	uint64_t boot = hf_now_boottime_ns();

	if (boot_ns >= boot)
		return real + (boot_ns - boot);
	return boot - boot_ns < real ? real - (boot - boot_ns) : 0;
}

void hf_format_rfc3339(uint64_t realtime_ns, char dst[static HF_RFC3339_SIZE])
{
	time_t s = (time_t)(realtime_ns / HF_NS_PER_S);
	char text[64]; /* wider than any value needs, which the compiler cannot know */
	struct tm tm;

	/* 2^64 ns end in the year 2554, so that four digits hold and gmtime_r cannot fail. */
	hf_assert(gmtime_r(&s, &tm));
	(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09" PRIu64 "Z",
		       tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		       tm.tm_sec, realtime_ns % HF_NS_PER_S);
	(void)hf_strlcpy(dst, text, HF_RFC3339_SIZE);
}

static bool take_digits(const char **p, unsigned n, unsigned *ret)
{
	unsigned v = 0;

	for (unsigned i = 0; i < n; i++, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		v = v * 10 + (unsigned)(**p - '0');
	}
	*ret = v;
	return true;
}

static bool take_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

static bool leap_year(unsigned y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

static unsigned days_in_month(unsigned y, unsigned m)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return m == 2 && leap_year(y) ? 29 : days[m - 1];
}

/* Days from 1970-01-01; y >= 1970. */
static uint64_t days_since_epoch(unsigned y, unsigned m, unsigned d)
{
	uint64_t days = 0;

	for (unsigned i = 1970; i < y; i++)
		days += leap_year(i) ? 366 : 365;
	for (unsigned i = 1; i < m; i++)
		days += days_in_month(y, i);
	return days + d - 1;
}

static bool take_fraction(const char **p, uint64_t *ret_ns)
{
	uint64_t ns = 0, unit = HF_NS_PER_S;
	unsigned digit, n = 0;

	if (!take_char(p, '.')) {
		*ret_ns = 0;
		return true;
	}
	while (**p >= '0' && **p <= '9') {
		if (++n > 9 || !take_digits(p, 1, &digit))
			return false;
		unit /= 10;
		ns += digit * unit;
	}
	*ret_ns = ns;
	return n > 0;
}

static bool take_offset(const char **p, int64_t *ret_s)
{
	unsigned h, m;
	int64_t sign;

	if (take_char(p, 'Z') || take_char(p, 'z')) {
		*ret_s = 0;
		return true;
	}
	if (take_char(p, '+'))
		sign = 1;
	else if (take_char(p, '-'))
		sign = -1;
	else
		return false;
	if (!take_digits(p, 2, &h) || !take_char(p, ':') || !take_digits(p, 2, &m) || h > 23 ||
	    m > 59)
		return false;
	*ret_s = sign * (int64_t)(h * 3600 + m * 60);
	return true;
}

int hf_parse_rfc3339(const char *s, uint64_t *ret_realtime_ns)
{
	unsigned year, month, day, hour, min, sec;
	uint64_t fraction_ns, ns;
	int64_t offset_s, t;
	const char *p = s;

	if (!take_digits(&p, 4, &year) || !take_char(&p, '-') || !take_digits(&p, 2, &month) ||
	    !take_char(&p, '-') || !take_digits(&p, 2, &day))
		return -EINVAL;
	if (!take_char(&p, 'T') && !take_char(&p, 't') && !take_char(&p, ' '))
		return -EINVAL;
	if (!take_digits(&p, 2, &hour) || !take_char(&p, ':') || !take_digits(&p, 2, &min) ||
	    !take_char(&p, ':') || !take_digits(&p, 2, &sec))
		return -EINVAL;
	if (!take_fraction(&p, &fraction_ns) || !take_offset(&p, &offset_s) || *p)
		return -EINVAL;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
		return -EINVAL;
	/* 60 is a leap second; it reads as the first second of the next minute. */
	if (hour > 23 || min > 59 || sec > 60)
		return -EINVAL;

	t = (int64_t)(days_since_epoch(year, month, day) * 86400 + hour * 3600 + min * 60 + sec);
	t -= offset_s;
	if (t < 0 || __builtin_mul_overflow((uint64_t)t, HF_NS_PER_S, &ns) ||
	    __builtin_add_overflow(ns, fraction_ns, &ns))
		return -EINVAL;
	*ret_realtime_ns = ns;
	return 0;
}

void hf_format_duration(uint64_t ns, char *dst, size_t size)
{
	uint64_t s = ns / HF_NS_PER_S;
	uint64_t tenth = ns / (HF_NS_PER_S / 10) % 10;

	/* Rounded down everywhere: "1 min 60 s" cannot happen, and no deadline looks met early. */
	if (s >= 86400)
		(void)hf_strf(dst, size, "%" PRIu64 " d %" PRIu64 " h", s / 86400,
			      s % 86400 / 3600);
	else if (s >= 3600)
		(void)hf_strf(dst, size, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
	else if (s >= 60)
		(void)hf_strf(dst, size, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s >= 10 || (s > 0 && tenth == 0))
		(void)hf_strf(dst, size, "%" PRIu64 " s", s);
	else if (s > 0)
		(void)hf_strf(dst, size, "%" PRIu64 ".%" PRIu64 " s", s, tenth);
	else if (ns >= HF_NS_PER_MS)
		(void)hf_strf(dst, size, "%" PRIu64 " ms", ns / HF_NS_PER_MS);
	else if (ns >= HF_NS_PER_US)
		(void)hf_strf(dst, size, "%" PRIu64 " µs", ns / HF_NS_PER_US);
	else if (ns > 0)
		(void)hf_strf(dst, size, "%" PRIu64 " ns", ns);
	else
		(void)hf_strf(dst, size, "0 s");
}

int hf_boot_id(uint8_t ret[static 16])
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	r = hf_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &len);
	if (r < 0)
		return r;
	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = '\0';
	return hf_uuid_parse(text, ret);
}
