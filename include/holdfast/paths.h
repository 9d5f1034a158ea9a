/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an instance keeps its files: the one place that knows, for every program.
 *
 * An instance is the installed one (/etc/holdfast, /var/lib/holdfast, /run/holdfast) or a
 * directory (--dir DIR). For a directory the process changes into it and all paths are relative:
 * an unprivileged component then works below a parent it may not enter (/root), and a socket's
 * path fits sun_path however deep DIR is. Children inherit the working directory and get
 * `--dir .`.
 */
#pragma once

#include <stdbool.h>

#define HF_PATH_MAX     64 /* all are constants of ours; DIR itself is never part of them */
#define HF_INSTANCE_MAX 32

struct hf_paths {
	bool installed;                 /* no --dir */
	char instance[HF_INSTANCE_MAX]; /* "main", or one word derived from the real path of DIR */
	char config[HF_PATH_MAX];       /* config.yml */
	char run_dir[HF_PATH_MAX];
	char log_dir[HF_PATH_MAX];
	char state_dir[HF_PATH_MAX];      /* parent of the next two; 0755 */
	char agent_state[HF_PATH_MAX];    /* the agent's own, 0700 */
	char watchdog_state[HF_PATH_MAX]; /* root's, 0700 */
	char releases_dir[HF_PATH_MAX];   /* root's, 0755; may be a link or a mount of root's */
	char release_keys[HF_PATH_MAX]; /* the package's or administrator's list of release keys */
	char supervise_sock[HF_PATH_MAX];
	char agent_sock[HF_PATH_MAX];    /* local bus of the agent, REQ/REP */
	char events_sock[HF_PATH_MAX];   /* the agent's event stream, PUB/SUB */
	char metrics_sock[HF_PATH_MAX];  /* the agent's OpenMetrics, HTTP */
	char watchdog_sock[HF_PATH_MAX]; /* local bus of the watchdog, REQ/REP */
	char watchdog_pid[HF_PATH_MAX];
	char watchdog_lock[HF_PATH_MAX];
	/* nng addresses of the three bus sockets: "ipc://" and the path */
	char agent_url[HF_PATH_MAX];
	char events_url[HF_PATH_MAX];
	char watchdog_url[HF_PATH_MAX];
};

/*
 * dir NULL: the installed instance, the working directory stays. Else chdir(dir), -errno when
 * that fails. Creates nothing: the watchdog makes the directories.
 */
int hf_paths_init(const char *dir, struct hf_paths *ret);
