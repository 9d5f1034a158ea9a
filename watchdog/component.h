/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One component: its process, what is known of it, and the doing of what its state machine
 * (machine.h) decides. Logs every change of state once, with its reason.
 */
#pragma once

#include "base/cleanup.h"
#include "holdfast/supervise.h"
#include "watchdog/death.h"
#include "watchdog/hang.h"
#include "watchdog/machine.h"
#include "watchdog/tail.h"
#include "watchdog/watchdog.h"

struct hf_confine;
struct hf_peer;

struct hf_component_spec {
	const char *name;    /* "agent" */
	const char *program; /* "holdfast-agent", beside the watchdog */
	int oom_score_adj;
	bool network;          /* else AF_UNIX only */
	bool owns_agent_state; /* may write the agent's state directory; the run directory all may */
};

/* Nothing runs yet. spec is borrowed for the life of the object. */
int hf_component_new(struct hf_watchdog *w, const struct hf_component_spec *spec,
		     struct hf_component **ret);
/* Leaves the process alone: a requested stop has ended it before. Takes NULL, returns NULL. */
struct hf_component *hf_component_free(struct hf_component *c);
HF_DEFINE_CLEANUP(struct hf_component *, hf_component_free);

/* Adopts the process of the previous watchdog, or starts one (unless a person had stopped it). */
void hf_component_begin(struct hf_component *c);
/* The configuration was read again. */
void hf_component_reconfigure(struct hf_component *c);

/* What a judge of its version looks at. */
struct hf_component_health {
	uint32_t pid;   /* 0: none */
	bool healthy;   /* READY, moves, and says that it is well */
	bool connected; /* has its portal */
};
void hf_component_health(const struct hf_component *c, struct hf_component_health *ret);
/* What its processes may not do; borrowed. */
const struct hf_confine *hf_component_confine(const struct hf_component *c);
/* It asked for the kernel's rings. */
bool hf_component_takes_kernel(const struct hf_component *c);
/* msg is a whole message; nothing happens when it is not connected. */
void hf_component_tell(struct hf_component *c, const void *msg);

/* START, STOP, RESTART, by a person or the watchdog's end. reason is for the log. */
void hf_component_request(struct hf_component *c, enum hf_input input, const char *reason);

/* ---- from the supervise socket (server.c) ---------------------------------------------------- */

bool hf_component_owns(const struct hf_component *c, uint32_t pid, uint32_t uid);
/* conn is borrowed until hf_component_conn_gone(). The component says WELCOME and the rest. */
void hf_component_hello(struct hf_component *c, struct hf_peer *conn,
			const struct hf_sup_hello *hello);
void hf_component_ready(struct hf_component *c);
/* -EBADMSG: impossible content. */
int hf_component_progress(struct hf_component *c, const struct hf_sup_progress *p);
void hf_component_session(struct hf_component *c, bool online);
void hf_component_canary_seen(struct hf_component *c, uint64_t nonce);
void hf_component_status(struct hf_component *c, const char *text);
void hf_component_stopping(struct hf_component *c, const char *reason);
/* 0, or -errno for DENIED. */
int hf_component_watch_socket(struct hf_component *c, uint64_t cookie, bool on);
void hf_component_conn_gone(struct hf_component *c, struct hf_peer *conn);

/* ---- for the bus ----------------------------------------------------------------------------- */

struct hf_component_view {
	const char *name;
	const char *version;
	uint32_t pid;      /* 0: none */
	uint64_t start_ns; /* with pid, its identity */
	uint32_t uid;
	enum hf_state state;
	uint64_t restarts;
	uint64_t since_realtime_ns;
	uint64_t rss_bytes;
	const char *status_text;
	char detail[HF_SUP_TEXT_MAX];
	const struct hf_death *last_exit;   /* NULL: it never ended */
	char last_stderr[HF_TAIL_KEEP + 1]; /* of the ended process */
	char confinement[192];              /* "": no process */
};

/* Pointers are borrowed from c until the next turn of the loop. */
void hf_component_view(const struct hf_component *c, struct hf_component_view *ret);
/* Its connection to supervise.sock, NULL: none. Borrowed until the next turn of the loop. */
struct hf_peer *hf_component_peer(const struct hf_component *c);
const char *hf_component_name(const struct hf_component *c);
bool hf_component_stopped(const struct hf_component *c);
