/* SPDX-License-Identifier: Apache-2.0 */
/* What is made ready before a start, and what status says of a running process. */
#include "watchdog/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

void hf_confine_add_writable(struct hf_confine *c, const char *path)
{
	hf_assert(c->writables < HF_CONFINE_WRITABLE_MAX);
	c->writable[c->writables++] = path;
}

/* ---- what holds for a process ------------------------------------------------------------------ */

/* The number after a key of /proc/PID/status, -1 when it is not there. */
static int status_number(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	char number[12];
	uint32_t value;

	if (!at)
		return -1;
	at += strlen(key);
	(void)hf_strf(number, sizeof(number), "%.*s", (int)strcspn(at, "\n"), at);
	return hf_parse_u32(number, &value) == 0 && value < INT_MAX ? (int)value : -1;
}

/* How many filters a process is under; a kernel before 5.9 tells only whether there is one. */
static int count_filters(const char *status_path, int *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	r = hf_read_file(AT_FDCWD, status_path, 16384, &text, &len);
	if (r < 0)
		return r;
	*ret = status_number(text, "\nSeccomp_filters:\t");
	if (*ret < 0)
		*ret = status_number(text, "\nSeccomp:\t") == 2 ? INT_MAX : 0;
	return 0;
}

int hf_confine_observe(uint32_t pid, struct hf_confined *ret)
{
	struct stat ours, its;
	int own, filters, r;
	char path[64];

	(void)hf_strf(path, sizeof(path), "/proc/%u/status", pid);
	r = count_filters(path, &filters);
	if (r == 0)
		r = count_filters("/proc/self/status", &own);
	if (r < 0)
		return r;
	(void)hf_strf(path, sizeof(path), "/proc/%u/ns/mnt", pid);
	if (stat(path, &its) < 0 || stat("/proc/self/ns/mnt", &ours) < 0)
		return -errno;
	*ret = (struct hf_confined){
		.filter = filters > own || filters == INT_MAX,
		.view = its.st_ino != ours.st_ino,
	};
	return 0;
}

static void describe_missing(const char *what, int error, char *dst, size_t size)
{
	if (error)
		(void)hf_strf(dst, size, "no %s (%s)", what, strerror(-error));
	else
		(void)hf_strf(dst, size, "no %s", what);
}

void hf_confine_describe(const struct hf_confined *c, char *dst, size_t size)
{
	char filter[96] = "system call filter", view[96] = "read-only view";

	if (!c->filter)
		describe_missing("system call filter", c->filter_error, filter, sizeof(filter));
	if (!c->view)
		describe_missing("read-only view", c->view_error, view, sizeof(view));
	(void)hf_strf(dst, size, "%s, %s", filter, view);
}
