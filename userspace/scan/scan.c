/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan as a whole: its checks in order, its share of the processor, its progress and its result.
 *
 * I1. Time between two ticks is short (a file, 64 KiB, a process), so that a cancel is obeyed and a
 *     share of the processor kept at any moment.
 * I2. A check that cannot look says so in its state; it never looks like one that found nothing.
 */
#include "userspace/scan/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "holdfast/worker.h"

/* Ticks between two looks at the clocks: two system calls for a thousandth of a second of work. */
#define TICKS_PER_LOOK 16u
/* Four frames a second are plenty for people, and far below what ends a worker. */
#define PROGRESS_NS (250 * HF_NS_PER_MS)
/* An average over a second: what was not used before is not saved up. */
#define WINDOW_NS    HF_NS_PER_S
#define SLEEP_MIN_NS (10 * HF_NS_PER_MS)
#define SLEEP_MAX_NS (100 * HF_NS_PER_MS)
/* Room for what comes after the findings. */
#define SUMMARY_MAX 16384u

static const char *const result_names[] = {
	[HF_CHECK_NOT_WANTED] = "not_wanted", [HF_CHECK_DONE] = "done",
	[HF_CHECK_PARTIAL] = "partial",       [HF_CHECK_NOT_CHECKED] = "not_checked",
	[HF_CHECK_CANCELLED] = "cancelled",
};
_Static_assert(HF_ARRAY_SIZE(result_names) == _HF_CHECK_RESULT_MAX, "every result has a name");

/* ---- ticks --------------------------------------------------------------------------------------- */

static uint64_t cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * HF_NS_PER_S + (uint64_t)t.tv_nsec;
}

static bool is_cancelled(const struct hf_scan *s)
{
	return s->cancelled && *s->cancelled;
}

static void sleep_off(struct hf_scan *s, uint64_t now_ns)
{
	uint64_t used_ns, owed_ns, passed_ns = now_ns - s->window_ns;

	if (s->params.cpu_percent == 0 || s->params.cpu_percent >= 100)
		return;
	used_ns = cpu_ns() - s->window_cpu_ns;
	owed_ns = used_ns * 100 / s->params.cpu_percent;
	while (owed_ns > passed_ns + SLEEP_MIN_NS && !is_cancelled(s)) {
		uint64_t nap_ns = owed_ns - passed_ns;

		if (nap_ns > SLEEP_MAX_NS)
			nap_ns = SLEEP_MAX_NS;
		/* A signal ends it early, which is what it is for. */
		(void)nanosleep(&(struct timespec){.tv_nsec = (long)nap_ns}, NULL);
		passed_ns = hf_now_monotonic_ns() - s->window_ns;
	}
	if (passed_ns >= WINDOW_NS) {
		s->window_ns += passed_ns;
		s->window_cpu_ns = cpu_ns();
	}
}

static uint32_t percent(const struct hf_scan *s)
{
	double done = s->share_done + s->fraction * hf_checks[s->current].weight;

	return s->share_all ? (uint32_t)(done * 100 / s->share_all) : 0;
}

int hf_scan_tick(struct hf_scan *s, uint64_t units, const char *what)
{
	uint64_t now_ns;

	s->work += units;
	if (is_cancelled(s))
		return -ECANCELED;
	if (s->ticks++ % TICKS_PER_LOOK != 0)
		return 0;
	now_ns = hf_now_monotonic_ns();
	sleep_off(s, now_ns);
	if (s->progress < 0 || now_ns < s->progress_ns)
		return 0;
	s->progress_ns = now_ns + PROGRESS_NS;
	return hf_worker_send_progress(s->progress, percent(s), s->work, what) < 0 ? -EPIPE : 0;
}

void hf_scan_fraction(struct hf_scan *s, double fraction)
{
	s->fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
}

void hf_scan_fraction_of(struct hf_scan *s, uint64_t n, uint64_t expected)
{
	double x = expected ? (double)n / (double)expected : 1;

	/* Straight up to nine tenths, then ever slower. */
	hf_scan_fraction(s, x <= 1 ? 0.9 * x : 1 - 0.1 / x);
}

/* ---- what checks say ------------------------------------------------------------------------------ */

void hf_scan_found(struct hf_scan *s, enum hf_severity severity, const char *id, const char *path,
		   const char *fix, const char *evidence, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, evidence);
	(void)vsnprintf(text, sizeof(text), evidence, ap);
	va_end(ap);
	hf_findings_add(&s->findings, &(struct hf_finding){.severity = severity,
							   .check = (unsigned)s->current,
							   .id = id,
							   .fix = fix,
							   .path = (char *)path,
							   .evidence = text});
}

void hf_scan_not_checked(struct hf_scan *s, const char *fmt, ...)
{
	struct hf_check_state *c = &s->state[s->current];
	va_list ap;

	c->result = HF_CHECK_NOT_CHECKED;
	va_start(ap, fmt);
	(void)vsnprintf(c->note, sizeof(c->note), fmt, ap);
	va_end(ap);
}

void hf_scan_partial(struct hf_scan *s, const char *fmt, ...)
{
	struct hf_check_state *c = &s->state[s->current];
	va_list ap;

	if (c->result == HF_CHECK_NOT_CHECKED || c->result == HF_CHECK_PARTIAL)
		return; /* the first reason stands */
	c->result = HF_CHECK_PARTIAL;
	va_start(ap, fmt);
	(void)vsnprintf(c->note, sizeof(c->note), fmt, ap);
	va_end(ap);
}

/* ---- files ------------------------------------------------------------------------------------------ */

int hf_scan_open(const struct hf_scan *s, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	path += strspn(path, "/");
	if (!*path)
		path = ".";
	fd = (int)syscall(SYS_openat2, s->root, path, &how, sizeof(how));
	/* Before 5.6, or refused by an old container's filter: the root is "/" then anyway. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		fd = openat(s->root, path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int hf_scan_lstat(const struct hf_scan *s, const char *path, struct stat *ret)
{
	_cleanup_close_ int fd = hf_scan_open(s, path, O_PATH | O_NOFOLLOW);

	if (fd < 0)
		return fd;
	return fstat(fd, ret) < 0 ? -errno : 0;
}

int hf_scan_read(const struct hf_scan *s, const char *path, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = hf_scan_open(s, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	struct hf_buf b = {};
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	/* Files of /proc have no size: as much as comes. */
	do {
		int r = hf_buf_reserve(&b, 65536);

		n = r < 0 ? r : hf_read_full(fd, b.data + b.len, 65535);
		if (n > 0)
			b.len += (size_t)n;
	} while (n > 0 && b.len <= max);
	if (n < 0 || b.len > max) {
		hf_buf_done(&b);
		return n < 0 ? (int)n : -EFBIG;
	}
	b.data[b.len] = 0;
	*ret = (char *)b.data;
	*ret_len = b.len;
	return 0;
}

bool hf_path_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	if (n == 1)
		return true; /* "/" */
	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == 0);
}

bool hf_scan_excluded(const struct hf_scan *s, const char *path)
{
	for (size_t i = 0; i < s->params.exclude_n; i++)
		if (hf_path_below(path, s->params.exclude[i]))
			return true;
	return false;
}

/* ---- the whole ---------------------------------------------------------------------------------------- */

static bool wanted(const struct hf_scan *s, size_t i)
{
	if (!s->params.checks)
		return s->params.paths_n == 0 || hf_checks[i].files;
	return s->params.checks >> i & 1;
}

static int run_one(struct hf_scan *s)
{
	struct hf_check_state *c = &s->state[s->current];
	uint64_t begin_ns = hf_now_monotonic_ns();
	int r;

	c->result = HF_CHECK_DONE;
	s->fraction = 0;
	r = hf_checks[s->current].run(s);
	c->took_ns = hf_now_monotonic_ns() - begin_ns;
	if (r == -ECANCELED || r == -EPIPE) {
		c->result = HF_CHECK_CANCELLED;
		return r;
	}
	if (r < 0)
		hf_scan_not_checked(s, "%s", strerror(-r));
	else if (c->unreadable)
		hf_scan_partial(s, "%llu files or directories could not be read",
				(unsigned long long)c->unreadable);
	return 0;
}

int hf_scan_run(struct hf_scan *s)
{
	int r = 0;

	s->started_ns = s->window_ns = hf_now_monotonic_ns();
	s->window_cpu_ns = cpu_ns();
	for (size_t i = 0; i < hf_checks_n; i++)
		if (wanted(s, i))
			s->share_all += hf_checks[i].weight;
	for (size_t i = 0; i < hf_checks_n && r == 0; i++) {
		if (!wanted(s, i))
			continue;
		s->current = i;
		s->ticks = 0;
		r = hf_scan_tick(s, 1, hf_checks[i].title);
		if (r == 0)
			r = run_one(s);
		else
			s->state[i].result = HF_CHECK_CANCELLED;
		s->share_done += hf_checks[i].weight;
	}
	return r;
}

void hf_scan_done(struct hf_scan *s)
{
	hf_findings_done(&s->findings);
	hf_scan_params_done(&s->params);
}

/* ---- the result ---------------------------------------------------------------------------------------- */

static void append_finding(struct hf_buf *out, const struct hf_finding *f)
{
	_cleanup_free_ char *hex = NULL;

	(void)hf_buf_appendf(out,
			     "{\"id\":\"%s\",\"severity\":\"%s\",\"check\":\"%s\",\"path\":", f->id,
			     hf_severity_name(f->severity), hf_checks[f->check].id);
	if (!hf_findings_json_string(out, f->path)) {
		hex = malloc(2 * strlen(f->path) + 1);
		if (hex) {
			hf_hex_encode(hex, f->path, strlen(f->path));
			(void)hf_buf_appendf(out, ",\"path_hex\":\"%s\"", hex);
		}
	}
	(void)hf_buf_appendf(out, ",\"evidence\":");
	(void)hf_findings_json_string(out, f->evidence);
	(void)hf_buf_appendf(out, ",\"fix\":");
	(void)hf_findings_json_string(out, f->fix);
	(void)hf_buf_append(out, "}", 1);
}

static void append_check(const struct hf_scan *s, size_t i, struct hf_buf *out)
{
	const struct hf_check_state *c = &s->state[i];

	(void)hf_buf_appendf(out, "{\"id\":\"%s\",\"title\":\"%s\",\"result\":\"%s\"",
			     hf_checks[i].id, hf_checks[i].title, result_names[c->result]);
	if (*c->note) {
		(void)hf_buf_appendf(out, ",\"note\":");
		(void)hf_findings_json_string(out, c->note);
	}
	(void)hf_buf_appendf(out, ",\"looked_at\":%llu,\"unreadable\":%llu,\"took_ms\":%llu}",
			     (unsigned long long)c->looked_at, (unsigned long long)c->unreadable,
			     (unsigned long long)(c->took_ns / HF_NS_PER_MS));
}

/* getrusage() would count what we were before exec, too. */
static uint64_t memory_peak(void)
{
	_cleanup_free_ char *status = NULL;
	const char *p;
	size_t len;

	if (hf_read_file(AT_FDCWD, "/proc/self/status", 65536, &status, &len) < 0)
		return 0;
	p = strstr(status, "\nVmHWM:");
	return p ? strtoull(p + strlen("\nVmHWM:"), NULL, 10) * 1024 : 0;
}

static void append_summary(struct hf_scan *s, uint64_t left_out, struct hf_buf *out)
{
	bool first = true, cancelled = false;

	(void)hf_buf_appendf(out, "],\"summary\":{\"severities\":{");
	for (unsigned i = 0; i < _HF_SEVERITY_MAX; i++)
		(void)hf_buf_appendf(out, "%s\"%s\":%llu", i ? "," : "", hf_severity_name(i),
				     (unsigned long long)s->findings.total[i]);
	(void)hf_buf_appendf(out, "},\"left_out\":%llu,\"checks\":[", (unsigned long long)left_out);
	for (size_t i = 0; i < hf_checks_n; i++) {
		if (s->state[i].result == HF_CHECK_NOT_WANTED)
			continue;
		cancelled |= s->state[i].result == HF_CHECK_CANCELLED;
		if (!first)
			(void)hf_buf_append(out, ",", 1);
		first = false;
		append_check(s, i, out);
	}
	(void)hf_buf_appendf(
		out,
		"],\"baseline\":\"%s\",\"cancelled\":%s,\"files\":%llu,\"bytes\":%llu,"
		"\"duration_ms\":%llu,\"cpu_ms\":%llu,\"memory_peak_bytes\":%llu}}\n",
		s->baseline_word ? s->baseline_word : "not_compared", cancelled ? "true" : "false",
		(unsigned long long)s->files, (unsigned long long)s->bytes,
		(unsigned long long)((hf_now_monotonic_ns() - s->started_ns) / HF_NS_PER_MS),
		(unsigned long long)(cpu_ns() / HF_NS_PER_MS), (unsigned long long)memory_peak());
}

int hf_scan_result(struct hf_scan *s, size_t max, struct hf_buf *out)
{
	uint64_t left_out = s->findings.dropped;
	size_t i;

	hf_findings_sort(&s->findings);
	(void)hf_buf_appendf(out, "{\"findings\":[");
	for (i = 0; i < s->findings.n; i++) {
		size_t before = out->len;

		if (i > 0)
			(void)hf_buf_append(out, ",", 1);
		append_finding(out, &s->findings.items[i]);
		if (out->len + SUMMARY_MAX > max) {
			out->len = before;
			break;
		}
	}
	left_out += s->findings.n - i;
	append_summary(s, left_out, out);
	return out->data && out->len <= max && out->data[out->len - 1] == '\n' ? 0 : -ENOMEM;
}
