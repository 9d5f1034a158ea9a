/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded BPF programs: what they are, who loaded them, who holds them. A program that no process
 * holds is pinned or attached for good; that is how ours outlive a restart, and also how others
 * outlive being noticed.
 */
#include "userspace/scan/checks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/scan/bpflist.h"
#include "userspace/scan/process.h"

#define PROGRAMS_MAX 4096u
#define LIST_MAX     (1u << 20)

struct programs {
	struct hf_bpf_program *items;
	size_t n;
};

bool hf_bpf_program_parse(const char *line, struct hf_bpf_program *ret)
{
	struct hf_bpf_program p = {};
	unsigned ours;

	if (sscanf(line, "%u\t%31[^\t\n]\t%31[^\t\n]\t%u\t%u", &p.id, p.type, p.name, &p.uid,
		   &ours) != 5 ||
	    p.id == 0)
		return false;
	p.ours = ours == 1;
	*ret = p;
	return true;
}

uint32_t hf_bpf_fdinfo_id(const char *text)
{
	const char *p = strstr(text, "prog_id:");

	return p ? (uint32_t)strtoul(p + strlen("prog_id:"), NULL, 10) : 0;
}

static void claim(struct programs *l, uint32_t id, const struct hf_process *p)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->items[i].id == id && !l->items[i].pid) {
			l->items[i].pid = p->pid;
			(void)hf_strlcpy(l->items[i].comm, p->comm, sizeof(l->items[i].comm));
		}
}

static int hold(struct hf_scan *s, const struct hf_process *p, void *arg)
{
	int fd = openat(p->dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	(void)s;
	if (!d) {
		(void)hf_close(fd);
		return 0;
	}
	for (struct dirent *e; (e = readdir(d));) {
		_cleanup_free_ char *info = NULL;
		char link[64], name[300];
		size_t size;
		ssize_t len = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (len <= 0)
			continue;
		link[len] = 0;
		if (!hf_startswith(link, "anon_inode:bpf") &&
		    !hf_startswith(link, "anon_inode:[perf_event]"))
			continue;
		(void)hf_strf(name, sizeof(name), "fdinfo/%s", e->d_name);
		if (hf_read_file(p->dir, name, 65536, &info, &size) == 0)
			claim(arg, hf_bpf_fdinfo_id(info), p);
	}
	(void)closedir(d);
	return 0;
}

static int read_list(struct hf_scan *s, struct programs *l)
{
	_cleanup_free_ char *text = calloc(1, LIST_MAX + 1);
	char *save = NULL;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	n = pread(s->bpf_list, text, LIST_MAX, 0);
	if (n < 0)
		return -errno;
	for (char *line = strtok_r(text, "\n", &save); line && l->n < PROGRAMS_MAX;
	     line = strtok_r(NULL, "\n", &save))
		if (hf_bpf_program_parse(line, &l->items[l->n]))
			l->n++;
	if (l->n == PROGRAMS_MAX || n == LIST_MAX)
		hf_scan_partial(s, "only the first %zu programs were looked at", l->n);
	return 0;
}

int hf_check_bpf(struct hf_scan *s)
{
	_cleanup_free_ struct hf_bpf_program *items = calloc(PROGRAMS_MAX, sizeof(*items));
	struct programs l = {.items = items};
	int r;

	if (!s->params.have_bpf || s->bpf_list < 0) {
		hf_scan_not_checked(s, "%s",
				    *s->params.no_bpf ? s->params.no_bpf
						      : "only the watchdog may list them");
		return 0;
	}
	r = items ? read_list(s, &l) : -ENOMEM;
	if (r == 0)
		r = hf_process_each(s, 0, 1, hold, &l);
	if (r < 0)
		return r;
	for (size_t i = 0; i < l.n; i++) {
		const struct hf_bpf_program *p = &l.items[i];
		char where[80], holder[128];

		(void)hf_strf(where, sizeof(where), "bpf:%u %s", p->id, p->name);
		if (p->pid)
			(void)hf_strf(holder, sizeof(holder), "held by pid %u (%s)", p->pid,
				      p->comm);
		else
			(void)hf_strlcpy(holder, "pinned or attached, held by no process",
					 sizeof(holder));
		hf_scan_found(s, p->uid && !p->ours ? HF_SEVERITY_MEDIUM : HF_SEVERITY_INFO,
			      p->ours ? "bpf.holdfast" : "bpf.loaded", where,
			      p->ours ? "none needed: it is part of Holdfast"
				      : "none needed if you know what loaded it",
			      "type %s, loaded by uid %u, %s", p->type, p->uid, holder);
	}
	s->state[s->current].looked_at = l.n;
	return 0;
}
