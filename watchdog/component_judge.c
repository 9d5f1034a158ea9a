/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judging a component that runs: hangs (hang.h) and limits (limit.h). Both end in an input of the
 * state machine; what was seen is kept before the process is ended.
 */
#include "watchdog/component_internal.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/proc.h"

/* A report longer than this helps nobody. */
#define HANG_REPORT_MAX (64u * 1024)

/* ---- hangs ----------------------------------------------------------------------------------- */

/* Keeps what tells why it hung: a file beside the records, its beginning in the log. */
static void keep_hang_report(struct hf_component *c, const char *why)
{
	struct hf_buf report = {};
	char name[HF_SUP_NAME_MAX + 8], text[HF_TAIL_KEEP + 1];

	(void)hf_buf_appendf(&report, "component %s pid %u: %s\n", c->spec->name, c->pid, why);
	hf_proc_describe(c->pid, &report);
	hf_tail_read(&c->tail);
	hf_tail_text(&c->tail, text);
	(void)hf_buf_appendf(&report, "last stderr:\n%s", text);
	(void)hf_strf(name, sizeof(name), "%s.hang", c->spec->name);
	if (report.len > HANG_REPORT_MAX)
		report.len = HANG_REPORT_MAX;
	if (report.data &&
	    hf_write_file_atomic(c->w->state_dir, name, report.data, report.len, 0600) < 0)
		hf_warn("keep the report '%s' of the hang, ignoring", name);
	hf_buf_done(&report);
}

static void convict(struct hf_component *c, uint64_t now_ns)
{
	uint64_t silent_ms = (now_ns - c->hang.silent_since_ns) / HF_NS_PER_MS;

	if (c->hang.stuck_worker >= 0)
		hf_component_detail(c, "worker %d made no progress for %llu ms",
				    c->hang.stuck_worker, (unsigned long long)silent_ms);
	else
		hf_component_detail(c, "no progress for %llu ms", (unsigned long long)silent_ms);
	hf_component_log(c, HF_LOG_ERROR, hf_exit_cause_name(HF_EXIT_HUNG),
			 "component '%s' (pid %u) is hung: %s", c->spec->name, c->pid, c->detail);
	keep_hang_report(c, c->detail);
	c->intent = HF_EXIT_HUNG;
	hf_component_input(c, HF_INPUT_HANG, NULL);
}

static void tell_liveness(struct hf_component *c, enum hf_liveness before, uint64_t now_ns)
{
	enum hf_liveness l = c->hang.liveness;

	if (l == before || l == HF_LIVE_LATE)
		return;
	if (l == HF_LIVE_OK) {
		if (before == HF_LIVE_LATE)
			return;
		hf_component_detail(c, "moves again");
		hf_component_log(c, HF_LOG_NOTICE, NULL, "component '%s' (pid %u) moves again",
				 c->spec->name, c->pid);
		return;
	}
	hf_component_detail(c, "not moving: %s", hf_liveness_name(l));
	hf_component_log(
		c, HF_LOG_WARN, NULL,
		"component '%s' (pid %u) shows no progress for %llu ms: %s; it is not killed for that",
		c->spec->name, c->pid,
		(unsigned long long)((now_ns - c->hang.silent_since_ns) / HF_NS_PER_MS),
		hf_liveness_name(l));
}

void hf_component_check_hang(struct hf_component *c)
{
	uint64_t now_ns = hf_now_monotonic_ns();
	enum hf_liveness before = c->hang.liveness;
	struct hf_proc_sample sample, *given = NULL;

	if (c->machine.state != HF_STATE_STARTING && c->machine.state != HF_STATE_RUNNING)
		return;
	if (hf_hang_needs_sample(&c->hang, &c->hang_policy, now_ns) &&
	    hf_proc_sample(c->pid, now_ns, &sample) == 0)
		given = &sample;
	if (hf_hang_check(&c->hang, &c->hang_policy, given, now_ns) == HF_LIVE_HUNG) {
		convict(c, now_ns);
		return;
	}
	tell_liveness(c, before, now_ns);
	hf_component_arm(c->hang_timer, c->hang.due_ns);
}

int hf_component_on_hang_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_component *c = HF_CAST(userdata, struct hf_component, COMPONENT_MAGIC);

	(void)source;
	(void)usec;
	hf_component_check_hang(c);
	return 0;
}

/* ---- limits ---------------------------------------------------------------------------------- */

static bool judged(const struct hf_component *c)
{
	return c->machine.state == HF_STATE_STARTING || c->machine.state == HF_STATE_RUNNING;
}

void hf_component_check_limits(struct hf_component *c)
{
	uint64_t memory_max = c->w->config.component.agent.memory_max_bytes;
	uint64_t cpu_max = c->w->config.component.agent.cpu_max_percent;
	uint64_t now_ns = hf_now_monotonic_ns(), rss;
	struct hf_proc_stat st;

	if (!judged(c) || now_ns < c->limit_due_ns || (!memory_max && !cpu_max))
		return;
	c->limit_due_ns = now_ns + HF_LIMIT_EVERY_NS;
	if (hf_proc_stat(c->pid, &st) < 0)
		return; /* its end is on the way */
	rss = hf_proc_rss(c->pid);
	switch (hf_limit_check(&c->limit, memory_max, cpu_max, rss, st.cpu_ns, now_ns)) {
	case HF_LIMIT_OK:
		return;
	case HF_LIMIT_MEMORY:
		hf_component_detail(c, "uses %" PRIu64 " MiB of memory, %" PRIu64 " are allowed",
				    rss >> 20, memory_max >> 20);
		break;
	case HF_LIMIT_CPU:
		hf_component_detail(c,
				    "used %" PRIu64 " %% of a processor for 12 s, %" PRIu64
				    " are allowed",
				    c->limit.cpu_permille / 10, cpu_max);
		break;
	}
	hf_component_log(c, HF_LOG_ERROR, hf_exit_cause_name(HF_EXIT_LIMIT),
			 "component '%s' (pid %u) is over its limit: %s", c->spec->name, c->pid,
			 c->detail);
	c->intent = HF_EXIT_LIMIT;
	hf_component_input(c, HF_INPUT_LIMIT, NULL);
}
