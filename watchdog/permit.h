/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a component may say on supervise.sock, by the state of its connection: one table, asked
 * before anything is done. What is not in it ends the connection. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/supervise.h"

enum hf_conn_state {
	HF_CONN_NEW,      /* peer checked, nothing said */
	HF_CONN_GREETED,  /* HELLO taken */
	HF_CONN_READY,    /* READY taken */
	HF_CONN_STOPPING, /* it said that it leaves */
	_HF_CONN_MAX,
};

struct hf_permit {
	enum hf_conn_state state;
	uint32_t used;    /* once-only requests already taken */
	uint32_t watches; /* sockets watched for it now */
};

/* The channel's socket, the candidates of one race, and some room: the kernel's map has 64. */
#define HF_PERMIT_WATCHES_MAX 16u

/*
 * 0: do it, and p has moved on. -EPERM: not in this state, or a second time. -ENOSPC: permitted,
 * but its share is used up (the connection goes on, DENIED is the answer).
 */
int hf_permit_check(struct hf_permit *p, enum hf_sup_type request);
