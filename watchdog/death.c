/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of the questions is the whole of it: our own intent first (we know why we killed it),
 * then out of memory, then a fault of its own, then another process's signal.
 */
#include "watchdog/death.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/str.h"

/* Signals that a program brings upon itself, unless somebody sent them. */
static bool is_crash(int sig)
{
	switch (sig) {
	case SIGSEGV:
	case SIGABRT:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGSYS:
	case SIGTRAP:
		return true;
	default:
		return false;
	}
}

static void copy_comm(char dst[static HF_SUP_COMM_MAX], const char *src, size_t n)
{
	char comm[HF_COMM_SIZE + 1] = {};

	memcpy(comm, src, n < HF_COMM_SIZE ? n : HF_COMM_SIZE);
	/* A process names itself: it may be anything but a text for our log. */
	hf_sanitize(comm);
	(void)hf_strlcpy(dst, comm, HF_SUP_COMM_MAX);
}

static void take_sender(const struct hf_death_evidence *e, struct hf_death *d)
{
	const struct hf_sender *s = &e->verdict->sender;

	if (!s->boot_ns || (int)s->signal != d->signal || s->pid == 0)
		return;
	d->by_pid = s->pid;
	d->by_uid = s->uid;
	copy_comm(d->by_comm, s->comm, sizeof(s->comm));
}

static enum hf_exit_cause cause_of_signal(const struct hf_death_evidence *e,
					  const struct hf_death *d)
{
	if (e->verdict && e->verdict->oom)
		return HF_EXIT_OOM;
	if (d->by_pid && d->by_pid != e->pid)
		return HF_EXIT_KILLED_BY_OPERATOR;
	return is_crash(d->signal) ? HF_EXIT_CRASHED : HF_EXIT_SIGNALLED;
}

static const char *signal_name(int sig, char buf[static 16])
{
	const char *abbrev = sigabbrev_np(sig);

	if (abbrev)
		(void)hf_strf(buf, 16, "SIG%s", abbrev);
	else
		(void)hf_strf(buf, 16, "signal %d", sig);
	return buf;
}

static void describe_signal(const struct hf_death_evidence *e, struct hf_death *d, char *dst,
			    size_t size)
{
	char name[16];

	(void)signal_name(d->signal, name);
	if (e->verdict && e->verdict->oom)
		(void)hf_strf(dst, size, "killed by the kernel, which was out of memory");
	else if (d->by_pid && d->by_pid == e->pid)
		(void)hf_strf(dst, size, "ended by its own %s", name);
	else if (d->by_pid)
		(void)hf_strf(dst, size, "killed by %s from pid %u '%s', uid %u", name, d->by_pid,
			      d->by_comm, d->by_uid);
	else if (d->signal == SIGSYS)
		(void)hf_strf(dst, size, "made a forbidden system call and was ended by SIGSYS");
	else if (d->from_kernel)
		(void)hf_strf(dst, size, "ended by %s from the kernel", name);
	else
		(void)hf_strf(dst, size, "ended by %s, sender unknown", name);
}

static void describe(const struct hf_death_evidence *e, struct hf_death *d)
{
	char how[160];

	if (!e->has_status && !e->verdict)
		(void)hf_strf(how, sizeof(how), "ended unseen, status unknown");
	else if (d->signal)
		describe_signal(e, d, how, sizeof(how));
	else if (d->code == 100)
		(void)hf_strf(how, sizeof(how), "exited with code 100: it cannot work as it is");
	else if (d->code == 111)
		(void)hf_strf(how, sizeof(how), "exited with code 111: a temporary failure");
	else
		(void)hf_strf(how, sizeof(how), "exited with code %d", d->code);

	switch (d->cause) {
	case HF_EXIT_HUNG:
		(void)hf_strf(d->text, sizeof(d->text), "hung and was killed by the watchdog (%s)",
			      how);
		return;
	case HF_EXIT_LIMIT:
		(void)hf_strf(d->text, sizeof(d->text),
			      "over its limit and was killed by the watchdog (%s)", how);
		return;
	case HF_EXIT_STOPPED_BY_REQUEST:
		(void)hf_strf(d->text, sizeof(d->text), "stopped by request%s (%s)",
			      e->unanswered ? ", but SIGTERM did not help" : "", how);
		return;
	case HF_EXIT_UNKNOWN:
	case HF_EXIT_EXITED:
	case HF_EXIT_SIGNALLED:
	case HF_EXIT_KILLED_BY_OPERATOR:
	case HF_EXIT_OOM:
	case HF_EXIT_CRASHED:
	case _HF_EXIT_MAX:
		break;
	}
	(void)hf_strf(d->text, sizeof(d->text), "%s%s", how, d->core ? ", core dumped" : "");
}

void hf_death_judge(const struct hf_death_evidence *e, struct hf_death *ret)
{
	struct hf_death d = {
		.cause = HF_EXIT_UNKNOWN,
		.pid = e->pid,
		.code = -1,
		.from_kernel = e->verdict != NULL,
		.at_boot_ns = e->verdict ? e->verdict->boot_ns : e->seen_boot_ns,
	};
	int status = e->has_status ? e->status : 0;
	bool known = e->has_status;

	if (!known && e->verdict) {
		status = (int)e->verdict->status;
		known = true;
	}
	if (known && WIFEXITED(status)) {
		d.code = WEXITSTATUS(status);
		d.cause = HF_EXIT_EXITED;
	} else if (known && WIFSIGNALED(status)) {
		d.signal = WTERMSIG(status);
		d.core = WCOREDUMP(status);
		if (e->verdict)
			take_sender(e, &d);
		d.cause = cause_of_signal(e, &d);
	}
	if (e->intent != HF_EXIT_UNKNOWN)
		d.cause = e->intent;
	describe(e, &d);
	*ret = d;
}
