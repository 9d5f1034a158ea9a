/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a component's or worker's process with nothing it does not need: own session, own cgroup,
 * own user, no groups, no capability but those named (bounding and ambient sets included), no new
 * privileges, a read-only view of the file tree, a filter of system calls, limits, stdin from
 * /dev/null or the given descriptor, stdout and stderr to another, every other descriptor closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct hf_confine;

/* A worker gets its socket, its result and at most four inputs. */
#define HF_SPAWN_FDS_MAX 6u

/* What a worker has and a component has not; all zero for a component. */
struct hf_spawn_worker {
	uint64_t capabilities; /* kept, as far as we have them ourselves: bit n is capability n */
	int stdin_fd;          /* with any of fds */
	const int *fds;        /* become 3, 4, … */
	size_t fds_n;          /* 0: stdin is /dev/null */
	bool dies_with_us;     /* SIGKILL when the calling thread ends */
	bool no_network; /* a network namespace of its own with nothing in it, or confine's filter */
	bool background;       /* lowest priority for processor and disk */
	uint64_t memory_bytes; /* of private memory; 0: no limit */
	uint64_t file_bytes;   /* of any file it writes; 0: no limit */
};

struct hf_spawn {
	int exe_fd;        /* what to execute; not a script, since it is close-on-exec */
	const char *name;  /* of the process, for argv[0] and messages */
	char *const *argv; /* NULL-terminated, argv[0] included */
	char *const *envp;
	uid_t uid; /* not 0: a component never is root */
	gid_t gid;
	int stderr_fd;
	const struct hf_confine *confine; /* NULL: neither view nor filter (tests) */
	int cgroup_dir;                   /* -1: none */
	int oom_score_adj;                /* set if the host lets us */
	struct hf_spawn_worker worker;
};

struct hf_spawned {
	pid_t pid;
	int pidfd; /* owned by the caller; -1 before Linux 5.3 */
	bool in_cgroup;
	/* 0, or -errno why the host refused: the process runs without. Both 0 without confine. */
	int view_error, filter_error;
	uint64_t exec_ns; /* CLOCK_BOOTTIME when the new program had been executed */
};

/*
 * Returns when the program was executed, or -errno: of what failed in the child, whose name is then
 * in *ret_step ("exec", "setresuid" …). The calling thread waits for the exec (CLONE_VFORK), about
 * a millisecond. -EINVAL for uid 0.
 */
int hf_spawn(const struct hf_spawn *s, struct hf_spawned *ret, const char **ret_step);
