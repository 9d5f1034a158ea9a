/* SPDX-License-Identifier: Apache-2.0 */
/* What the host tells the agent: network, clocks, sleep and shutdown. */
#include "base/assert.h"
#include "base/log.h"
#include "holdfast/cause.h"
#include "userspace/agent/agent.h"

size_t hf_agent_parts(struct hf_part_health ret[static HF_PARTS_MAX], void *userdata)
{
	const struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);
	bool watched = a->supervise && hf_supervise_connected(a->supervise);
	bool writes = !a->last_error[0];
	const char *assist = a->events ? hf_events_assist(a->events) : "off";

	ret[0] = (struct hf_part_health){"agent", true, "running", ""};
	ret[1] = (struct hf_part_health){"spool", writes, writes ? "on disk" : "in memory",
					 a->last_error};
	/* Less kernel help is how this host is, not a fault of ours. */
	ret[2] = (struct hf_part_health){"kernel", true, assist,
					 a->events ? hf_events_assist_reason(a->events) : ""};
	ret[3] = (struct hf_part_health){"watchdog", watched, watched ? "running" : "away",
					 watched ? "" : "the watchdog does not answer"};
	return 4;
}

static void on_network_changed(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	if (a->channel)
		hf_channel_network_changed(a->channel, hf_netlink_table(a->netlink));
}

static void on_clock_set(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_info("the wall clock was set");
	hf_channel_clock_set(a->channel);
}

static void on_resumed(uint64_t slept_ms, void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_notice("this host slept for %llu ms", (unsigned long long)slept_ms);
	hf_channel_resumed(a->channel, slept_ms);
}

static void on_sleeping(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_notice("this host is about to sleep");
	hf_channel_leave(a->channel, HF_CAUSE_HOST_SUSPEND);
}

static void on_going_down(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	hf_notice("this host is about to shut down");
	a->host_goes_down = true;
	hf_channel_leave(a->channel, HF_CAUSE_HOST_SHUTDOWN);
}

static void on_back(void *userdata)
{
	struct hf_agent *a = HF_CAST(userdata, struct hf_agent, HF_AGENT_MAGIC);

	a->host_goes_down = false;
	hf_channel_back(a->channel);
}

int hf_agent_start_watches(struct hf_agent *a)
{
	const struct hf_clockwatch_callbacks cb = {.set = on_clock_set, .resumed = on_resumed};
	const struct hf_hoststate_callbacks host = {
		.sleeping = on_sleeping,
		.going_down = on_going_down,
		.back = on_back,
	};
	int r;

	r = hf_netlink_new(a->event, on_network_changed, a, &a->netlink);
	if (r < 0)
		hf_warn_r(r, "listen to rtnetlink, link and address changes will be noticed late");
	r = hf_clockwatch_new(a->event, &cb, a, &a->clockwatch);
	if (r < 0)
		hf_warn_r(r, "watch the clock, a suspend will be noticed late");
	r = hf_hoststate_new(a->event, &host, a, &a->hoststate);
	if (r < 0)
		hf_warn_r(r, "listen to logind, sleep and shutdown will not be announced");
	return 0;
}

void hf_agent_stop_watches(struct hf_agent *a)
{
	a->hoststate = hf_hoststate_free(a->hoststate);
	a->clockwatch = hf_clockwatch_free(a->clockwatch);
	a->netlink = hf_netlink_free(a->netlink);
}
