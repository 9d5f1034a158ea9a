/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: owner of all parts, and what they share. agent.c starts, connects and stops them,
 * requests.c answers the local bus, metrics.c gathers OpenMetrics. No other file sees this header.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "base/disk.h"
#include "holdfast/config.h"
#include "holdfast/paths.h"
#include "userspace/agent/action.h"
#include "userspace/agent/blackbox.h"
#include "userspace/agent/bus.h"
#include "userspace/agent/channel.h"
#include "userspace/agent/clockwatch.h"
#include "userspace/agent/events.h"
#include "userspace/agent/host.h"
#include "userspace/agent/hoststate.h"
#include "userspace/agent/identity.h"
#include "userspace/agent/metrics_server.h"
#include "userspace/agent/metrics_text.h"
#include "userspace/agent/netlink.h"
#include "userspace/agent/outage.h"
#include "userspace/agent/session.h"
#include "userspace/agent/spool.h"
#include "userspace/agent/supervise.h"
#include "userspace/agent/uploader.h"

#define HF_AGENT_MAGIC 0x544e4741u
/* Component exit codes, DESIGN section 10. */
#define HF_EXIT_PERMANENT 100
#define HF_EXIT_TEMPORARY 111

struct hf_agent {
	unsigned magic;
	sd_event *event;
	struct hf_paths paths;
	struct hf_config config;
	char last_error[128]; /* for the health the portal sees; "" fine */
	char environment[40]; /* of the start: a change waits for a restart */
	struct hf_host host;
	struct hf_self self;
	int state_dirfd;
	uint64_t started_ns; /* monotonic */
	unsigned disk_worker;
	bool has_disk_worker;

	struct hf_disk *disk;
	struct hf_identity *identity;
	struct hf_outages *outages;
	struct hf_blackbox *blackbox;
	struct hf_ringlog *ringlog;
	struct hf_spool *spool;
	sd_event_source *spool_io;
	struct hf_otlp_resource resource;
	struct hf_uploader *uploader;
	struct hf_events *events;
	struct hf_agent_actions *actions;
	struct hf_channel *channel;
	struct hf_supervise *supervise;
	struct hf_netlink *netlink;
	struct hf_hoststate *hoststate;
	bool host_goes_down; /* announced by logind: a stop that follows is for that */
	struct hf_clockwatch *clockwatch;
	struct hf_bus *bus;
	struct hf_metrics_server *metrics; /* NULL: its socket could not be had */
	bool metrics_failed;               /* the configured port is somebody else's */
	uint64_t starts;                   /* of this component, the watchdog says */
	struct hf_metrics_outages outages_seen;
	char outage_counted[40]; /* id of the last one in there; "" none */
	bool outages_skip;       /* note it without counting */
	sd_event_source *sigterm, *sigint, *sighup, *tick;

	struct hf_bus_call *enroll_call; /* waits for the first outcome */
	bool stopping;
	unsigned ticks;
};

/* Returns the process's exit code. */
int hf_agent_run(const char *dir);

/* agent_watches.c; for hf_self.parts: what our health is made of. */
size_t hf_agent_parts(struct hf_part_health ret[static HF_PARTS_MAX], void *userdata);
/* agent_watches.c: parts of the start that the agent can do without (warned of, never fatal). */
int hf_agent_start_watches(struct hf_agent *a);
void hf_agent_stop_watches(struct hf_agent *a);

/* Reads config.yml again; the old values stay on any error, which err tells. */
int hf_agent_reload(struct hf_agent *a, struct hf_err *err);
void hf_agent_stop(struct hf_agent *a, const char *reason);

/* requests.c; userdata is the agent. */
void hf_agent_request(struct hf_bus_call *call, const Bus__Request *m, void *userdata);
/* The whole configuration without secrets, malloc'ed; NULL on ENOMEM. */
char *hf_agent_config_text(void *userdata);
char *hf_agent_effective_config(void *userdata);

/* metrics.c */
int hf_agent_metrics_start(struct hf_agent *a); /* 0: being without metrics is no failure */
void hf_agent_metrics_stop(struct hf_agent *a);
void hf_agent_metrics_configure(struct hf_agent *a);
void hf_agent_metrics_tick(struct hf_agent *a); /* each second */
void hf_agent_count_outages(struct hf_agent *a);
