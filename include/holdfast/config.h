/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of config.yml and portal.yml. A key's name is the path of its member here:
 * `channel.heartbeat_s` is cfg.channel.heartbeat_s. What a key means, its range and default are in
 * userspace/proto/config_table.c, once. How to load, print and compare is in base/config.h:
 *
 *	struct hf_config cfg = {};
 *	r = hf_config_load(&hf_config_table, AT_FDCWD, path, &cfg, warn, NULL, &err);
 *	...
 *	hf_config_done(&hf_config_table, &cfg);
 *
 * Strings are never NULL after a load; "" means not set.
 */
#pragma once

#include "base/config.h"
#include "base/log.h"

enum hf_config_kernel_mode {
	HF_CONFIG_KERNEL_AUTO, /* eBPF where the host allows it */
	HF_CONFIG_KERNEL_OFF,  /* never load a program */
	_HF_CONFIG_KERNEL_MAX,
};

enum hf_config_netns {
	HF_CONFIG_NETNS_ALL, /* events of every network namespace */
	HF_CONFIG_NETNS_OWN, /* only of the watchdog's own: containers' hosts, tests */
	_HF_CONFIG_NETNS_MAX,
};

enum hf_config_exits {
	HF_CONFIG_EXITS_ALL, /* every end of a process */
	HF_CONFIG_EXITS_BAD, /* only with a status that is not 0, or by a signal */
	_HF_CONFIG_EXITS_MAX,
};

/* config.yml: read by agent, watchdog and CLI. */
struct hf_config {
	char *environment;
	struct {
		char *url;
		struct hf_config_list urls;
		char *ca_file;
		struct hf_config_list pins; /* "sha256/" and base64 of 32 bytes */
		char *proxy;
		struct hf_config_list no_proxy;
	} portal;
	struct {
		uint64_t heartbeat_s;
		uint64_t heartbeat_timeout_s;
		uint64_t connect_timeout_s;
		uint64_t immediate_per_minute;
		uint64_t backoff_cap_s;
		uint64_t keepalive_s;
		uint64_t user_timeout_s;
	} channel;
	struct {
		uint64_t max_events_per_s;
		uint64_t burst;
		uint64_t spool_max_bytes;
		struct hf_config_list kinds;
		uint64_t closed_one_in;
		unsigned exits; /* enum hf_config_exits */
		/* Of each pair at most one has items. */
		struct hf_config_list ports, ports_except;
		struct hf_config_list units, units_except;
		struct hf_config_list cgroups, cgroups_except;
		struct hf_config_list drop_reasons;
		uint64_t drop_window_ms;
		uint64_t cgroup_events_per_s;
		uint64_t cgroup_burst; /* 0: no limit */
		char *metrics_listen;
	} telemetry;
	struct {
		uint64_t settle_s;
		uint64_t backoff_cap_s;
		uint64_t ready_s;
	} restart;
	struct {
		uint64_t probation_s;
		uint64_t portal_s;
	} release;
	struct {
		struct {
			char *user;
			uint64_t memory_max_bytes; /* 0: no limit */
			uint64_t cpu_max_percent;  /* of one CPU; 0: no limit */
		} agent;
	} component;
	struct {
		uint64_t expect_ms;
		uint64_t deadline_ms;
		uint64_t stretch_ms;
	} hang;
	struct {
		struct hf_config_list allow;
	} actions;
	struct {
		char *user;
		uint64_t memory_max_bytes;
		uint64_t cpu_max_percent; /* of one CPU */
		struct hf_config_list paths;
		struct hf_config_list exclude;
	} scan;
	struct {
		unsigned mode;  /* enum hf_config_kernel_mode */
		unsigned netns; /* enum hf_config_netns */
		uint64_t urgent_ring_bytes;
		uint64_t bulk_ring_bytes;
	} kernel;
	struct {
		unsigned level; /* hf_config_log_level() */
	} log;
};

/* portal.yml: read by holdfast-portal. */
struct hf_portal_config {
	char *environment;
	struct hf_config_list listen;
	char *public_url;
	char *database;
	struct {
		char *cert_file;
		char *key_file;
		char *ca_file;
	} tls;
	uint64_t agent_max_offline_time_s;
	uint64_t tunnel_status_check_interval_s;
	uint64_t heartbeat_s;
	uint64_t accept_per_s;
	uint64_t max_connections;
	bool auto_authorize;
	uint64_t certificate_life_s;
	struct {
		uint64_t events_days;
		uint64_t outages_days;
	} retention;
	struct {
		unsigned level;
	} log;
};

extern const struct hf_config_table hf_config_table;
extern const struct hf_config_table hf_portal_config_table;

/* For hf_log_set_level(). */
static inline enum hf_log_level hf_config_log_level(unsigned level)
{
	return (enum hf_log_level)(HF_LOG_ERROR + level);
}

/* What the agent cannot run without and `holdfast config check` asks for: -EINVAL with err. */
int hf_config_require_portal(const struct hf_config *cfg, struct hf_err *err);

/* True iff an action of this kind may run on this host. */
bool hf_config_allows(const struct hf_config *cfg, const char *action_kind);

/*
 * Splits "host:port" or "[v6]:port"; the brackets are taken off. -EINVAL (nothing is written),
 * also when host does not fit.
 */
int hf_config_split_host_port(const char *text, char *host, size_t host_size, uint16_t *ret_port);
