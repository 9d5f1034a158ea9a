/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the BPF tests share: a network namespace of their own, programs loaded for one test program
 * (filtered to that namespace), behaviours run as child processes, and the events that came of
 * them as a list. The reader is the agent's own ring.c, the loader the watchdog's own.
 *
 * A test says how many events it expects and gets exactly those: kt_collect() waits for them with a
 * deadline, then looks a while longer for one too many.
 */
#pragma once

#include "../unit/test_util.h"

#include <signal.h>
#include <stdbool.h>

#include "userspace/agent/kernel_decode.h"
#include "userspace/agent/ring.h"
#include "watchdog/kernel_load.h"

#define KT_EVENTS_MAX 8192
#define KT_FACTS_MAX  16
#define KT_ENDS_MAX   8

struct kt_facts {
	size_t n;
	struct {
		char key[32];
		uint64_t value;
	} fact[KT_FACTS_MAX];
};

struct kt {
	struct hf_kernel *kernel;
	struct hf_kernel_info *info;
	struct hf_rings *rings;
	struct hf_decoded decoded; /* of the last kt_decode() */
	uint32_t netns;
	size_t n_events;
	union hf_event_any *events;
	/* Ends of the behaviours themselves: children of the loader, so always told, as urgent. */
	size_t n_ends;
	union hf_event_any ends[KT_ENDS_MAX];
	uint64_t gap_events;
	struct hf_rings_totals before; /* at the test's beginning */
	bool reusable;                 /* for the next test: nobody has unmapped or unloaded it */
};

/* A behaviour that runs. */
struct kt_behaviour {
	pid_t pid;
	int in, out; /* its standard input and output */
	struct kt_facts facts;
};

/* cmocka fixtures: *state is a struct kt whose policy records all connection kinds, conn.closed
 * included, or proc.exit and proc.oom. */
int kt_setup_conn(void **state);
int kt_setup_proc(void **state);
int kt_teardown(void **state);

/* Loads for kinds and flags; instance NULL: one of this test process. */
void kt_open(struct kt *t, uint32_t kinds, uint32_t flags, uint32_t bulk_bytes);
/* Rings and names of t->kernel. */
void kt_map(struct kt *t);
/* Frees rings and names, leaves the kernel. */
void kt_unmap(struct kt *t);
const char *kt_instance(void);
#define KT_PIN_ROOT "/sys/fs/bpf/holdfast-test"

/* Starts `--behave NAME ARG`; arg may be NULL. */
void kt_start(struct kt_behaviour *b, const char *name, const char *arg);
/* Reads facts until the key is there. */
uint64_t kt_wait_fact(struct kt_behaviour *b, const char *key);
/* Lets one that waits on its standard input go on. */
void kt_go(struct kt_behaviour *b);
/* Until it has ended well; all its facts are then there. */
void kt_finish(struct kt_behaviour *b);
/* All three. */
void kt_run(struct kt_behaviour *b, const char *name, const char *arg);
uint64_t kt_fact(const struct kt_behaviour *b, const char *key);

/* Exactly n events come, and none more. They are t->events[0..n). */
void kt_collect(struct kt *t, size_t n);
/* Reads what is there, without expecting anything. */
void kt_drain(struct kt *t);
/* For people: the first events kept, a line each. */
void kt_show(struct kt *t);
/* Likewise, and keeps nothing. */
void kt_drain_all(struct kt *t);
/* Ends of behaviours so far are forgotten; a test has at most KT_ENDS_MAX of them. */
void kt_forget_behaviours(void);
/* The one event of this kind; fails the test unless there is exactly one. */
const union hf_event_any *kt_only(const struct kt *t, uint32_t kind);
/* The only event of the kind, of a socket, whose local port is this. */
const struct hf_conn_event *kt_conn(const struct kt *t, uint32_t kind, uint16_t local_port);
/* The only proc.exit of the process. */
const struct hf_exit_event *kt_exit(const struct kt *t, uint64_t pid);
/* As the agent would show it; valid until the next call. */
const Bus__Event *kt_decode(struct kt *t, const union hf_event_any *e);
/* Since the test's beginning, or since kt_map(). */
struct hf_rings_totals kt_totals(const struct kt *t);
/* Every loss counter is zero and everything generated was delivered. */
void kt_assert_nothing_lost(const struct kt *t);

/* The kernel copies a listener's owner to its connections (5.11); otherwise one that was not read
 * from yet has none. */
bool kt_inherits_owner(const struct kt *t);
bool kt_program_on(const struct kt *t, const char *name);
/* Ends the test as skipped, with the reason printed, unless the program is attached. */
void kt_require(const struct kt *t, const char *name);

/* A test program's main(): namespace, `--behave`, the group, and @@PROG lines for the VM matrix. */
int kt_main(int argc, char **argv, const char *file, const struct CMUnitTest *tests, size_t n);
#define KT_MAIN(argc, argv, tests) kt_main(argc, argv, __FILE__, tests, HF_ARRAY_SIZE(tests))
