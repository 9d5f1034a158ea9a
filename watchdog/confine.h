/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a component or worker may not do: other system calls than those in the table of
 * confine_filter.c, sockets of other families, and writing outside of its own directories. The
 * tables of components (main.c) and of workers (worker_table.c) say how much of it each one has. It
 * is applied by spawn.c in the child between clone and exec, and cannot be undone by it.
 *
 * A host may refuse the view (no CAP_SYS_ADMIN, a container's seccomp profile) or the filter
 * (a kernel without seccomp): the component then runs without, and hf_spawned says so.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HF_CONFINE_WRITABLE_MAX 4
/* About 100 ranges of system call numbers, two instructions each, and the rules beside them. */
#define HF_CONFINE_FILTER_MAX 400

/* Made ready for the child, which can allocate nothing: borrowed strings, no other memory. */
struct hf_confine {
	const char *writable[HF_CONFINE_WRITABLE_MAX];
	size_t writables;
	struct sock_filter filter[HF_CONFINE_FILTER_MAX];
	uint16_t filter_len; /* 0: none is known for this machine */
	uint16_t exec_fd_at; /* the instruction that compares the descriptor of the exec */
	uint16_t exec_lo_at, exec_hi_at; /* the ones that compare the address of its path */
};

/*
 * network: AF_INET, AF_INET6 and AF_NETLINK sockets beside AF_UNIX. Nothing is writable yet.
 */
void hf_confine_make(bool network, struct hf_confine *ret);
/* A directory that exists then, absolute or below the working directory. path is borrowed. */
void hf_confine_add_writable(struct hf_confine *c, const char *path);

/* ---- in the child: raw system calls only, no allocation, no lock. 0 or -errno ------------------ */

/*
 * Its own mount namespace, in which everything is read-only but the writable directories. What the
 * host mounts or unmounts later still reaches it, so that it keeps no file system busy. As root.
 */
int hf_confine_view(const struct hf_confine *c);
/* The same without mount_setattr(), as it is done before Linux 5.12. */
int hf_confine_view_one_by_one(const struct hf_confine *c);

/*
 * The last step: from here on only the calls in the table of confine_filter.c, and one execveat() of
 * exec_fd with the path at this very address. After no_new_privs.
 */
int hf_confine_seal(const struct hf_confine *c, int exec_fd, const char *path);

/* ---- for status ------------------------------------------------------------------------------ */

/* What holds for a running process, as /proc shows it: also one that an earlier watchdog started. */
struct hf_confined {
	bool filter;
	bool view;
	int filter_error, view_error; /* why not, -errno; 0: not known */
};

/* 0 or -errno when it cannot be seen. */
int hf_confine_observe(uint32_t pid, struct hf_confined *ret);
/* For people, one line. */
void hf_confine_describe(const struct hf_confined *c, char *dst, size_t size);

/* ---- between the parts of confine ---------------------------------------------------------------- */

/* A line of /proc/PID/mountinfo, cut up in place. */
struct hf_mount_line {
	char *path;          /* unescaped */
	unsigned long flags; /* MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC as they are set */
	bool remote;         /* of a kind where a look at the path may wait for another machine */
};

int hf_mount_line_parse(char *line, struct hf_mount_line *ret);
