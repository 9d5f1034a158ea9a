/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hears from logind that this host is about to sleep or to go down, and holds it up for the moment
 * that a goodbye takes (delay inhibitor, org.freedesktop.login1). Where there is no system bus, or no
 * logind on it, nothing happens but a look from time to time whether there is one by now.
 */
#pragma once

#include <stdbool.h>

#include <systemd/sd-event.h>

#include "base/cleanup.h"

struct hf_hoststate;

struct hf_hoststate_callbacks {
	/* Now: the host goes on when the callback has returned and a moment has passed. */
	void (*sleeping)(void *userdata);
	void (*going_down)(void *userdata);
	/* Awake again, or it was called off. */
	void (*back)(void *userdata);
};

int hf_hoststate_new(sd_event *event, const struct hf_hoststate_callbacks *cb, void *userdata,
		     struct hf_hoststate **ret);
struct hf_hoststate *hf_hoststate_free(struct hf_hoststate *h);
HF_DEFINE_CLEANUP(struct hf_hoststate *, hf_hoststate_free);
