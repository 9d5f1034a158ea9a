/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What component.c (process and transitions), component_judge.c (hangs and limits) and
 * component_link.c (supervise socket and bus) share. For nobody else.
 */
#pragma once

#include <sys/types.h>

#include "watchdog/component.h"
#include "watchdog/confine.h"
#include "watchdog/limit.h"
#include "watchdog/permit.h"

#define COMPONENT_MAGIC 0x434f4d50u

struct hf_component {
	unsigned magic;
	struct hf_watchdog *w;
	const struct hf_component_spec *spec;
	struct hf_machine machine;
	struct hf_machine_policy policy;
	uint64_t since_realtime_ns;
	char detail[HF_SUP_TEXT_MAX]; /* why it is in this state */

	struct hf_release *release; /* borrowed; NULL: it has none */
	uid_t uid;
	gid_t gid;
	bool have_user;
	int cgroup_dir;       /* -1: none */
	uint64_t cgroup_ooms; /* so far */

	uint32_t pid; /* I1 */
	uint64_t start_ns;
	int pidfd;
	/*
	 * Its mount namespace, and its predecessor's until READY: whose last process ends waits there for
	 * an RCU grace period (0.4 to 20 ms measured), before its pidfd tells anybody.
	 */
	int view_fd, old_view_fd;
	bool adopted;
	bool in_cgroup;
	struct hf_confine confine;     /* made ready once */
	struct hf_confined confined;   /* what the host refused at its start */
	enum hf_exit_cause intent;     /* why we are ending it */
	bool unanswered;               /* SIGTERM did not help */
	char leaving[HF_SUP_TEXT_MAX]; /* its own word why it leaves */

	struct hf_peer *peer;
	char version[HF_SUP_VERSION_MAX];
	bool takes_kernel, well, online; /* its own words: HELLO, PROGRESS, SESSION */
	char status[HF_SUP_TEXT_MAX];
	uint64_t watch[HF_PERMIT_WATCHES_MAX];
	unsigned watches;

	struct hf_hang hang;
	struct hf_hang_policy hang_policy;
	struct hf_limit limit;
	uint64_t limit_due_ns;

	bool died; /* death and last_stderr are filled in */
	struct hf_death death;
	bool awaiting_ready; /* exit_to_ready_us is still to be measured */
	struct hf_tail tail;
	struct hf_log_field fields[2]; /* of its lines in the journal */
	char last_stderr[HF_TAIL_KEEP + 1];

	sd_event_source *exit_source, *timer, *hang_timer, *tail_source;
};

/* A line about it, with the journal's fields for component and cause (a name, or NULL). */
void hf_component_log(const struct hf_component *c, enum hf_log_level level, const char *cause,
		      const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Why it is in its state, one line for people. */
void hf_component_detail(struct hf_component *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Lets go of the predecessor's mount namespace; may take some ms. */
void hf_component_drop_old_view(struct hf_component *c);
/* The one way in which anything changes the state. arg may be NULL where machine.h allows it. */
void hf_component_input(struct hf_component *c, enum hf_input in, const struct hf_machine_arg *arg);
/* CLOCK_MONOTONIC; 0 disarms. */
void hf_component_arm(sd_event_source *timer, uint64_t deadline_ns);

/* Judges the present silence and arms the timer for the next look. */
void hf_component_check_hang(struct hf_component *c);
int hf_component_on_hang_timer(sd_event_source *source, uint64_t usec, void *userdata);
/* Looks at memory and processor time, if it is time to. */
void hf_component_check_limits(struct hf_component *c);
