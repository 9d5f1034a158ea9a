/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the watchdog share: one object, made by main.c in the order of its start
 * table, borrowed by everybody else. One loop, one thread (nng's own threads aside, see bus.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "holdfast/config.h"
#include "holdfast/paths.h"

#define HF_COMPONENTS_MAX 8u /* as many as records.h keeps */

struct hf_component;
struct hf_kernel;
struct hf_records;
struct hf_releases;
struct hf_server;
struct hf_bus;
struct hf_workers;
struct hf_actions;

struct hf_watchdog {
	sd_event *event;
	struct hf_paths paths;
	struct hf_config config;
	bool stopping;       /* a stop was asked for; it ends when every component has */
	bool handing_over;   /* end without touching anything: a successor waits */
	bool succeeded;      /* … and holdfast-launch is to start it */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	int lock_fd;
	int launch_fd;   /* the holdfast-launch that started us; -1: none did */
	int bin_dir;     /* beside our own executable */
	int state_dir;   /* paths.watchdog_state */
	int cgroup_base; /* -1: none */
	struct hf_kernel *kernel;
	struct hf_records *records;
	struct hf_releases *releases;
	struct hf_server *server;
	struct hf_bus *bus;
	struct hf_workers *workers; /* NULL: none can be started */
	struct hf_actions *actions; /* NULL: they cannot be journalled, none is taken */
	struct hf_component *component[HF_COMPONENTS_MAX];
	size_t components;
};

/* NULL when there is none of that name. */
struct hf_component *hf_watchdog_find(const struct hf_watchdog *w, const char *name);

/* Stops every component, then unpins and leaves the loop. Idempotent. */
void hf_watchdog_stop(struct hf_watchdog *w, const char *reason);
/* A component reached `stopped`: perhaps the last one. */
void hf_watchdog_component_stopped(struct hf_watchdog *w);

/*
 * Reads the configuration again, has the kernel record by it, and tells the components. On failure
 * the old one stays as a whole, err says file, line and what was expected. ret_changes (or NULL):
 * what changed is appended, a line a key.
 */
int hf_watchdog_reload(struct hf_watchdog *w, struct hf_buf *ret_changes, struct hf_err *err);
