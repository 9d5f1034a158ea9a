/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running programs whose file is gone or another one. The kernel keeps the file that runs;
 * /proc/PID/exe leads to it even when no name does any more. After an upgrade a new file stands at
 * the old name, and what runs is the old one with its old faults; a name that is simply gone is how
 * intruders hide; a program that never had a name (memfd) hides better still.
 */
#include "userspace/scan/checks.h"

#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "userspace/scan/process.h"

#define DELETED " (deleted)"

/* Is there a file at the name again, in the process's own tree (a container's)? */
static bool name_is_taken(const struct hf_process *p, const char *path)
{
	char below[4096];
	struct stat st;

	return hf_strf(below, sizeof(below), "root%s", path) &&
	       fstatat(p->dir, below, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int look(struct hf_scan *s, const struct hf_process *p, void *arg)
{
	struct hf_check_state *c = &s->state[s->current];
	char path[4096];
	struct stat st;
	int r;

	(void)arg;
	r = hf_process_readlink(p, "exe", path, sizeof(path));
	if (r == -EACCES || r == -EPERM)
		c->unreadable++;
	if (r < 0)
		return 0; /* a kernel thread, or gone */
	c->looked_at++;
	if (fstatat(p->dir, "exe", &st, 0) < 0 || st.st_nlink > 0)
		return 0;
	if (hf_endswith(path, DELETED))
		path[strlen(path) - strlen(DELETED)] = 0;
	/* A container runtime copies itself so that no container can change it. */
	if (hf_startswith(path, "/memfd:runc_cloned:"))
		return 0;
	if (hf_startswith(path, "/memfd:"))
		hf_scan_found(s, HF_SEVERITY_HIGH, "executables.fileless", path,
			      "find out who started it; a program without a file is rarely wanted",
			      "pid %u (%s, uid %u, unit %s) runs from memory, it has no file",
			      p->pid, p->comm, p->uid, *p->unit ? p->unit : "none");
	else if (name_is_taken(p, path))
		hf_scan_found(s, HF_SEVERITY_LOW, "executables.replaced", path,
			      "restart it, so that it runs what is installed",
			      "pid %u (%s, uid %u, unit %s) runs a file that was replaced", p->pid,
			      p->comm, p->uid, *p->unit ? p->unit : "none");
	else
		hf_scan_found(s, HF_SEVERITY_HIGH, "executables.deleted", path,
			      "find out who removed it; the file is still at /proc/PID/exe",
			      "pid %u (%s, uid %u, unit %s) runs a file that was deleted", p->pid,
			      p->comm, p->uid, *p->unit ? p->unit : "none");
	return 0;
}

int hf_check_executables(struct hf_scan *s)
{
	return hf_process_each(s, 0, 1, look, NULL);
}
