/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All keys of config.yml and portal.yml: the one place that says what each means, its range, its
 * default and whether a change needs a restart. `config check`, `config show`, the error messages
 * and the man pages come from here. A key's name is its member's path in holdfast/config.h.
 */
#include "holdfast/config.h"

#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "userspace/proto/config_check.h"

#define AT(member, type) HF_CONFIG_AT(S, member, type)

#define STRING(member, d, p, ...)                                                       \
	{                                                                               \
		.key = #member, .type = HF_CONFIG_STRING, .offset = AT(member, char *), \
		.def = (d), .prose = (p), __VA_ARGS__                                   \
	}
#define BOOL(member, d, p, ...)                                                                 \
	{                                                                                       \
		.key = #member, .type = HF_CONFIG_BOOL, .offset = AT(member, bool), .def = (d), \
		.prose = (p), __VA_ARGS__                                                       \
	}
#define NUMBER(kind, member, lo, hi, d, u, p, ...)                                           \
	{                                                                                    \
		.key = #member, .type = (kind), .offset = AT(member, uint64_t), .min = (lo), \
		.max = (hi), .def = (d), .unit = (u), .prose = (p), __VA_ARGS__              \
	}
#define UINT(...)     NUMBER(HF_CONFIG_UINT, __VA_ARGS__)
#define DURATION(...) NUMBER(HF_CONFIG_DURATION, __VA_ARGS__)
#define SIZE(...)     NUMBER(HF_CONFIG_SIZE, __VA_ARGS__)
#define ENUM(member, n, d, p, ...)                                                      \
	{                                                                               \
		.key = #member, .type = HF_CONFIG_ENUM, .offset = AT(member, unsigned), \
		.names = (n), .def = (d), .prose = (p), __VA_ARGS__                     \
	}
#define LIST(member, hi, d, p, ...)                                                   \
	{                                                                             \
		.key = #member, .type = HF_CONFIG_LIST,                               \
		.offset = AT(member, struct hf_config_list), .max = (hi), .def = (d), \
		.prose = (p), __VA_ARGS__                                             \
	}

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)
#define GIB (UINT64_C(1024) * MIB)

static const char *const log_levels[] = {"error", "warn", "notice", "info", "debug", NULL};
static const char *const kernel_modes[] = {"auto", "off", NULL};
static const char *const kernel_netns[] = {"all", "own", NULL};
static const char *const exit_choices[] = {"all", "bad", NULL};
static const char *const action_kinds[] = {"start",   "stop",   "restart",  "scan", "doctor",
					   "collect", "update", "rollback", NULL};
static const char *const event_kinds[] = {"conn.failed",     "conn.reset_received",
					  "conn.reset_sent", "conn.dropped",
					  "conn.closed",     "proc.exit",
					  "proc.oom",        "skb.drop",
					  "telemetry.loss",  NULL};

_Static_assert(HF_ARRAY_SIZE(kernel_modes) == _HF_CONFIG_KERNEL_MAX + 1, "a mode has no name");
_Static_assert(HF_ARRAY_SIZE(kernel_netns) == _HF_CONFIG_NETNS_MAX + 1, "a choice has no name");
_Static_assert(HF_ARRAY_SIZE(exit_choices) == _HF_CONFIG_EXITS_MAX + 1, "a choice has no name");
_Static_assert(HF_ARRAY_SIZE(log_levels) == HF_LOG_DEBUG - HF_LOG_ERROR + 2, "a level has no name");

/* ---- config.yml ------------------------------------------------------------------------------ */

#define S struct hf_config

static const struct hf_config_entry entries[] = {
	STRING(environment, "prod",
	       "Which world this host is part of; must match the portal's, so that a test host "
	       "cannot appear in production.",
	       .min = 1, .max = 32, .check = hf_check_environment, .restart = true),

	STRING(portal.url, "", "Where the portal answers.", .check = hf_check_portal_url),
	LIST(portal.urls, 8, "", "Further portals, tried in this order when the first is away.",
	     .check = hf_check_portal_url),
	STRING(portal.ca_file, "",
	       "Certificates that may sign the portal's, as PEM; empty: those of the system."),
	LIST(portal.pins, 16, "",
	     "Public keys (SPKI) of which one must be in the portal's chain; pin an authority, never "
	     "a server's own certificate.",
	     .check = hf_check_pin),
	STRING(portal.proxy, "",
	       "HTTP proxy for the channel, with name and password where it wants them.",
	       .check = hf_check_proxy, .secret = true),
	LIST(portal.no_proxy, 64, "", "Hosts and networks that are reached without the proxy.",
	     .check = hf_check_no_proxy),

	DURATION(channel.heartbeat_s, 5, 300, "20", "s",
		 "How often the agent proves that it is there; the portal may ask for another "
		 "interval."),
	DURATION(channel.heartbeat_timeout_s, 1, 60, "10", "s",
		 "How long an answer to a heartbeat may take before the channel counts as lost."),
	DURATION(channel.connect_timeout_s, 1, 120, "20", "s",
		 "How long one attempt may take, from the name to the portal's welcome."),
	UINT(channel.immediate_per_minute, 0, 600, "20", "dials per minute",
	     "How many reconnects may go out at once after a loss; more of them wait."),
	DURATION(channel.backoff_cap_s, 1, 3600, "60", "s",
		 "The longest wait between two attempts."),
	DURATION(channel.keepalive_s, 1, 300, "10", "s",
		 "How long the connection may be silent before TCP probes it."),
	DURATION(channel.user_timeout_s, 2, 300, "13", "s",
		 "How long sent data or a probe may stay unanswered before TCP gives up."),

	UINT(telemetry.max_events_per_s, 1, 100000, "50", "events per second",
	     "How many single events leave this host; what is above is counted and sent as sums."),
	UINT(telemetry.burst, 1, 1000000, "1000", "events",
	     "How many single events may leave in one go after a quiet time."),
	SIZE(telemetry.spool_max_bytes, MIB, 1024 * GIB, "64MiB", NULL,
	     "How much telemetry waits on disk while the portal is away; the oldest of low "
	     "priority goes first, with a record of the gap."),
	LIST(telemetry.kinds, 9,
	     "conn.failed,conn.reset_received,conn.reset_sent,conn.dropped,proc.exit,proc.oom,"
	     "telemetry.loss",
	     "Which kinds of events are recorded and sent; conn.closed (each connection that ends "
	     "well) and skb.drop (packets the kernel drops, summed up) are many.",
	     .names = event_kinds),
	UINT(telemetry.closed_one_in, 1, 1000000, "1", "connections",
	     "Of conn.closed, one of this many is recorded and stands for the others."),
	ENUM(telemetry.exits, exit_choices, "all",
	     "Which ends of processes are recorded: all, or those with a status other than 0 or by "
	     "a signal."),
	LIST(telemetry.ports, 256, "",
	     "Only connections with one of these ports, here or at the peer, are recorded; empty: "
	     "all.",
	     .check = hf_check_port),
	LIST(telemetry.ports_except, 256, "",
	     "Connections with one of these ports are not recorded; not together with "
	     "telemetry.ports.",
	     .check = hf_check_port),
	LIST(telemetry.units, 256, "",
	     "Only what these systemd units own is recorded, or any cgroup of that name; empty: all.",
	     .check = hf_check_unit),
	LIST(telemetry.units_except, 256, "",
	     "What these units own is not recorded; not together with telemetry.units.",
	     .check = hf_check_unit),
	LIST(telemetry.cgroups, 256, "",
	     "Only what these cgroups own is recorded, by path and without what is below them; "
	     "empty: all.",
	     .check = hf_check_absolute_path),
	LIST(telemetry.cgroups_except, 256, "",
	     "What these cgroups own is not recorded; not together with telemetry.cgroups.",
	     .check = hf_check_absolute_path),
	LIST(telemetry.drop_reasons, 64, "",
	     "Of skb.drop, the kernel's names of the reasons that count, such as NETFILTER_DROP; "
	     "empty: those that mean a lost packet of TCP.",
	     .check = hf_check_drop_reason),
	DURATION(telemetry.drop_window_ms, 100, 60000, "1000", "ms",
		 "Of skb.drop, for how long packets of one owner and reason are summed up."),
	UINT(telemetry.cgroup_events_per_s, 1, 1000000, "500", "events per second",
	     "How many events of one cgroup are recorded; what is above is counted, so that one "
	     "does not hide the others."),
	UINT(telemetry.cgroup_burst, 0, 1000000, "600", "events",
	     "How many events of one cgroup are recorded at once; 0: no limit for any."),
	STRING(telemetry.metrics_listen, "",
	       "A loopback address where OpenMetrics are served beside the local socket "
	       "(/run/holdfast/metrics.sock); empty: none.",
	       .check = hf_check_loopback_listen),

	DURATION(restart.settle_s, 0, 3600, "60", "s",
		 "A component that was up this long is restarted at once when it ends; before that "
		 "the wait grows."),
	DURATION(restart.backoff_cap_s, 1, 600, "30", "s",
		 "The longest wait before a component is started again."),

	DURATION(restart.ready_s, 1, 600, "30", "s",
		 "How long a component may take until it says that it works."),

	DURATION(
		release.probation_s, 1, 86400, "120", "s",
		"How long a new version must have been healthy before it is kept; until then it is "
		"rolled back for its faults."),
	DURATION(release.portal_s, 10, 86400, "600", "s",
		 "How long a new version may be without the portal, when the version before was "
		 "connected, before that one gets its chance again."),

	STRING(component.agent.user, "holdfast", "The user the agent runs as.", .min = 1,
	       .check = hf_check_user, .restart = true),
	SIZE(component.agent.memory_max_bytes, 0, 1024 * GIB, "256MiB", NULL,
	     "Memory the agent may use; 0: no limit.", .restart = true),
	UINT(component.agent.cpu_max_percent, 0, 6400, "0", "percent of one CPU",
	     "Processor time the agent may use; 0: no limit.", .restart = true),

	DURATION(hang.expect_ms, 100, 60000, "1000", "ms", "How often a component shows progress."),
	DURATION(hang.deadline_ms, 200, 600000, "3000", "ms",
		 "How long it may show none before it is killed as hung."),
	DURATION(hang.stretch_ms, 200, 3600000, "30000", "ms",
		 "The same while the host starves it of processor or disk."),

	LIST(actions.allow, 8, "start,stop,restart,scan,doctor,collect",
	     "Which actions of the portal this host obeys.", .names = action_kinds),

	STRING(scan.user, "holdfast-scan", "The user a scan and a collection of logs run as.",
	       .min = 1, .check = hf_check_user),
	SIZE(scan.memory_max_bytes, 32 * MIB, 16 * GIB, "256MiB", NULL, "Memory a scan may use."),
	UINT(scan.cpu_max_percent, 1, 100, "50", "percent of one CPU",
	     "Processor time a scan may use."),
	LIST(scan.paths, 64, "/etc,/usr/bin,/usr/sbin",
	     "The files whose digests a scan compares with those of the accepted state.",
	     .check = hf_check_absolute_path),
	LIST(scan.exclude, 64, "", "Files and directories that a scan leaves out.",
	     .check = hf_check_absolute_path),

	ENUM(kernel.mode, kernel_modes, "auto",
	     "Whether eBPF programs are loaded; without them the evidence comes from sockets and "
	     "/proc.",
	     .restart = true),
	ENUM(kernel.netns, kernel_netns, "all",
	     "Whose connections and processes are recorded: of every network namespace, or only of "
	     "the watchdog's own."),
	SIZE(kernel.urgent_ring_bytes, 64 * KIB, 16 * MIB, "256KiB", NULL,
	     "Room for urgent kernel events; a power of two.", .restart = true),
	SIZE(kernel.bulk_ring_bytes, 64 * KIB, 64 * MIB, "1MiB", NULL,
	     "Room for all other kernel events; a power of two.", .restart = true),

	ENUM(log.level, log_levels, "info", "How much is logged.", .env = "HOLDFAST_LOG"),
};

static int require_less(struct hf_err *err, const char *a, uint64_t va, const char *b, uint64_t vb)
{
	if (va < vb)
		return 0;
	return hf_err_set(err, -EINVAL, "%s (%" PRIu64 ") must be less than %s (%" PRIu64 ")", a,
			  va, b, vb);
}

static int require_power_of_two(struct hf_err *err, const char *key, uint64_t v)
{
	if (v > 0 && (v & (v - 1)) == 0)
		return 0;
	return hf_err_set(err, -EINVAL, "%s (%" PRIu64 ") must be a power of two", key, v);
}

static int refuse_both(struct hf_err *err, const char *key, const struct hf_config_list *only,
		       const struct hf_config_list *except)
{
	if (!only->n || !except->n)
		return 0;
	return hf_err_set(err, -EINVAL, "%s_except: expected either this or %s, got both", key,
			  key);
}

static int check_config(const void *cfg, struct hf_err *err)
{
	const struct hf_config *c = cfg;
	int r;

	r = require_less(err, "hang.expect_ms", c->hang.expect_ms, "hang.deadline_ms",
			 c->hang.deadline_ms);
	if (r == 0 && c->hang.stretch_ms != c->hang.deadline_ms)
		r = require_less(err, "hang.deadline_ms", c->hang.deadline_ms, "hang.stretch_ms",
				 c->hang.stretch_ms);
	/* The user timeout overrides the probes: a shorter one would cut a quiet connection. */
	if (r == 0)
		r = require_less(err, "channel.keepalive_s", c->channel.keepalive_s,
				 "channel.user_timeout_s", c->channel.user_timeout_s);
	if (r == 0)
		r = require_power_of_two(err, "kernel.urgent_ring_bytes",
					 c->kernel.urgent_ring_bytes);
	if (r == 0)
		r = require_power_of_two(err, "kernel.bulk_ring_bytes", c->kernel.bulk_ring_bytes);
	if (r == 0)
		r = refuse_both(err, "telemetry.ports", &c->telemetry.ports,
				&c->telemetry.ports_except);
	if (r == 0)
		r = refuse_both(err, "telemetry.units", &c->telemetry.units,
				&c->telemetry.units_except);
	if (r == 0)
		r = refuse_both(err, "telemetry.cgroups", &c->telemetry.cgroups,
				&c->telemetry.cgroups_except);
	return r;
}

const struct hf_config_table hf_config_table = {
	.entries = entries,
	.n = HF_ARRAY_SIZE(entries),
	.struct_size = sizeof(S),
	.check = check_config,
};

int hf_config_require_portal(const struct hf_config *cfg, struct hf_err *err)
{
	if (*cfg->portal.url)
		return 0;
	return hf_err_set(err, -EINVAL,
			  "portal.url is not set: there is no portal to connect to (holdfast "
			  "enroll sets it)");
}

bool hf_config_allows(const struct hf_config *cfg, const char *action_kind)
{
	for (size_t i = 0; i < cfg->actions.allow.n; i++)
		if (hf_streq(cfg->actions.allow.items[i], action_kind))
			return true;
	return false;
}

#undef S

/* ---- portal.yml ------------------------------------------------------------------------------ */

#define S struct hf_portal_config

static const struct hf_config_entry portal_entries[] = {
	STRING(environment, "prod",
	       "Which world this portal serves; endpoints of another are refused.", .min = 1,
	       .max = 32, .check = hf_check_environment, .restart = true),
	LIST(listen, 16, "0.0.0.0:4320", "Addresses to listen on.", .min = 1,
	     .check = hf_check_listen, .restart = true),
	STRING(public_url, "",
	       "How endpoints and browsers reach this portal; empty: by the host's name and the "
	       "first port.",
	       .check = hf_check_public_url, .restart = true),
	STRING(database, "portal.db", "The SQLite file, below the portal's state directory.",
	       .min = 1, .restart = true),
	STRING(tls.cert_file, "", "The portal's certificate chain as PEM; empty: one is made.",
	       .restart = true),
	STRING(tls.key_file, "", "The certificate's private key as PEM; empty: one is made.",
	       .restart = true),
	STRING(tls.ca_file, "",
	       "The authority that signs endpoints' certificates, certificate and key as PEM; "
	       "empty: one is made.",
	       .restart = true),
	DURATION(agent_max_offline_time_s, 1, 30 * 86400, "600", "s",
		 "An endpoint that was not heard of for this long is offline.",
		 .env = "AGENT_MAX_OFFLINE_TIME"),
	DURATION(tunnel_status_check_interval_s, 1, 86400, "60", "s",
		 "How often every endpoint's state is computed anew, beside the changes as they "
		 "happen.",
		 .env = "TUNNEL_STATUS_CHECK_INTERVAL"),
	DURATION(heartbeat_s, 5, 300, "20", "s", "The interval endpoints are asked to keep."),
	UINT(accept_per_s, 1, 100000, "200", "connections per second",
	     "How many new connections are taken on; more wait in the kernel. A fleet that lost the "
	     "portal is told to come back within twice the time that this allows."),
	UINT(max_connections, 1, 1000000, "20000", "connections",
	     "How many connections are held at the same time. Above fifteen sixteenths of it agents "
	     "are told to come back later."),
	BOOL(auto_authorize, "false",
	     "Whether an endpoint that enrols is authorized without anybody looking."),
	DURATION(
		certificate_life_s, 10, UINT64_C(3650) * 86400, "7776000", "s",
		"How long the certificate of an endpoint is valid; it asks for the next one when a "
		"third is left, and afterwards by proof of its key."),
	UINT(retention.events_days, 1, 3650, "30", "days", "How long events are kept."),
	UINT(retention.outages_days, 1, 3650, "365", "days", "How long outage records are kept."),
	ENUM(log.level, log_levels, "info", "How much is logged.", .env = "HOLDFAST_LOG"),
};

static int check_portal_config(const void *cfg, struct hf_err *err)
{
	const struct hf_portal_config *c = cfg;

	if (!*c->tls.cert_file != !*c->tls.key_file)
		return hf_err_set(err, -EINVAL,
				  "tls.cert_file and tls.key_file go together: set both or none");
	return 0;
}

const struct hf_config_table hf_portal_config_table = {
	.entries = portal_entries,
	.n = HF_ARRAY_SIZE(portal_entries),
	.struct_size = sizeof(S),
	.check = check_portal_config,
};
