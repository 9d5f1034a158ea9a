/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canaries: proof that a new version really sees what the kernel reports. A child of the watchdog with
 * a nonce as its name ends; that passes every filter (the watchdog's children are watched), the ring,
 * the agent's decoder, and has to come back as CANARY_SEEN.
 *
 * The child is a vfork() that names itself and ends: it runs no program and shares our memory for a
 * few microseconds.
 */
#include "watchdog/release_internal.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "watchdog/component.h"
#include "watchdog/kernel_load.h"

/* Each tenth of the probation, but no more than one in this time is of use. */
#define EVERY_MAX_NS (10 * HF_NS_PER_S)
#define EVERY_MIN_NS (100 * HF_NS_PER_MS)

bool hf_release_has_canaries(const struct hf_release *r)
{
	const struct hf_kernel *k = r->all->w->kernel;

	if (!r->c || !hf_component_takes_kernel(r->c) ||
	    hf_kernel_assist(k) == HF_KERNEL_ASSIST_OFF)
		return false;
	for (size_t i = 0;; i++) {
		const struct hf_kernel_program *p = hf_kernel_program(k, i);

		if (!p)
			return false;
		if (hf_streq(p->name, HF_CANARY_PROGRAM))
			return p->attached;
	}
}

static int fly(uint64_t nonce)
{
	char name[HF_SUP_COMM_MAX];
	pid_t pid;

	(void)hf_strf(name, sizeof(name), HF_CANARY_PREFIX "%012llx", (unsigned long long)nonce);
	/* The parent waits for two system calls; prctl() writes nothing that the parent has. */
	pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
	if (pid == 0) {
		(void)prctl(PR_SET_NAME, name); /* NOLINT(clang-analyzer-unix.Vfork) */
		_exit(0);
	}
	if (pid < 0)
		return -errno;
	(void)waitpid(pid, NULL, 0); /* it has ended when vfork() returns */
	return 0;
}

void hf_release_send_canary(struct hf_release *r, uint64_t now_ns)
{
	uint64_t every_ns = r->all->w->config.release.probation_s * HF_NS_PER_S / 10;
	uint64_t nonce = hf_random_below(HF_CANARY_NONCE_MAX - 1) + 1;
	int result;

	if (now_ns < r->canary_due_ns)
		return;
	if (every_ns > EVERY_MAX_NS)
		every_ns = EVERY_MAX_NS;
	r->canary_due_ns = now_ns + (every_ns < EVERY_MIN_NS ? EVERY_MIN_NS : every_ns);
	/* Before it ends: the agent may be faster than we are. */
	if (!hf_release_judge_canary_sent(&r->judge, nonce, now_ns))
		return;
	result = fly(nonce);
	if (result < 0) {
		hf_release_judge_canary_cancel(&r->judge, nonce);
		hf_debug("send a canary: %s", strerror(-result));
	}
}
