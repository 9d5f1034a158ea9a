/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths of an instance. The instance's name is derived from the directory's canonical path, so
 * that two test runs on one kernel never share a pin.
 */
#include "holdfast/paths.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/str.h"

/* FNV-1a: a name must only differ where paths differ; nobody attacks his own directory name. */
static uint64_t hash_text(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	return h;
}

static void join(char dst[static HF_PATH_MAX], const char *prefix, const char *name)
{
	/* Both are constants of this file. */
	hf_assert(hf_strf(dst, HF_PATH_MAX, "%s%s", prefix, name));
}

static void fill(struct hf_paths *p, const char *etc, const char *state, const char *run,
		 const char *log)
{
	join(p->config, etc, "config.yml");
	join(p->state_dir, state, "");
	join(p->agent_state, state, "/agent");
	join(p->watchdog_state, state, "/watchdog");
	join(p->run_dir, run, "");
	join(p->releases_dir, state, "/releases");
	join(p->release_keys, etc, "release-keys");
	join(p->supervise_sock, run, "/supervise.sock");
	join(p->agent_sock, run, "/agent.sock");
	join(p->events_sock, run, "/events.sock");
	join(p->metrics_sock, run, "/metrics.sock");
	join(p->watchdog_sock, run, "/watchdog.sock");
	join(p->watchdog_pid, run, "/watchdog.pid");
	join(p->watchdog_lock, run, "/watchdog.lock");
	join(p->log_dir, log, "");
	join(p->agent_url, "ipc://", p->agent_sock);
	join(p->events_url, "ipc://", p->events_sock);
	join(p->watchdog_url, "ipc://", p->watchdog_sock);
}

int hf_paths_init(const char *dir, struct hf_paths *ret)
{
	_cleanup_free_ char *cwd = NULL;
	struct hf_paths p = {};

	if (!dir) {
		p.installed = true;
		(void)hf_strlcpy(p.instance, "main", sizeof(p.instance));
		fill(&p, "/etc/holdfast/", "/var/lib/holdfast", "/run/holdfast",
		     "/var/log/holdfast");
		*ret = p;
		return 0;
	}
	if (chdir(dir) < 0)
		return -errno;
	/* The kernel's own answer: needs no right on the parents. */
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return -errno;
	(void)hf_strf(p.instance, sizeof(p.instance), "dev-%016" PRIx64, hash_text(cwd));
	fill(&p, "", "state", "run", "log");
	*ret = p;
	return 0;
}
