/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoder of ring records. Texts are appended to the object's own buffer; when it is full (it is
 * sized for the longest record) what does not fit is cut, never overrun.
 */
#include "kernel_decode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

static const char *const kind_names[_HF_EVENT_KIND_MAX] = {
	[HF_EVENT_CONN_FAILED] = "conn.failed",
	[HF_EVENT_CONN_RESET_RECEIVED] = "conn.reset_received",
	[HF_EVENT_CONN_RESET_SENT] = "conn.reset_sent",
	[HF_EVENT_CONN_DROPPED] = "conn.dropped",
	[HF_EVENT_CONN_CLOSED] = "conn.closed",
	[HF_EVENT_CONN_RETRANSMIT] = "conn.retransmit",
	[HF_EVENT_PROC_EXIT] = "proc.exit",
	[HF_EVENT_PROC_OOM] = "proc.oom",
	[HF_EVENT_SKB_DROP] = "skb.drop",
	[HF_EVENT_TELEMETRY_LOSS] = "telemetry.loss",
};

static const char *const ring_names[_HF_RING_MAX] = {
	[HF_RING_URGENT] = "urgent",
	[HF_RING_BULK] = "bulk",
};

const char *hf_ring_name(enum hf_ring_id ring)
{
	hf_assert(ring < _HF_RING_MAX);
	return ring_names[ring];
}

static const char *const owner_names[_HF_OWNER_SRC_MAX] = {
	[HF_OWNER_NONE] = "none",         [HF_OWNER_CONNECT] = "connect",
	[HF_OWNER_ACCEPT] = "accept",     [HF_OWNER_LISTEN] = "listen",
	[HF_OWNER_SNAPSHOT] = "snapshot", [HF_OWNER_SELF] = "self",
};

/* include/net/tcp_states.h */
static const char *const state_names[] = {
	[1] = "ESTABLISHED", [2] = "SYN_SENT",  [3] = "SYN_RECV", [4] = "FIN_WAIT1",
	[5] = "FIN_WAIT2",   [6] = "TIME_WAIT", [7] = "CLOSE",    [8] = "CLOSE_WAIT",
	[9] = "LAST_ACK",    [10] = "LISTEN",   [11] = "CLOSING", [12] = "NEW_SYN_RECV",
};

#define TCP_STATE_LISTEN 10

static const char *const timeout_names[_HF_TIMEOUT_KIND_MAX] = {
	[HF_TIMEOUT_NONE] = "",
	[HF_TIMEOUT_SYN] = "syn",
	[HF_TIMEOUT_RTO] = "rto",
	[HF_TIMEOUT_USER] = "user_timeout",
	[HF_TIMEOUT_KEEPALIVE] = "keepalive",
	[HF_TIMEOUT_ZERO_WINDOW] = "zero_window",
};

static const char *const closed_names[_HF_CLOSED_BY_MAX] = {
	[HF_CLOSED_BY_NONE] = "",
	[HF_CLOSED_BY_LOCAL] = "local",
	[HF_CLOSED_BY_PEER] = "peer",
};

/* protobuf-c's strings are not const, though nothing writes them. */
static char *text_of(const char *s)
{
	return (char *)(uintptr_t)s;
}

static const char *name_of(const char *const *table, size_t n, uint32_t i, const char *otherwise)
{
	return i < n && table[i] ? table[i] : otherwise;
}

#define NAME(table, i, otherwise) name_of(table, HF_ARRAY_SIZE(table), i, otherwise)

const char *hf_event_kind_name(uint32_t kind)
{
	return NAME(kind_names, kind, NULL);
}

int hf_event_kind_from_name(const char *name)
{
	int i;

	for (i = 0; i < _HF_EVENT_KIND_MAX; i++)
		if (hf_streq0(kind_names[i], name))
			return i;
	return -EINVAL;
}

/* ---- text ---------------------------------------------------------------------------------- */

static void put(struct hf_decoded *d, char c)
{
	if (d->used < sizeof(d->text) - 1)
		d->text[d->used++] = c;
}

static void put_bytes(struct hf_decoded *d, const char *s, size_t n)
{
	size_t room = sizeof(d->text) - 1 - d->used;

	if (n > room)
		n = room;
	memcpy(d->text + d->used, s, n);
	d->used += n;
}

static void put_text(struct hf_decoded *d, const char *s)
{
	put_bytes(d, s, strlen(s));
}

/* A string of the record: at most size bytes, not trusted to be printable. */
static void put_foreign(struct hf_decoded *d, const char *s, size_t size)
{
	size_t i;

	for (i = 0; i < size && s[i]; i++)
		put(d, s[i] >= ' ' && s[i] <= '~' ? s[i] : '?');
}

static void put_number(struct hf_decoded *d, uint64_t n)
{
	char digits[20];
	size_t i = sizeof(digits);
	uint32_t small;

	/* 32-bit division is several times faster, and nearly always enough. */
	for (; n > UINT32_MAX; n /= 10)
		digits[--i] = (char)('0' + n % 10);
	small = (uint32_t)n;
	do {
		digits[--i] = (char)('0' + small % 10);
		small /= 10;
	} while (small);
	put_bytes(d, digits + i, sizeof(digits) - i);
}

static void put_duration(struct hf_decoded *d, uint64_t ns)
{
	char s[32];

	hf_format_duration(ns, s, sizeof(s));
	/* "µs" is the one unit that is not ASCII. */
	if (ns < HF_NS_PER_MS) {
		put_number(d, ns / HF_NS_PER_US);
		put_text(d, " us");
		return;
	}
	put_text(d, s);
}

static char *begin(struct hf_decoded *d)
{
	return d->text + d->used;
}

/* Ends a text begun at s. */
static char *finish(struct hf_decoded *d, char *s)
{
	d->text[d->used] = '\0';
	/* The next one begins behind the NUL; a full buffer gives empty texts from here on. */
	if (d->used < sizeof(d->text) - 1)
		d->used++;
	return s;
}

static char *foreign(struct hf_decoded *d, const char *s, size_t size)
{
	char *t = begin(d);

	put_foreign(d, s, size);
	return finish(d, t);
}

static void put_address(struct hf_decoded *d, uint32_t family, const uint8_t *addr)
{
	char s[INET6_ADDRSTRLEN];
	int i;

	if (family == AF_INET) {
		for (i = 0; i < 4; i++) {
			if (i)
				put(d, '.');
			put_number(d, addr[i]);
		}
	} else if (family == AF_INET6 && inet_ntop(AF_INET6, addr, s, sizeof(s))) {
		put_text(d, s);
	}
}

static char *address_port(struct hf_decoded *d, uint32_t family, const uint8_t *addr, uint16_t port)
{
	char *t = begin(d);

	if (family != AF_INET && family != AF_INET6)
		return finish(d, t);
	if (family == AF_INET6)
		put(d, '[');
	put_address(d, family, addr);
	if (family == AF_INET6)
		put(d, ']');
	put(d, ':');
	put_number(d, port);
	return finish(d, t);
}

static void put_bytes_clause(struct hf_decoded *d, uint32_t n, const char *what)
{
	put(d, ' ');
	put_number(d, n);
	put_text(d, n == 1 ? " byte " : " bytes ");
	put_text(d, what);
}

/* "SIGKILL", or "signal 99" for one libc has no name for. */
static void put_signal(struct hf_decoded *d, uint32_t n)
{
	const char *s = n < 65 ? sigabbrev_np((int)n) : NULL;

	if (!s) {
		put_text(d, "signal ");
		put_number(d, n);
		return;
	}
	put_text(d, "SIG");
	put_text(d, s);
}

/* An errno either way round; the record may hold anything. */
static int32_t positive(int32_t err)
{
	if (err == INT32_MIN)
		return 0;
	return err < 0 ? -err : err;
}

static const char *errno_name(int32_t err)
{
	const char *s = err > 0 && err < 4096 ? strerrorname_np(err) : NULL;

	return s ? s : "";
}

/* ---- cgroups ------------------------------------------------------------------------------- */

static const char *const unit_suffixes[] = {".service", ".scope", ".socket", ".mount", ".swap"};

static bool is_unit(const char *s)
{
	size_t i;

	for (i = 0; i < HF_ARRAY_SIZE(unit_suffixes); i++)
		if (hf_endswith(s, unit_suffixes[i]))
			return true;
	return false;
}

void hf_cgroup_unit(const char *leaf, const char *parent, char *dst, size_t size)
{
	const char *unit = "";

	/* A slice only groups; a unit inside it is the better answer. */
	if (is_unit(leaf))
		unit = leaf;
	else if (is_unit(parent))
		unit = parent;
	else if (hf_endswith(leaf, ".slice"))
		unit = leaf;
	(void)hf_strlcpy(dst, unit, size);
}

#define CONTAINER_ID_LEN 64

/* The first run of exactly 64 hex digits: every runtime's id, whatever its prefix. */
static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool find_container(const char *s, char *dst, size_t size)
{
	size_t run = 0, i;

	/* Nearly every name is too short to have one. */
	if (size <= CONTAINER_ID_LEN || strlen(s) < CONTAINER_ID_LEN)
		return false;
	for (i = 0;; i++) {
		if (is_hex(s[i])) {
			run++;
			continue;
		}
		if (run == CONTAINER_ID_LEN) {
			memcpy(dst, s + i - run, run);
			dst[run] = '\0';
			return true;
		}
		if (!s[i])
			return false;
		run = 0;
	}
}

void hf_cgroup_container(const char *leaf, const char *parent, char *dst, size_t size)
{
	if (size)
		dst[0] = '\0';
	if (!find_container(leaf, dst, size))
		(void)find_container(parent, dst, size);
}

/* ---- parts --------------------------------------------------------------------------------- */

static void terminate(char *s, size_t size)
{
	s[size - 1] = '\0';
}

static void decode_owner(struct hf_decoded *d, struct hf_owner *o)
{
	char name[HF_CGROUP_LEAF_SIZE];
	char *t;

	terminate(o->comm, sizeof(o->comm));
	terminate(o->cgroup_leaf, sizeof(o->cgroup_leaf));
	terminate(o->cgroup_parent, sizeof(o->cgroup_parent));
	hf_sanitize(o->comm);
	hf_sanitize(o->cgroup_leaf);
	hf_sanitize(o->cgroup_parent);

	d->event.owner_src = text_of(NAME(owner_names, o->src, "none"));
	d->event.pid = o->tgid;
	d->event.uid = o->uid;
	d->event.start_boot_ns = o->start_ns;
	d->event.comm = foreign(d, o->comm, sizeof(o->comm));
	if (!o->cgroup_leaf[0])
		return;
	t = begin(d);
	if (o->cgroup_parent[0]) {
		put_text(d, o->cgroup_parent);
		put(d, '/');
	}
	put_text(d, o->cgroup_leaf);
	d->event.cgroup = finish(d, t);
	hf_cgroup_unit(o->cgroup_leaf, o->cgroup_parent, name, sizeof(name));
	if (name[0])
		d->event.unit = foreign(d, name, sizeof(name));
	hf_cgroup_container(o->cgroup_leaf, o->cgroup_parent, name, sizeof(name));
	if (name[0])
		d->event.container = foreign(d, name, sizeof(name));
}

/*
 * Kernels before 6.10 name no reset reason, and some later ones not all of them: then what was
 * found in the socket gives the name that newer kernels use.
 */
static const char *reset_reason(const struct hf_kernel_info *i, const struct hf_event_header *h,
				const struct hf_conn *c)
{
	const char *s = c->reason != HF_REASON_NONE ? hf_kernel_info_rst(i, c->reason) : NULL;

	if (s && !hf_streq(s, "NOT_SPECIFIED"))
		return s;
	if ((h->flags & HF_EVENT_F_NO_SOCKET) && c->state == 7)
		return "NO_SOCKET";
	if (c->sock_flags & HF_SOCK_F_ABORTED)
		return c->unread_bytes ? "TCP_ABORT_ON_CLOSE" : "TCP_STATE";
	if (c->sock_flags & HF_SOCK_F_ORPHAN)
		return "TCP_ABORT_ON_DATA";
	return s ? s : "";
}

static void conn_reason(const struct hf_kernel_info *i, struct hf_decoded *d)
{
	const struct hf_event_header *h = &d->raw.header;
	const struct hf_conn *c = &d->raw.conn.conn;
	const char *s = "";

	switch ((enum hf_event_kind)h->kind) {
	case HF_EVENT_CONN_RESET_SENT:
		s = reset_reason(i, h, c);
		break;
	case HF_EVENT_SKB_DROP:
		s = hf_kernel_info_drop(i, c->reason);
		if (!s)
			s = "";
		break;
	case HF_EVENT_CONN_FAILED:
		/* connect() found no free port: it fails before a port is there. */
		if (!c->sk_err)
			s = c->local_port ? "CLOSED_BY_OWNER" : "EADDRNOTAVAIL";
		else
			s = errno_name(c->sk_err);
		break;
	case HF_EVENT_CONN_DROPPED:
	case HF_EVENT_CONN_RESET_RECEIVED:
		s = errno_name(c->sk_err);
		break;
	case HF_EVENT_CONN_CLOSED:
		s = c->closed_by == HF_CLOSED_BY_PEER ? "FIN_RECEIVED" : "FIN_SENT";
		break;
	case HF_EVENT_CONN_RETRANSMIT:
		s = errno_name(positive(c->sk_err));
		break;
	case HF_EVENT_NONE:
	case HF_EVENT_PROC_EXIT:
	case HF_EVENT_PROC_OOM:
	case HF_EVENT_TELEMETRY_LOSS:
	case _HF_EVENT_KIND_MAX:
		break;
	}
	d->event.reason = text_of(s);
}

static void put_peer(struct hf_decoded *d, const struct hf_conn *c)
{
	put_address(d, c->family, c->peer_addr);
}

static void put_leftovers(struct hf_decoded *d, const struct hf_conn *c)
{
	const char *join = " with";

	if (c->unacked_bytes) {
		put_text(d, join);
		put_bytes_clause(d, c->unacked_bytes, "unacknowledged");
		join = " and";
	}
	if (c->unsent_bytes) {
		put_text(d, join);
		put_bytes_clause(d, c->unsent_bytes, "unsent");
		join = " and";
	}
	if (c->unread_bytes) {
		put_text(d, join);
		put_bytes_clause(d, c->unread_bytes, "unread");
	}
}

static void detail_failed(struct hf_decoded *d, const struct hf_conn *c)
{
	if (!c->sk_err && !c->local_port) {
		put_text(d, "no free local port");
		return;
	}
	if (!c->sk_err)
		put_text(d, "given up by its owner");
	else if (c->sk_err == ECONNREFUSED)
		put_text(d, "refused by ");
	else if (c->sk_err == ETIMEDOUT)
		put_text(d, "no answer from ");
	else {
		put_text(d, strerrordesc_np(c->sk_err) ? strerrordesc_np(c->sk_err) : "error");
		put_text(d, ": ");
	}
	if (c->sk_err)
		put_peer(d, c);
	if (c->age_ns) {
		put_text(d, " after ");
		put_duration(d, c->age_ns);
	}
	if (c->retransmits) {
		put_text(d, ", ");
		put_number(d, c->retransmits + 1);
		put_text(d, " SYNs sent");
	}
}

static void detail_dropped(struct hf_decoded *d, const struct hf_conn *c)
{
	switch (c->timeout_kind) {
	case HF_TIMEOUT_KEEPALIVE:
		put_number(d, c->probes_out);
		put_text(d, " keepalive probes unanswered by ");
		break;
	case HF_TIMEOUT_USER:
		put_text(d, "no acknowledgement for ");
		put_duration(d, c->user_timeout_ms * HF_NS_PER_MS);
		put_text(d, " (TCP_USER_TIMEOUT) from ");
		break;
	case HF_TIMEOUT_RTO:
		put_number(d, c->retransmits_now);
		put_text(d, " retransmits unanswered by ");
		break;
	case HF_TIMEOUT_ZERO_WINDOW:
		put_text(d, "window kept shut by ");
		break;
	default:
		put_text(d, c->sk_err > 0 && c->sk_err < 4096 && strerrordesc_np(c->sk_err)
				    ? strerrordesc_np(c->sk_err)
				    : "error");
		put_text(d, ": ");
	}
	put_peer(d, c);
	put_leftovers(d, c);
}

static void detail_reset_sent(struct hf_decoded *d, const struct hf_event_header *h,
			      const struct hf_conn *c)
{
	if (h->flags & HF_EVENT_F_NO_SOCKET) {
		if (c->state == TCP_STATE_LISTEN) {
			put_text(d, "refused by the listener, ");
			put_number(d, c->backlog);
			put_text(d, " of ");
			put_number(d, c->backlog_max);
			put_text(d, " waiting");
		} else {
			put_text(d, "no such connection, nobody listens on port ");
			put_number(d, c->local_port);
		}
		return;
	}
	put_text(d, c->sock_flags & HF_SOCK_F_ABORTED ? "closed" : "reset sent");
	if (c->sock_flags & HF_SOCK_F_ABORTED && !c->unread_bytes)
		put_text(d, " at once (linger 0)");
	put_leftovers(d, c);
}

static void conn_detail(struct hf_decoded *d)
{
	const struct hf_event_header *h = &d->raw.header;
	const struct hf_conn *c = &d->raw.conn.conn;
	char *t = begin(d);

	switch ((enum hf_event_kind)h->kind) {
	case HF_EVENT_CONN_FAILED:
		detail_failed(d, c);
		break;
	case HF_EVENT_CONN_DROPPED:
		detail_dropped(d, c);
		break;
	case HF_EVENT_CONN_RESET_RECEIVED:
		put_text(d, "reset received from ");
		put_peer(d, c);
		put_leftovers(d, c);
		break;
	case HF_EVENT_CONN_RESET_SENT:
		detail_reset_sent(d, h, c);
		break;
	case HF_EVENT_CONN_CLOSED:
		put_text(d, c->closed_by == HF_CLOSED_BY_PEER ? "closed by the peer" : "closed");
		if (c->age_ns) {
			put_text(d, " after ");
			put_duration(d, c->age_ns);
		}
		put_leftovers(d, c);
		break;
	case HF_EVENT_CONN_RETRANSMIT:
		if (c->sk_err) {
			put_text(d, "cannot send again: ");
			put_text(d, errno_name(positive(c->sk_err)));
		} else {
			put_number(d, c->retransmits_now);
			put_text(d, " retransmits unanswered by ");
			put_peer(d, c);
		}
		put_leftovers(d, c);
		break;
	case HF_EVENT_SKB_DROP:
		put_number(d, h->weight);
		put_text(d, h->weight == 1 ? " packet dropped" : " packets dropped");
		break;
	case HF_EVENT_NONE:
	case HF_EVENT_PROC_EXIT:
	case HF_EVENT_PROC_OOM:
	case HF_EVENT_TELEMETRY_LOSS:
	case _HF_EVENT_KIND_MAX:
		break;
	}
	d->event.detail = finish(d, t);
}

static void decode_conn(const struct hf_kernel_info *i, struct hf_decoded *d)
{
	struct hf_conn *c = &d->raw.conn.conn;
	int32_t err = positive(c->sk_err);

	decode_owner(d, &d->raw.conn.owner);
	d->event.netns = c->netns;
	d->event.local = address_port(d, c->family, c->local_addr, c->local_port);
	d->event.peer = address_port(d, c->family, c->peer_addr, c->peer_port);
	conn_reason(i, d);
	conn_detail(d);

	bus__conn_info__init(&d->conn);
	d->conn.cookie = c->cookie;
	d->conn.state = text_of(NAME(state_names, c->state, ""));
	d->conn.err = err;
	d->conn.err_name = text_of(errno_name(err));
	d->conn.age_us = c->age_ns / HF_NS_PER_US;
	d->conn.bytes_sent = c->bytes_acked;
	d->conn.bytes_received = c->bytes_received;
	d->conn.unread = c->unread_bytes;
	d->conn.unacked = c->unacked_bytes;
	d->conn.unsent = c->unsent_bytes;
	d->conn.srtt_us = c->srtt_us;
	d->conn.retransmits = d->raw.header.kind == HF_EVENT_CONN_RETRANSMIT ? c->retransmits_now
									     : c->retransmits;
	d->conn.timeout = text_of(NAME(timeout_names, c->timeout_kind, ""));
	d->conn.closed_first = text_of(NAME(closed_names, c->closed_by, ""));
	d->event.conn = &d->conn;
	if (d->raw.header.kind == HF_EVENT_SKB_DROP) {
		bus__drop_info__init(&d->drop);
		d->drop.count = d->raw.header.weight;
		d->event.drop = &d->drop;
	}
}

static void put_sender(struct hf_decoded *d, const struct hf_sender *s, bool self)
{
	if (!s->boot_ns)
		return;
	if (self) {
		put_text(d, " by itself");
	} else if (s->pid) {
		put_text(d, " from pid ");
		put_number(d, s->pid);
		put_text(d, " '");
		put_text(d, s->comm);
		put_text(d, "' (uid ");
		put_number(d, s->uid);
		put(d, ')');
	} else if (s->si_code > 0) {
		put_text(d, " from the kernel");
	}
}

static void decode_exit(struct hf_decoded *d)
{
	struct hf_exit *x = &d->raw.exit.exit;
	uint32_t signal = x->status & 0x7f;
	char *t;

	decode_owner(d, &d->raw.exit.owner);
	terminate(x->sender.comm, sizeof(x->sender.comm));
	hf_sanitize(x->sender.comm);
	d->event.netns = x->netns;

	bus__exit_info__init(&d->exit);
	d->exit.code = signal ? -1 : (int32_t)(x->status >> 8 & 0xff);
	d->exit.signal = (int32_t)signal;
	d->exit.core = x->status & 0x80;
	d->exit.oom = x->oom;
	d->exit.runtime_ms = x->runtime_ns / HF_NS_PER_MS;
	d->exit.ppid = x->ppid;
	d->exit.threads = x->threads;
	if (signal && x->sender.boot_ns) {
		d->exit.by_pid = x->sender.pid;
		d->exit.by_uid = x->sender.uid;
		d->exit.by_comm = foreign(d, x->sender.comm, sizeof(x->sender.comm));
	}
	d->event.exit = &d->exit;

	if (signal) {
		t = begin(d);
		put_signal(d, signal);
		d->event.reason = finish(d, t);
	}
	t = begin(d);
	if (signal) {
		put_signal(d, signal);
		if (x->oom)
			put_text(d, " by the OOM killer");
		else
			put_sender(d, &x->sender, x->sender.pid == d->event.pid);
		if (d->exit.core)
			put_text(d, ", core dumped");
	} else {
		put_text(d, "exited with status ");
		put_number(d, (uint64_t)d->exit.code);
	}
	put_text(d, " after ");
	put_duration(d, x->runtime_ns);
	d->event.detail = finish(d, t);
}

static void decode_oom(struct hf_decoded *d)
{
	struct hf_oom *o = &d->raw.oom.oom;
	char *t;

	decode_owner(d, &d->raw.oom.owner);
	terminate(o->invoker_comm, sizeof(o->invoker_comm));
	hf_sanitize(o->invoker_comm);
	d->event.netns = o->netns;
	bus__oom_info__init(&d->oom);
	d->oom.total_vm_kb = o->total_vm_kib;
	d->oom.rss_kb = o->anon_rss_kib + o->file_rss_kib + o->shmem_rss_kib;
	d->oom.oom_score_adj = o->oom_score_adj;
	d->oom.memcg = d->event.cgroup;
	d->event.oom = &d->oom;

	t = begin(d);
	put_text(d, "chosen by the OOM killer, ");
	put_number(d, d->oom.rss_kb);
	put_text(d, " kB resident; memory was asked for by pid ");
	put_number(d, o->invoker_pid);
	put_text(d, " '");
	put_text(d, o->invoker_comm);
	put(d, '\'');
	d->event.detail = finish(d, t);
}

static void decode_loss(struct hf_decoded *d)
{
	struct hf_loss *l = &d->raw.loss.loss;
	char *t;

	decode_owner(d, &d->raw.loss.owner);
	bus__loss_info__init(&d->loss);
	d->loss.count = l->count;
	d->loss.cause = text_of(l->cause == HF_LOSS_THROTTLED ? "throttled" : "");
	d->event.loss = &d->loss;
	d->event.reason = d->loss.cause;

	t = begin(d);
	put_number(d, l->count);
	put_text(d, " events withheld, the last a ");
	put_text(d, NAME(kind_names, l->kind, "?"));
	put_text(d, ": too many from one cgroup");
	d->event.detail = finish(d, t);
}

static void begin_event(struct hf_decoded *d, const struct hf_event_header *h,
			int64_t realtime_offset_ns)
{
	d->used = 0;
	bus__event__init(&d->event);
	d->event.boot_ns = h->boot_ns;
	d->event.time_unix_ns = h->boot_ns + (uint64_t)realtime_offset_ns;
	d->event.kind = text_of(kind_names[h->kind]);
	d->event.ring = text_of(ring_names[h->ring]);
	d->event.cpu = h->cpu;
	d->event.seq = h->seq;
	d->event.watched = h->flags & HF_EVENT_F_WATCHED;
	d->event.owner_src = text_of("none");
}

static size_t size_of(uint32_t kind)
{
	switch ((enum hf_event_kind)kind) {
	case HF_EVENT_CONN_FAILED:
	case HF_EVENT_CONN_RESET_RECEIVED:
	case HF_EVENT_CONN_RESET_SENT:
	case HF_EVENT_CONN_DROPPED:
	case HF_EVENT_CONN_CLOSED:
	case HF_EVENT_CONN_RETRANSMIT:
	case HF_EVENT_SKB_DROP:
		return sizeof(struct hf_conn_event);
	case HF_EVENT_PROC_EXIT:
		return sizeof(struct hf_exit_event);
	case HF_EVENT_PROC_OOM:
		return sizeof(struct hf_oom_event);
	case HF_EVENT_TELEMETRY_LOSS:
		return sizeof(struct hf_loss_event);
	case HF_EVENT_NONE:
	case _HF_EVENT_KIND_MAX:
		break;
	}
	return 0;
}

int hf_kernel_decode(const struct hf_kernel_info *i, const void *record, size_t len,
		     int64_t realtime_offset_ns, struct hf_decoded *ret)
{
	const struct hf_event_header *h = &ret->raw.header;

	if (len < sizeof(*h) || len > sizeof(ret->raw))
		return -EBADMSG;
	memcpy(&ret->raw, record, len);
	if (h->len != len || h->kind >= _HF_EVENT_KIND_MAX || len != size_of(h->kind) ||
	    h->ring >= _HF_RING_MAX)
		return -EBADMSG;

	begin_event(ret, h, realtime_offset_ns);
	switch ((enum hf_event_kind)h->kind) {
	case HF_EVENT_CONN_FAILED:
	case HF_EVENT_CONN_RESET_RECEIVED:
	case HF_EVENT_CONN_RESET_SENT:
	case HF_EVENT_CONN_DROPPED:
	case HF_EVENT_CONN_CLOSED:
	case HF_EVENT_CONN_RETRANSMIT:
	case HF_EVENT_SKB_DROP:
		decode_conn(i, ret);
		break;
	case HF_EVENT_PROC_EXIT:
		decode_exit(ret);
		break;
	case HF_EVENT_PROC_OOM:
		decode_oom(ret);
		break;
	case HF_EVENT_TELEMETRY_LOSS:
		decode_loss(ret);
		break;
	case HF_EVENT_NONE:
	case _HF_EVENT_KIND_MAX:
		return -EBADMSG;
	}
	return 0;
}

void hf_kernel_decode_gap(enum hf_ring_id ring, uint32_t cpu, uint64_t first, uint64_t last,
			  uint64_t now_boot_ns, int64_t realtime_offset_ns, struct hf_decoded *ret)
{
	struct hf_event_header h = {
		.boot_ns = now_boot_ns,
		.seq = last,
		.kind = HF_EVENT_TELEMETRY_LOSS,
		.cpu = cpu,
		.ring = ring,
	};
	char *t;

	hf_assert(ring < _HF_RING_MAX);
	begin_event(ret, &h, realtime_offset_ns);
	bus__loss_info__init(&ret->loss);
	ret->loss.count = last - first + 1;
	ret->loss.first_seq = first;
	ret->loss.last_seq = last;
	ret->loss.cause = text_of("ring_full");
	ret->event.loss = &ret->loss;
	ret->event.reason = ret->loss.cause;
	t = begin(ret);
	put_number(ret, ret->loss.count);
	put_text(ret, " events lost: no room on the ");
	put_text(ret, ring_names[ring]);
	put_text(ret, " ring");
	ret->event.detail = finish(ret, t);
}

void hf_kernel_decode_blind(uint64_t ms, uint64_t now_boot_ns, int64_t realtime_offset_ns,
			    struct hf_decoded *ret)
{
	struct hf_event_header h = {.boot_ns = now_boot_ns, .kind = HF_EVENT_TELEMETRY_LOSS};
	char *t;

	begin_event(ret, &h, realtime_offset_ns);
	bus__loss_info__init(&ret->loss);
	ret->loss.blind_ms = ms;
	ret->loss.cause = text_of("no_consumer");
	ret->event.ring = text_of("agent");
	ret->event.loss = &ret->loss;
	ret->event.reason = ret->loss.cause;
	t = begin(ret);
	put_text(ret, "nobody read the kernel's events for ");
	put_number(ret, ms);
	put_text(ret, " ms; what the rings had no room for is told apart");
	ret->event.detail = finish(ret, t);
}
