/* SPDX-License-Identifier: Apache-2.0 */
/* A scan of a planted tree: what a test wants to be there, then one check. */
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>

#include "../test_util.h"
#include "userspace/scan/checks.h"

struct planted {
	struct hf_test_dir *dir;
	struct hf_scan s;
	volatile sig_atomic_t cancelled;
};

static inline int planted_setup(void **state)
{
	struct planted *t = calloc(1, sizeof(*t));

	if (!t || hf_test_dir_setup((void **)&t->dir) < 0)
		return -1;
	t->s.root = t->dir->fd;
	t->s.proc = t->s.baseline_in = t->s.bpf_list = t->s.progress = -1;
	t->s.baseline_out = memfd_create("out", MFD_CLOEXEC);
	t->s.params.cpu_percent = 100;
	t->s.cancelled = &t->cancelled;
	*state = t;
	return 0;
}

static inline int planted_teardown(void **state)
{
	struct planted *t = *state;

	(void)hf_close(t->s.proc);
	(void)hf_close(t->s.baseline_in);
	(void)hf_close(t->s.baseline_out);
	(void)hf_close(t->s.bpf_list);
	hf_scan_done(&t->s);
	(void)hf_test_dir_teardown((void **)&t->dir);
	free(t);
	return 0;
}

/* A file below the tree, "etc/passwd", with its directories. */
static inline void plant(struct planted *t, const char *path, const char *text, mode_t mode)
{
	char parent[512];
	char *slash;
	int fd;

	(void)hf_strlcpy(parent, path, sizeof(parent));
	slash = strrchr(parent, '/');
	if (slash) {
		*slash = 0;
		assert_ok(hf_mkdir_p(t->dir->fd, parent, 0755));
	}
	fd = openat(t->dir->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_ok(hf_write_full(fd, text, strlen(text)));
	assert_int_equal(fchmod(fd, mode), 0);
	(void)hf_close(fd);
}

static inline size_t check_number(const char *id)
{
	for (size_t i = 0; i < hf_checks_n; i++)
		if (hf_streq(hf_checks[i].id, id))
			return i;
	fail_msg("there is no check '%s'", id);
	return 0;
}

static inline void add_to(char **list, size_t *n, const char *path)
{
	list[*n] = strdup(path);
	assert_non_null(list[*n]);
	(*n)++;
}

/* Runs one check anew; what hf_scan_run() returned. */
static inline int run_check(struct planted *t, const char *id)
{
	hf_findings_done(&t->s.findings);
	memset(t->s.state, 0, sizeof(t->s.state));
	t->s.share_all = t->s.share_done = 0;
	t->s.params.checks = UINT64_C(1) << check_number(id);
	return hf_scan_run(&t->s);
}

static inline const struct hf_check_state *state_of(const struct planted *t, const char *id)
{
	return &t->s.state[check_number(id)];
}

/* The finding of this id and path, NULL: there is none. */
static inline const struct hf_finding *found(const struct planted *t, const char *id,
					     const char *path)
{
	for (size_t i = 0; i < t->s.findings.n; i++)
		if (hf_streq(t->s.findings.items[i].id, id) &&
		    hf_streq(t->s.findings.items[i].path, path))
			return &t->s.findings.items[i];
	return NULL;
}

#define PLANTED(f) cmocka_unit_test_setup_teardown(f, planted_setup, planted_teardown)

#define assert_found(t, id, path, sev)                                     \
	do {                                                               \
		const struct hf_finding *_f = found((t), (id), (path));    \
		if (!_f)                                                   \
			fail_msg("no finding '%s' of '%s'", (id), (path)); \
		assert_int_equal(_f->severity, (sev));                     \
	} while (0)
