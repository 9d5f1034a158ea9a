/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at processes. */
#include "userspace/scan/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* pid_max of 64-bit hosts is four million; what lives is far less. */
#define PROCESSES_MAX 65536u

void hf_process_unit(const char *cgroup, char dst[static HF_UNIT_MAX])
{
	static const char *const kinds[] = {".service", ".scope", ".socket", ".mount"};

	dst[0] = 0;
	/* hierarchy:controllers:/system.slice/nginx.service; the last unit in the path is it. */
	for (const char *p = cgroup; *p;) {
		size_t n = strcspn(p, "/\n");
		char name[HF_UNIT_MAX];

		if (n > 0 && n < sizeof(name)) {
			memcpy(name, p, n);
			name[n] = 0;
			for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++)
				if (hf_endswith(name, kinds[i]))
					(void)hf_strlcpy(dst, name, HF_UNIT_MAX);
		}
		p += n;
		p += *p != 0;
	}
}

int hf_process_readlink(const struct hf_process *p, const char *name, char *dst, size_t size)
{
	ssize_t n = readlinkat(p->dir, name, dst, size);

	if (n < 0)
		return -errno;
	if ((size_t)n == size)
		return -ENAMETOOLONG;
	dst[n] = 0;
	return 0;
}

static void fill(struct hf_process *p)
{
	_cleanup_free_ char *status = NULL, *cgroup = NULL;
	const char *uid;
	size_t len;

	p->comm[0] = p->unit[0] = 0;
	p->uid = UINT32_MAX;
	if (hf_read_file(p->dir, "status", 65536, &status, &len) == 0) {
		uid = strstr(status, "\nUid:");
		if (uid)
			p->uid = (uint32_t)strtoul(uid + strlen("\nUid:"), NULL, 10);
		if (hf_startswith(status, "Name:\t"))
			(void)hf_strf(p->comm, sizeof(p->comm), "%.*s",
				      (int)strcspn(status + 6, "\n"), status + 6);
	}
	if (hf_read_file(p->dir, "cgroup", 65536, &cgroup, &len) == 0)
		hf_process_unit(cgroup, p->unit);
}

/* All pids first: the progress is to know how many there are. */
static int list(struct hf_scan *s, uint32_t **ret, size_t *ret_n)
{
	_cleanup_free_ uint32_t *pids = calloc(PROCESSES_MAX, sizeof(*pids));
	int fd = s->proc < 0 ? -1 : openat(s->proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	size_t n = 0;

	if (!pids || !d) {
		if (d)
			(void)closedir(d);
		else
			(void)hf_close(fd);
		return pids ? -ENOENT : -ENOMEM;
	}
	for (struct dirent *e; n < PROCESSES_MAX && (e = readdir(d));)
		if (hf_parse_u32(e->d_name, &pids[n]) == 0)
			n++;
	(void)closedir(d);
	if (n == PROCESSES_MAX)
		hf_scan_partial(s, "only the first %u processes were looked at", PROCESSES_MAX);
	*ret = TAKE_PTR(pids);
	*ret_n = n;
	return 0;
}

int hf_process_each(struct hf_scan *s, double from, double to,
		    int (*fn)(struct hf_scan *s, const struct hf_process *p, void *arg), void *arg)
{
	_cleanup_free_ uint32_t *pids = NULL;
	size_t n = 0;
	int r = list(s, &pids, &n);

	for (size_t i = 0; i < n && r == 0; i++) {
		_cleanup_close_ int dir = -1;
		struct hf_process p = {.pid = pids[i]};
		char name[16], what[96];

		(void)hf_strf(name, sizeof(name), "%u", p.pid);
		dir = openat(s->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			continue; /* gone */
		p.dir = dir;
		fill(&p);
		(void)hf_strf(what, sizeof(what), "process %u %s", p.pid, p.comm);
		hf_scan_fraction(s, from + (to - from) * (double)i / (double)n);
		r = hf_scan_tick(s, 1, what);
		if (r == 0)
			r = fn(s, &p, arg);
	}
	return r;
}
