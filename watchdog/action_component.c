/* SPDX-License-Identifier: Apache-2.0 */
/*
 * start, stop, restart of a component.
 *
 * I1. Whether a restart was done is told by the process: the record names the one that ran when it
 *     began. A watchdog that finds another process has nothing left to do. (Prevents a second
 *     restart after a kill in the middle.)
 * I2. The agent is not stopped before the way back is on disk. (Prevents a host that nobody can
 *     reach any more: neither our own death nor a reboot takes the way back away.)
 */
#include "watchdog/action_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "userspace/proto/frame.h"
#include "watchdog/server.h"

#define WAY_BACK_FILE "way-back"
/* How long the agent may take to tell the portal that it will be stopped. */
#define ANNOUNCE_MS 2000u

static struct hf_component *component_of(const struct hf_action_run *run)
{
	return hf_watchdog_find(run->actions->w, run->rec->component);
}

static void view_of(const struct hf_action_run *run, struct hf_component_view *v)
{
	*v = (struct hf_component_view){};
	if (component_of(run))
		hf_component_view(component_of(run), v);
}

static void end(struct hf_action_run *run, enum hf_action_state state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void end(struct hf_action_run *run, enum hf_action_state state, const char *fmt, ...)
{
	char text[HF_SUP_TEXT_MAX], json[256];
	struct hf_component_view v;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	view_of(run, &v);
	/* The component's name is from the watchdog's own table. */
	hf_strf(json, sizeof(json), "{\"component\":\"%s\",\"pid\":%u,\"previous_pid\":%u}",
		v.name ? v.name : "", v.pid, run->rec->before_pid);
	hf_action_end(run, &(struct hf_action_outcome){.state = state,
						       .text = text,
						       .json = v.name ? json : NULL,
						       .json_len = v.name ? strlen(json) : 0,
						       .artifact = -1});
}

static void on_limit(struct hf_action_run *run)
{
	struct hf_component_view v;

	view_of(run, &v);
	end(run, HF_ACTION_TIMED_OUT, "%s is %s after the limit of the action%s%s",
	    run->rec->component, v.name ? hf_state_name(v.state) : "gone", v.detail[0] ? ": " : "",
	    v.detail);
}

static void arm_limit(struct hf_action_run *run)
{
	uint32_t s = run->body && run->body->hard_limit_s ? run->body->hard_limit_s
							  : run->spec->hard_limit_s;

	/* Ten times what the kind has is no limit any more. */
	if (s > 10 * run->spec->hard_limit_s)
		s = 10 * run->spec->hard_limit_s;
	hf_action_arm(run, (uint64_t)s * 1000, on_limit);
}

/* ---- parameters ---------------------------------------------------------------------------------- */

static uint32_t back_after_s(const Action__Body *b, bool *ret_given)
{
	const char *text = b ? hf_action_param(b, "back_after_s") : NULL;
	uint32_t s = HF_ACTION_BACK_AFTER_S;

	*ret_given = text != NULL;
	if (text && (hf_parse_u32(text, &s) < 0 || s == 0 || s > HF_ACTION_BACK_AFTER_MAX_S))
		return 0;
	return s;
}

static enum hf_action_refusal check_component(struct hf_actions *a, const Action__Body *b)
{
	const char *name = hf_action_param(b, "component");

	return name && hf_watchdog_find(a->w, name) ? HF_ACTION_REFUSED_NONE
						    : HF_ACTION_REFUSED_BAD_PARAMS;
}

static enum hf_action_refusal check(struct hf_actions *a, const Action__Body *b)
{
	static const char *const names[] = {"component", NULL};

	return hf_action_params_only(b, names) ? check_component(a, b)
					       : HF_ACTION_REFUSED_BAD_PARAMS;
}

static enum hf_action_refusal check_stop(struct hf_actions *a, const Action__Body *b)
{
	static const char *const names[] = {"component", "back_after_s", NULL};
	bool given;

	return hf_action_params_only(b, names) && back_after_s(b, &given)
		       ? check_component(a, b)
		       : HF_ACTION_REFUSED_BAD_PARAMS;
}

static void prepare(struct hf_action_run *run)
{
	const char *name = hf_action_param(run->body, "component");
	struct hf_component_view v;

	hf_action_record_text(&run->rec->component, name ? name : "");
	view_of(run, &v);
	run->rec->before_pid = v.pid;
	run->rec->before_start_ns = v.start_ns;
}

static bool is_another_process(const struct hf_action_run *run, const struct hf_component_view *v)
{
	return v->pid &&
	       (v->pid != run->rec->before_pid || v->start_ns != run->rec->before_start_ns);
}

/* False: the component is gone (another version of the watchdog), and run is at its end. */
static bool ask(struct hf_action_run *run, enum hf_input input)
{
	struct hf_component *c = component_of(run);
	char reason[64];

	if (!c) {
		end(run, HF_ACTION_FAILED, "there is no component '%s'", run->rec->component);
		return false;
	}
	if (input != HF_INPUT_STOP)
		hf_action_way_back_drop(run->actions, run->rec->component);
	hf_strf(reason, sizeof(reason), "%s asked for by the portal", run->rec->kind);
	/* It may be judged, and at its end, before this returns. */
	run->asked = true;
	hf_component_request(c, input, reason);
	return true;
}

/* ---- start, restart ------------------------------------------------------------------------------- */

static void judge_start(struct hf_action_run *run)
{
	struct hf_component_view v;

	view_of(run, &v);
	if (run->step == HF_RUN_GOING && v.state == HF_STATE_RUNNING)
		end(run, HF_ACTION_SUCCEEDED, "%s runs, pid %u", v.name, v.pid);
}

static void begin_start(struct hf_action_run *run)
{
	arm_limit(run);
	if (ask(run, HF_INPUT_START))
		judge_start(run);
}

static void changed_start(struct hf_action_run *run, const struct hf_component *c)
{
	if (run->asked && c == component_of(run))
		judge_start(run);
}

static void judge_restart(struct hf_action_run *run)
{
	struct hf_component_view v;

	view_of(run, &v);
	if (run->step != HF_RUN_GOING)
		return;
	if (v.state == HF_STATE_RUNNING && is_another_process(run, &v))
		end(run, HF_ACTION_SUCCEEDED, "%s restarted: pid %u → %u", v.name,
		    run->rec->before_pid, v.pid);
	else if (v.state == HF_STATE_STOPPED)
		end(run, HF_ACTION_FAILED, "%s was stopped by somebody meanwhile",
		    run->rec->component);
}

static void begin_restart(struct hf_action_run *run)
{
	struct hf_component_view v;

	arm_limit(run);
	view_of(run, &v);
	run->asked = true;
	/* I1 */
	if (!is_another_process(run, &v) && !ask(run, HF_INPUT_RESTART))
		return;
	judge_restart(run);
}

static void changed_restart(struct hf_action_run *run, const struct hf_component *c)
{
	if (run->asked && c == component_of(run))
		judge_restart(run);
}

/* ---- the way back --------------------------------------------------------------------------------- */

struct hf_way_back {
	struct hf_actions *actions;
	char component[HF_SUP_NAME_MAX];
	char action_id[HF_ACTION_ID_SIZE];
	uint64_t due_boot_ns;
	sd_event_source *timer;
};

static void way_back_free(struct hf_actions *a)
{
	struct hf_way_back **p = &a->way_back;

	if (!*p)
		return;
	sd_event_source_disable_unref((*p)->timer);
	free(*p);
	*p = NULL;
}

static int on_way_back(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_way_back *b = userdata;
	struct hf_actions *a = b->actions;
	struct hf_component *c = hf_watchdog_find(a->w, b->component);

	(void)source;
	(void)usec;
	hf_notice("component '%s' comes back: the time of its stop by action '%s' is over",
		  b->component, b->action_id);
	(void)hf_disk_unlink(a->disk, WAY_BACK_FILE, NULL, NULL); /* read again: due again */
	way_back_free(a);
	if (c)
		hf_component_request(c, HF_INPUT_START, "the time of its stop is over");
	return 0;
}

static int way_back_set(struct hf_actions *a, const char *component, const char *action_id,
			uint64_t due_boot_ns)
{
	struct hf_way_back *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	way_back_free(a);
	b->actions = a;
	b->due_boot_ns = due_boot_ns;
	(void)hf_strlcpy(b->component, component, sizeof(b->component));
	(void)hf_strlcpy(b->action_id, action_id, sizeof(b->action_id));
	/* The time that passes while the host sleeps counts as well. */
	r = sd_event_add_time(a->w->event, &b->timer, CLOCK_BOOTTIME,
			      due_boot_ns / HF_NS_PER_US + 1, 100000, on_way_back, b);
	if (r < 0) {
		free(b);
		return r;
	}
	(void)sd_event_source_set_description(b->timer, "way-back"); /* only a name */
	a->way_back = b;
	return 0;
}

int hf_action_way_back_open(struct hf_actions *a)
{
	_cleanup_pb_ Action__WayBack *m = NULL;
	_cleanup_free_ char *data = NULL;
	uint8_t boot_id[16] = {};
	uint64_t due = 0;
	size_t len;
	int r = hf_read_file(a->w->state_dir, WAY_BACK_FILE, 4096, &data, &len);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = hf_pb_unpack(&action__way_back__descriptor, data, len, &m);
	(void)hf_boot_id(boot_id); /* fails: another boot, then it is due */
	/* After a reboot, or with a file that cannot be read, it is due now: reachable beats stopped. */
	if (r == 0 && m->boot_id.len == sizeof(boot_id) &&
	    memcmp(m->boot_id.data, boot_id, sizeof(boot_id)) == 0)
		due = m->due_boot_ns;
	return way_back_set(a, r == 0 ? m->component : "agent", r == 0 ? m->action_id : "?", due);
}

void hf_action_way_back_close(struct hf_actions *a)
{
	way_back_free(a);
}

void hf_action_way_back_drop(struct hf_actions *a, const char *component)
{
	const struct hf_way_back *b = a->way_back;

	if (!b || !hf_streq(b->component, component))
		return;
	way_back_free(a);
	(void)hf_disk_unlink(a->disk, WAY_BACK_FILE, NULL, NULL); /* then it starts what runs */
}

/* ---- stop ----------------------------------------------------------------------------------------- */

static void judge_stop(struct hf_action_run *run)
{
	const struct hf_way_back *b = run->actions->way_back;
	struct hf_component_view v;
	bool comes_back = b && hf_streq(b->component, run->rec->component);

	view_of(run, &v);
	if (run->step != HF_RUN_GOING || (v.name && v.state != HF_STATE_STOPPED))
		return;
	end(run, HF_ACTION_SUCCEEDED, "%s is stopped%s", run->rec->component,
	    comes_back ? ", and comes back by itself" : "");
}

static void stop_now(struct hf_action_run *run)
{
	run->leaving = false;
	arm_limit(run);
	if (ask(run, HF_INPUT_STOP))
		judge_stop(run);
}

static void on_way_back_written(int r, void *userdata)
{
	struct hf_action_run *run = HF_CAST(userdata, struct hf_action_run, HF_ACTION_RUN_MAGIC);

	if (r < 0) {
		/* I2 */
		hf_action_way_back_drop(run->actions, run->rec->component);
		end(run, HF_ACTION_FAILED, "not stopped: the way back cannot be written down: %s",
		    strerror(-r));
		return;
	}
	stop_now(run);
}

static void write_way_back(struct hf_action_run *run)
{
	Action__WayBack m = ACTION__WAY_BACK__INIT;
	_cleanup_(hf_buf_done) struct hf_buf buf = {};
	uint8_t boot_id[16] = {};
	bool given;
	uint64_t due = hf_now_boottime_ns() + back_after_s(run->body, &given) * HF_NS_PER_S;
	int r;

	hf_action_arm(run, 0, NULL);
	(void)hf_boot_id(
		boot_id); /* zero is no boot's: it comes back at the next watchdog's start */
	m.component = run->rec->component;
	m.action_id = run->rec->action_id;
	m.due_boot_ns = due;
	m.boot_id = (ProtobufCBinaryData){.data = boot_id, .len = sizeof(boot_id)};
	r = hf_pb_pack(&m.base, &buf);
	if (r == 0)
		r = way_back_set(run->actions, m.component, m.action_id, due);
	if (r == 0)
		r = hf_disk_write(run->actions->disk, WAY_BACK_FILE, buf.data, buf.len, 0600,
				  on_way_back_written, run);
	if (r < 0)
		on_way_back_written(r, run);
}

static void announced(struct hf_action_run *run)
{
	if (run->asked || !run->timer)
		return;
	run->asked = true;
	write_way_back(run);
}

static void begin_stop(struct hf_action_run *run)
{
	char text[HF_SUP_TEXT_MAX];
	bool is_agent = hf_streq(run->rec->component, "agent"), given;
	uint32_t back_s = back_after_s(run->body, &given);

	if (!is_agent && !given) {
		stop_now(run);
		return;
	}
	if (!is_agent) {
		run->asked = true;
		write_way_back(run);
		return;
	}
	hf_strf(text, sizeof(text), "the agent stops now and comes back by itself after %u s",
		back_s);
	run->leaving = true;
	hf_action_arm(run, ANNOUNCE_MS, announced);
	hf_action_progress(run, 50, text);
	hf_action_tell(run);
}

static void changed_stop(struct hf_action_run *run, const struct hf_component *c)
{
	if (run->asked && c == component_of(run))
		judge_stop(run);
}

const struct hf_action_handler hf_action_start = {
	.kind = "start",
	.check = check,
	.prepare = prepare,
	.begin = begin_start,
	.resume = begin_start,
	.changed = changed_start,
};

const struct hf_action_handler hf_action_stop = {
	.kind = "stop",
	.check = check_stop,
	.prepare = prepare,
	.begin = begin_stop,
	.resume = begin_stop,
	.changed = changed_stop,
	.announced = announced,
};

const struct hf_action_handler hf_action_restart = {
	.kind = "restart",
	.check = check,
	.prepare = prepare,
	.begin = begin_restart,
	.resume = begin_restart,
	.changed = changed_restart,
};
