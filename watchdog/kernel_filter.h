/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs record, as a whole: one struct as people write it in config.yml, applied to the
 * maps at once or not at all, without loading anything anew.
 *
 *	struct hf_kernel_filter f;
 *	hf_kernel_filter_default(&f);
 *	f.ports = (struct hf_kernel_choice){HF_KERNEL_EXCEPT, names, 2};
 *	r = hf_kernel_filter_apply(w->kernel, &f, &err);
 *
 * I1. Nothing is written before the whole is found good. New members go into the maps beside the
 *     old ones, under the other of two set numbers; one 8-byte store switches kinds, flags and set;
 *     then the old members go. A failure before the switch takes the new ones out again.
 * I2. Watched sockets and processes, and OOM kills of them, pass every filter.
 *
 * Main loop only. Silent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "holdfast/kernel_policy.h"

struct hf_kernel;

enum hf_kernel_choice_mode {
	HF_KERNEL_ALL,    /* the names do not matter */
	HF_KERNEL_ONLY,   /* what is in the list */
	HF_KERNEL_EXCEPT, /* what is not */
	_HF_KERNEL_CHOICE_MAX,
};

struct hf_kernel_choice {
	enum hf_kernel_choice_mode mode;
	const char *const *names;
	size_t n;
};

struct hf_kernel_filter {
	/* HF_POLICY_KIND() of each; conn.retransmit and telemetry.loss are always recorded: the
	 * first only for watched sockets, the second is what says that something is missing. */
	uint32_t kinds;
	uint32_t closed_one_in; /* conn.closed: one of this many; at least 1 */
	bool exit_bad_only;     /* no proc.exit for status 0 */
	bool own_netns;         /* only the watchdog's own network namespace */
	uint32_t burst;         /* events of one cgroup at once; 0: no limit at all */
	uint32_t per_s;         /* and then so many a second */
	uint32_t drop_window_ms;
	/* Decimal ports, local or peer. */
	struct hf_kernel_choice ports;
	/*
	 * systemd units, or any name that is the last or last but one component of the path of
	 * the owner's cgroup: "nginx.service", "user.slice". They may come and go.
	 */
	struct hf_kernel_choice units;
	/* Paths of cgroups ("/system.slice/x.service"), without what is below them. One that does
	 * not exist (yet) is looked for again by each hf_kernel_filter_refresh(). */
	struct hf_kernel_choice cgroups;
	/* skb.drop: names of reasons ("NETFILTER_DROP"). Empty: those that mean a lost packet of
	 * TCP. A name that this kernel does not have is ignored if another one does. */
	struct hf_kernel_choice drop_reasons; /* mode: ALL or ONLY */
};

void hf_kernel_filter_default(struct hf_kernel_filter *ret);

/* HF_POLICY_KIND() of a kind's name ("conn.closed"), 0 if there is none. */
uint32_t hf_kernel_kind_by_name(const char *name);

/*
 * -EINVAL with err: something in it is wrong; -E2BIG, -ENOMEM …: the maps would not take it. In
 * each of these the old policy goes on. -ENOSYS: assist is off (after the checks, so that a bad
 * policy is refused on any kernel).
 */
int hf_kernel_filter_apply(struct hf_kernel *k, const struct hf_kernel_filter *f,
			   struct hf_err *err);
/* Looks for the cgroups again, from a timer of about a second. 1: something changed. */
int hf_kernel_filter_refresh(struct hf_kernel *k);
