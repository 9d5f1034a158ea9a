/* SPDX-License-Identifier: Apache-2.0 */
/* Events and an outage with every field set, for the codecs' tests. */
#pragma once

#include "bus.pb-c.h"

#define S(text) ((char *)(text))

/* 2026-01-02T03:04:05.000000006Z */
#define SAMPLE_NS (UINT64_C(1767323045) * 1000000000 + 6)

static inline void sample_reset(Bus__Event *e, Bus__ConnInfo *c)
{
	bus__event__init(e);
	bus__conn_info__init(c);
	e->time_unix_ns = SAMPLE_NS;
	e->kind = S("conn.reset_sent");
	e->ring = S("bulk");
	e->cpu = 1;
	e->seq = 77;
	e->pid = 812;
	e->comm = S("nginx");
	e->uid = 33;
	e->cgroup = S("/system.slice/nginx.service");
	e->unit = S("nginx.service");
	e->netns = 4026531840;
	e->owner_src = S("accept");
	e->local = S("10.0.0.5:443");
	e->peer = S("[2001:db8::7]:40112");
	e->reason = S("TCP_CLOSE");
	e->detail = S("closed with 1204 bytes unread");
	e->boot_ns = 99;
	e->start_boot_ns = 98;
	e->container = S("abc123");
	e->watched = true;
	e->because = S("pid 812 nginx was SIGKILLed by pid 77 3 ms before");
	e->conn = c;
	c->cookie = 4711;
	c->state = S("ESTABLISHED");
	c->err = 104;
	c->err_name = S("ECONNRESET");
	c->age_us = 5000000;
	c->bytes_sent = 10;
	c->bytes_received = 20;
	c->unread = 1204;
	c->unacked = 312;
	c->unsent = 1;
	c->srtt_us = 800;
	c->retransmits = 2;
	c->timeout = S("rto");
	c->closed_first = S("local");
}

static inline void sample_exit(Bus__Event *e, Bus__ExitInfo *x)
{
	bus__event__init(e);
	bus__exit_info__init(x);
	e->time_unix_ns = SAMPLE_NS;
	e->kind = S("proc.exit");
	e->ring = S("urgent");
	e->seq = 5;
	e->pid = 4410;
	e->comm = S("worker");
	e->exit = x;
	x->code = -1;
	x->signal = 9;
	x->core = true;
	x->by_pid = 77;
	x->by_comm = S("kill");
	x->by_uid = 0;
	x->oom = true;
	x->runtime_ms = 10920000;
	x->ppid = 1;
	x->threads = 4;
}
