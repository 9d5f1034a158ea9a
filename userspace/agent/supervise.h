/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The component's end of supervise.sock (include/holdfast/supervise.h has the protocol).
 *
 * One object per process, on the component's own loop. It dials the socket, says HELLO, and dials
 * again (100 ms, doubling to 1 s) whenever the watchdog goes away; then it says HELLO with
 * readopted=1 and sends again what the watchdog must know: READY, the last STATUS, every watched
 * socket. The owner therefore states facts once and never sees the connection. Without a watchdog
 * (path missing) everything else still works: calls are remembered, nothing fails.
 *
 * Progress is told, not assumed: PROGRESS leaves from the loop each expect_ms with one counter per
 * worker. Worker 0 is the loop itself and is counted here from the loop's own dispatches. Any
 * other worker (ring consumer, writer thread) is added by its owner, who moves its counter with
 * real work and marks it idle while it waits for work; only an idle worker's counter is moved for
 * it. A worker that is busy and does not move for deadline_ms is a hang, and we are killed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "holdfast/supervise.h"

struct hf_supervise;

#define HF_SUPERVISE_LOOP        0u  /* worker number of the loop */
#define HF_SUPERVISE_WATCHES_MAX 16u /* the channel's socket, its candidates, and spare */

/* All on the loop. Any member may be NULL. `arg` is the userdata of hf_supervise_new(). */
struct hf_supervise_callbacks {
	/* (Re)connected. w is borrowed for the call. */
	void (*welcome)(const struct hf_sup_welcome *w, void *arg);
	/*
	 * Kernel descriptors, once per (re)connection. fds has _HF_SUP_FD_MAX entries, -1 where
	 * there is none. Take ownership of an entry by setting it to -1 (TAKE_FD); the others are
	 * closed after the call. After a re-dial these are new descriptors, usually of the same
	 * pinned maps: compare `map_id:` in /proc/self/fdinfo/N, or simply map them again.
	 */
	void (*kernel)(enum hf_sup_assist assist, int fds[static _HF_SUP_FD_MAX], void *arg);
	/* How our predecessor ended; at most once per (re)connection. Borrowed for the call. */
	void (*last_exit)(const struct hf_sup_last_exit *e, void *arg);
	/* Leave now, cleanly; SIGTERM comes as well, so both must lead to one shutdown. */
	void (*stop)(const char *reason, void *arg);
	void (*reload)(void *arg);
	/* How far the update of some component is. Borrowed for the call. */
	void (*release)(const struct hf_sup_release *r, void *arg);
	/* A request failed: error is a positive errno. The connection goes on. */
	void (*denied)(enum hf_sup_type request, int error, void *arg);
	/* The watchdog's answer to keys; where an action is. Borrowed for the call, also the
	 * descriptors (-1: none): duplicate what is read later. */
	void (*action_nonce)(const struct hf_sup_action_nonce *m, void *arg);
	void (*action_state)(const struct hf_sup_action_state *m, int result_fd, int artifact_fd,
			     void *arg);
	/* The watchdog went away; dialling again has begun. */
	void (*lost)(void *arg);
};

/*
 * Starts dialling `path` at once. event, component and version are borrowed for the life of the
 * object (event is referenced), callbacks are copied. wants_kernel asks for KERNEL.
 * Errors: -ENAMETOOLONG, -EINVAL (names too long or empty), -ENOMEM, what sd-event says. A
 * watchdog that is not there is not an error.
 */
int hf_supervise_new(sd_event *event, const char *path, const char *component, const char *version,
		     bool wants_kernel, const struct hf_supervise_callbacks *callbacks, void *arg,
		     struct hf_supervise **ret);
/* Closes the connection. Takes NULL, returns NULL. */
struct hf_supervise *hf_supervise_free(struct hf_supervise *s);
HF_DEFINE_CLEANUP(struct hf_supervise *, hf_supervise_free);

/* True while the watchdog has welcomed us. */
bool hf_supervise_connected(const struct hf_supervise *s);

/* We do our work now. Idempotent; repeated after each re-dial. */
void hf_supervise_ready(struct hf_supervise *s);
/* One line for people, cut at HF_SUP_TEXT_MAX-1; the same line twice is sent once. */
void hf_supervise_status(struct hf_supervise *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* False: PROGRESS says unhealthy (why belongs in the status). */
void hf_supervise_healthy(struct hf_supervise *s, bool healthy);
/* We leave on our own; tell before exiting. */
void hf_supervise_stopping(struct hf_supervise *s, const char *reason);

/*
 * The kernel shall report this socket on the urgent ring. -ENOSPC at HF_SUPERVISE_WATCHES_MAX;
 * the same cookie twice is one watch. Call before connect(). Unwatching an unknown cookie is fine.
 */
int hf_supervise_watch_socket(struct hf_supervise *s, uint64_t cookie);
void hf_supervise_unwatch_socket(struct hf_supervise *s, uint64_t cookie);
/* The agent saw a process exit that is named like a canary; passed on if it was the watchdog's child. */
void hf_supervise_canary_seen(struct hf_supervise *s, uint64_t nonce, uint32_t parent);
/* Whether we have our portal; said again to a new watchdog. */
void hf_supervise_session(struct hf_supervise *s, bool online);

/*
 * Actions are not remembered here: their owner says them again after `welcome`. type is one of
 * HF_SUP_ACTION_{KEYS,TIME} and HF_SUP_ACTION, resp. HF_SUP_ACTION_{CANCEL,QUERY,FORGET}.
 * -ENOTCONN: no watchdog now. -EMSGSIZE, -EINVAL: it fits no message.
 */
int hf_supervise_action_blob(struct hf_supervise *s, enum hf_sup_type type, const void *bytes,
			     size_t len);
int hf_supervise_action_id(struct hf_supervise *s, enum hf_sup_type type, const char *id);

/* Registers worker 1..HF_SUP_WORKERS_MAX-1, idle. Returns its number or -ENOSPC. Loop only. */
int hf_supervise_add_worker(struct hf_supervise *s);
/*
 * These two may be called from any thread. progress: `value` is any number that changes with work
 * done (and marks the worker busy when it was idle). idle(true): it waits for work; idle(false),
 * best said by whoever hands it work: from now on silence counts.
 */
void hf_supervise_progress(struct hf_supervise *s, unsigned worker, uint64_t value);
void hf_supervise_idle(struct hf_supervise *s, unsigned worker, bool idle);
