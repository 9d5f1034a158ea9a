/* SPDX-License-Identifier: Apache-2.0 */
/* The consumer of both rings. */
#include "userspace/agent/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/str.h"
#include "userspace/agent/budget.h"
#include "userspace/agent/kernel_decode.h"
#include "userspace/agent/kernel_join.h"
#include "userspace/agent/sockdiag.h"
#include "userspace/proto/frame.h"

#define EVENTS_MAGIC     0x544e5645u
#define POLL_US          100000u /* DESIGN section 5: the bulk ring's timer */
#define POLL_ACCURACY_US 20000u
/*
 * Each time nothing was there the next look is twice as far away, up to this: an idle host sleeps.
 * With the other timers of a second, one wakeup serves them all.
 */
#define POLL_IDLE_US          1000000u
#define POLL_IDLE_ACCURACY_US 250000u
#define BATCH_RECORDS         64u
#define BATCHES_PER_WAKE      16u
/* A full bulk ring of the largest size holds fewer records. */
#define DRAIN_WAKES_MAX 256u
/* Marks that wait for the spool; more are merged into the newest. */
#define COMMITS_MAX       256u
#define REALTIME_EVERY_NS HF_NS_PER_S

struct commit {
	enum hf_ring_id ring;
	uint64_t mark, ticket;
};

struct hf_events {
	unsigned magic;
	sd_event *event;
	struct hf_spool *spool;
	const struct hf_config *config;
	struct hf_events_callbacks cb;
	void *userdata;

	struct hf_rings *rings;
	uint64_t map_ids[_HF_RING_MAX];
	struct hf_kernel_info *info;
	enum hf_sup_assist assist;
	sd_event_source *urgent, *bulk, *poll, *again;

	struct hf_sockdiag *fallback; /* only while there are no rings */
	int fallback_error;

	struct hf_recent *recent;
	struct hf_tally *tally;
	struct hf_ringlog *log;   /* borrowed */
	struct hf_budget *budget; /* in log */
	struct hf_decoded decoded;
	struct hf_join *join;
	char because[HF_JOIN_TEXT_MAX];
	struct hf_buf packed;
	int64_t realtime_offset_ns;
	uint64_t realtime_read_ns;

	/* The batch being read: copies, since the ring's memory is the kernel's. */
	union hf_event_any batch[BATCH_RECORDS];
	size_t batch_len[BATCH_RECORDS];
	unsigned n_batch;

	struct commit commits[COMMITS_MAX];
	unsigned n_commits;
	uint64_t last_ticket, settled_ticket;

	uint64_t lost, read, malformed;
	uint64_t poll_us, read_at_poll;
};

/* ---- one event to everybody ------------------------------------------------------------------- */

static bool kind_is_sent(const struct hf_events *e, const char *kind)
{
	const struct hf_config_list *l = &e->config->telemetry.kinds;

	for (size_t i = 0; i < l->n; i++) {
		if (hf_streq(l->items[i], kind))
			return true;
	}
	return false;
}

static void spool_packed(struct hf_events *e, enum hf_spool_priority prio)
{
	uint64_t ticket;
	/* -ENOBUFS is a gap that the spool itself counts and tells the portal. */
	int r = hf_spool_append(e->spool, prio, e->packed.data, e->packed.len, &ticket);

	if (r >= 0 || r == -ENOBUFS || r == -EMSGSIZE)
		e->last_ticket = ticket;
}

/* A record of the rings: ringlog.h has the order. h is NULL for what we say ourselves. */
static void spool_record(struct hf_events *e, const struct hf_event_header *h,
			 enum hf_spool_priority prio)
{
	if (h)
		hf_ringlog_begin(e->log, h->ring, h->cpu, h->seq, h->boot_ns);
	spool_packed(e, prio);
	if (h)
		hf_ringlog_appended(e->log, e->last_ticket);
}

static void emit_aggregate(Bus__Event *ev, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	e->packed.len = 0;
	if (hf_pb_pack(&ev->base, &e->packed) >= 0)
		spool_packed(e, HF_SPOOL_LOW);
}

static bool pack(struct hf_events *e, Bus__Event *ev)
{
	e->packed.len = 0;
	return hf_pb_pack(&ev->base, &e->packed) >= 0;
}

/* ev is packed already. */
static void distribute(struct hf_events *e, const Bus__Event *ev, const struct hf_event_header *h,
		       enum hf_spool_priority prio)
{
	hf_tally_add(e->tally, ev);
	hf_recent_add(e->recent, e->packed.data, e->packed.len);
	e->cb.publish(e->packed.data, e->packed.len, e->userdata);
	if (!kind_is_sent(e, ev->kind))
		return;
	/* Loss marks and our own channel's events are few and always leave. */
	if (ev->watched || ev->loss || hf_budget_take(e->budget, ev, hf_now_monotonic_ns()))
		spool_record(e, h, prio);
}

static void refresh_realtime(struct hf_events *e)
{
	uint64_t now = hf_now_boottime_ns();

	if (e->realtime_read_ns && now - e->realtime_read_ns < REALTIME_EVERY_NS)
		return;
	e->realtime_offset_ns = (int64_t)hf_now_realtime_ns() - (int64_t)now;
	e->realtime_read_ns = now;
}

/* ---- our own socket --------------------------------------------------------------------------- */

static enum hf_kernel_word word_of(uint32_t kind)
{
	switch (kind) {
	case HF_EVENT_CONN_RESET_RECEIVED:
		return HF_KERNEL_SAID_RESET_RECEIVED;
	case HF_EVENT_CONN_RESET_SENT:
		return HF_KERNEL_SAID_RESET_SENT;
	case HF_EVENT_CONN_DROPPED:
	case HF_EVENT_CONN_FAILED:
		return HF_KERNEL_SAID_DROPPED;
	case HF_EVENT_CONN_CLOSED:
		return HF_KERNEL_SAID_CLOSED;
	case HF_EVENT_CONN_RETRANSMIT:
		return HF_KERNEL_SAID_RETRANSMIT;
	case HF_EVENT_SKB_DROP:
		return HF_KERNEL_SAID_SKB_DROP;
	}
	return HF_KERNEL_SAID_NOTHING;
}

static void tell_socket(struct hf_events *e, const union hf_event_any *raw, size_t len)
{
	const struct hf_conn *c = &raw->conn.conn;
	struct hf_kernel_fact fact = {
		.word = word_of(raw->header.kind),
		.boot_ns = raw->header.boot_ns,
	};
	Bus__Event *ev = &e->decoded.event;

	if (fact.word == HF_KERNEL_SAID_NOTHING || len < sizeof(raw->conn) || !c->cookie)
		return;
	fact.err = c->sk_err < 0 ? -c->sk_err : c->sk_err;
	fact.unacked = c->unacked_bytes;
	fact.unread = c->unread_bytes;
	fact.retransmits = c->retransmits_now ? c->retransmits_now : c->retransmits;
	fact.closed_by_local = c->closed_by == HF_CLOSED_BY_LOCAL;
	if (hf_kernel_decode(e->info, raw, len, e->realtime_offset_ns, &e->decoded) < 0 ||
	    !pack(e, ev)) {
		e->cb.socket(c->cookie, &fact, NULL, 0, e->userdata);
		return;
	}
	hf_strlcpy(fact.reason, ev->reason, sizeof(fact.reason));
	if (ev->conn)
		hf_strlcpy(fact.timeout, ev->conn->timeout, sizeof(fact.timeout));
	e->cb.socket(c->cookie, &fact, e->packed.data, e->packed.len, e->userdata);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static void on_record(const struct hf_event_header *header, size_t len, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	hf_assert(e->n_batch < BATCH_RECORDS);
	if (len > sizeof(e->batch[0])) {
		e->malformed++;
		return;
	}
	memcpy(&e->batch[e->n_batch], header, len);
	e->batch_len[e->n_batch] = len;
	if (header->flags & HF_EVENT_F_WATCHED)
		tell_socket(e, &e->batch[e->n_batch], len);
	e->n_batch++;
}

static void on_gap(enum hf_ring_id ring, uint32_t cpu, uint64_t first, uint64_t last,
		   void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	e->lost += last - first + 1;
	hf_kernel_decode_gap(ring, cpu, first, last, hf_now_boottime_ns(), e->realtime_offset_ns,
			     &e->decoded);
	if (pack(e, &e->decoded.event))
		distribute(e, &e->decoded.event, NULL, HF_SPOOL_HIGH);
}

/* Through all that an event of its kind goes through, but shown to nobody. */
static bool is_canary(struct hf_events *e, const Bus__Event *ev)
{
	uint64_t nonce = ev->exit ? hf_sup_canary_nonce(ev->comm) : 0;

	if (!nonce || !ev->watched || !pack(e, &e->decoded.event))
		return false;
	e->cb.canary(nonce, ev->exit->ppid, e->userdata);
	return true;
}

static void work_off(struct hf_events *e, enum hf_ring_id ring)
{
	for (unsigned i = 0; i < e->n_batch; i++) {
		if (hf_kernel_decode(e->info, &e->batch[i], e->batch_len[i], e->realtime_offset_ns,
				     &e->decoded) < 0) {
			e->malformed++;
			continue;
		}
		if (is_canary(e, &e->decoded.event))
			continue;
		hf_join_event(e->join, &e->decoded.event, e->because);
		e->decoded.event.because = e->because;
		if (!pack(e, &e->decoded.event)) {
			e->malformed++;
			continue;
		}
		distribute(e, &e->decoded.event, &e->batch[i].header,
			   ring == HF_RING_URGENT ? HF_SPOOL_HIGH : HF_SPOOL_LOW);
		hf_ringlog_done(e->log, ring, e->batch[i].header.cpu, e->batch[i].header.seq);
	}
	e->read += e->n_batch;
	e->n_batch = 0;
}

/* Everything read of the ring so far may be committed once the spool has settled last_ticket. */
static void commit_later(struct hf_events *e, enum hf_ring_id ring)
{
	uint64_t mark = hf_rings_mark(e->rings, ring);
	struct commit *c;

	if (e->last_ticket <= e->settled_ticket && e->n_commits == 0) {
		hf_rings_commit(e->rings, ring, mark);
		return;
	}
	for (unsigned i = e->n_commits; i > 0; i--) {
		c = &e->commits[i - 1];
		if (c->ring == ring &&
		    (c->ticket == e->last_ticket || e->n_commits == COMMITS_MAX)) {
			c->mark = mark;
			c->ticket = e->last_ticket;
			return;
		}
	}
	if (e->n_commits < COMMITS_MAX)
		e->commits[e->n_commits++] =
			(struct commit){.ring = ring, .mark = mark, .ticket = e->last_ticket};
	/* else: all marks are of the other ring; ours goes with the next batch */
}

void hf_events_settled(struct hf_events *e, uint64_t ticket)
{
	unsigned kept = 0;

	e->settled_ticket = ticket;
	hf_ringlog_settled(e->log, ticket);
	for (unsigned i = 0; i < e->n_commits; i++) {
		if (e->commits[i].ticket <= ticket)
			hf_rings_commit(e->rings, e->commits[i].ring, e->commits[i].mark);
		else
			e->commits[kept++] = e->commits[i];
	}
	e->n_commits = kept;
}

bool hf_events_unsettled(const struct hf_events *e)
{
	return e->n_commits > 0;
}

static void poll_in(struct hf_events *e, uint64_t us)
{
	bool idle = us > POLL_US;

	if (idle != (e->poll_us > POLL_US) || !e->poll_us)
		(void)sd_event_source_set_time_accuracy(e->poll, idle ? POLL_IDLE_ACCURACY_US
								      : POLL_ACCURACY_US);
	e->poll_us = us;
	(void)sd_event_source_set_time(e->poll, hf_now_monotonic_ns() / HF_NS_PER_US + us);
	(void)sd_event_source_set_enabled(e->poll, SD_EVENT_ONESHOT);
}

/* Returns true if there may be more. */
static bool read_ring(struct hf_events *e, enum hf_ring_id ring)
{
	const struct hf_rings_handler handler = {
		.record = on_record,
		.gap = on_gap,
		.userdata = e,
	};
	unsigned batches = 0;
	int n;

	refresh_realtime(e);
	do {
		n = hf_rings_read(e->rings, ring, BATCH_RECORDS, &handler);
		if (n <= 0)
			break;
		work_off(e, ring);
		commit_later(e, ring);
	} while (n == (int)BATCH_RECORDS && ++batches < BATCHES_PER_WAKE);
	if (n > 0)
		e->cb.progress(e->read, e->userdata);
	/* Where something happens, more follows. */
	if (n > 0 && e->poll_us > POLL_US)
		poll_in(e, POLL_US);
	return n == (int)BATCH_RECORDS;
}

/* Returns true if there may be more. */
static bool read_both(struct hf_events *e)
{
	bool more;

	if (!e->rings)
		return false;
	more = read_ring(e, HF_RING_URGENT);
	more = read_ring(e, HF_RING_BULK) || more;
	if (more)
		(void)sd_event_source_set_enabled(e->again, SD_EVENT_ONESHOT);
	return more;
}

static int on_urgent(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	(void)s;
	(void)fd;
	(void)revents;
	if (e->rings && read_ring(e, HF_RING_URGENT))
		(void)sd_event_source_set_enabled(e->again, SD_EVENT_ONESHOT);
	return 0;
}

/* An eighth of the ring has filled up since the last time; what is less waits for the timer. */
static int on_bulk(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	(void)s;
	(void)fd;
	(void)revents;
	read_both(e);
	return 0;
}

static int on_again(sd_event_source *s, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	(void)s;
	(void)read_both(e);
	return 0;
}

/* Nobody was there to read for so long. What was lost meanwhile is told by gaps. */
static void tell_blind(struct hf_events *e, uint64_t ns)
{
	uint64_t ms = ns / HF_NS_PER_MS;

	if (!ms)
		return;
	hf_kernel_decode_blind(ms, hf_now_boottime_ns(), e->realtime_offset_ns, &e->decoded);
	if (pack(e, &e->decoded.event))
		distribute(e, &e->decoded.event, NULL, HF_SPOOL_HIGH);
}

static int on_poll(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);
	const struct hf_rings_handler handler = {
		.record = on_record,
		.gap = on_gap,
		.userdata = e,
	};
	uint64_t now = hf_now_monotonic_ns();

	(void)s;
	(void)usec;
	if (e->rings) {
		tell_blind(e, hf_ringlog_alive(e->log, now));
		if (!read_both(e))
			hf_ringlog_caught_up(e->log);
		hf_rings_settle(e->rings, &handler);
	}
	if (hf_budget_due(e->budget, now))
		hf_budget_flush(e->budget, now, emit_aggregate, e);
	if (e->read != e->read_at_poll || e->n_commits > 0)
		poll_in(e, POLL_US);
	else
		poll_in(e, e->poll_us * 2 < POLL_IDLE_US ? e->poll_us * 2 : POLL_IDLE_US);
	e->read_at_poll = e->read;
	return 0;
}

/* ---- without programs --------------------------------------------------------------------------- */

static void on_fallback(struct hf_sockdiag_event *d, void *userdata)
{
	struct hf_events *e = HF_CAST(userdata, struct hf_events, EVENTS_MAGIC);

	d->event.boot_ns = hf_now_boottime_ns();
	d->event.time_unix_ns = hf_now_realtime_ns();
	if (pack(e, &d->event))
		distribute(e, &d->event, NULL, HF_SPOOL_LOW);
}

/* The kernel's other ways to tell are asked exactly while its programs cannot. */
static void choose_source(struct hf_events *e)
{
	if (e->rings) {
		e->fallback = hf_sockdiag_free(e->fallback);
		return;
	}
	if (e->fallback)
		return;
	e->fallback_error = hf_sockdiag_new(e->event, on_fallback, e, &e->fallback);
	if (e->fallback_error < 0)
		hf_warn_r(e->fallback_error, "sock_diag does not tell of closed sockets either");
}

/* ---- the kernel's side ------------------------------------------------------------------------ */

/* The map behind a ring's descriptor, 0 if it cannot be told. */
static uint64_t map_id_of(int fd)
{
	_cleanup_free_ char *text = NULL;
	char path[48];
	uint64_t id = 0;
	size_t len;
	char *p;

	hf_strf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (hf_read_file(AT_FDCWD, path, 4096, &text, &len) < 0)
		return 0;
	p = strstr(text, "map_id:");
	if (!p)
		return 0;
	p += strlen("map_id:");
	p += strspn(p, " \t");
	p[strcspn(p, "\n")] = 0;
	return hf_parse_u64(p, &id) < 0 ? 0 : id;
}

static void unmap(struct hf_events *e)
{
	sd_event_source_disable_unref(e->urgent);
	sd_event_source_disable_unref(e->bulk);
	e->urgent = e->bulk = NULL;
	if (e->rings) {
		/* What is not settled stays uncommitted: whoever maps the ring next reads it again. */
		e->rings = hf_rings_free(e->rings);
	}
	e->n_commits = 0;
	hf_ringlog_away(e->log);
	memset(e->map_ids, 0, sizeof(e->map_ids));
}

static int map_rings(struct hf_events *e, int fds[static _HF_SUP_FD_MAX])
{
	const int ring_fds[_HF_RING_MAX] = {
		[HF_RING_URGENT] = fds[HF_SUP_FD_RING_URGENT],
		[HF_RING_BULK] = fds[HF_SUP_FD_RING_BULK],
	};
	uint64_t ids[_HF_RING_MAX];
	int r;

	for (unsigned i = 0; i < _HF_RING_MAX; i++)
		ids[i] = map_id_of(ring_fds[i]);
	/* A replaced watchdog hands out the same pinned maps: positions and gaps go on. */
	if (e->rings && ids[0] && memcmp(ids, e->map_ids, sizeof(ids)) == 0)
		return 0;
	unmap(e);
	r = hf_rings_new(ring_fds, hf_kernel_info_ring_bytes(e->info), fds[HF_SUP_FD_COUNTERS],
			 hf_kernel_info_cpus(e->info), &e->rings);
	if (r < 0)
		return r;
	fds[HF_SUP_FD_RING_URGENT] = fds[HF_SUP_FD_RING_BULK] = fds[HF_SUP_FD_COUNTERS] = -1;
	memcpy(e->map_ids, ids, sizeof(ids));
	hf_ringlog_resume(e->log, e->rings);
	/* Edge-triggered: the descriptor stays readable until the commit. */
	r = sd_event_add_io(e->event, &e->urgent, hf_rings_fd(e->rings, HF_RING_URGENT),
			    EPOLLIN | EPOLLET, on_urgent, e);
	if (r >= 0)
		r = sd_event_source_set_priority(e->urgent, SD_EVENT_PRIORITY_IMPORTANT);
	/* A flood is read in time: between two runs of the timer the ring may fill more than once. */
	if (r >= 0)
		r = sd_event_add_io(e->event, &e->bulk, hf_rings_fd(e->rings, HF_RING_BULK),
				    EPOLLIN | EPOLLET, on_bulk, e);
	if (r < 0) {
		unmap(e);
		return r;
	}
	(void)sd_event_source_set_description(e->urgent, "urgent ring"); /* for debugging only */
	(void)sd_event_source_set_description(e->bulk, "bulk ring");
	return 0;
}

void hf_events_kernel(struct hf_events *e, enum hf_sup_assist assist,
		      int fds[static _HF_SUP_FD_MAX])
{
	struct hf_kernel_info *info = NULL;
	int r = 0;

	/* If these are new rings, the old ones are read to their end, by what is known of them. */
	for (unsigned i = 0; i < DRAIN_WAKES_MAX && read_both(e); i++)
		;

	if (fds[HF_SUP_FD_INFO] >= 0)
		r = hf_kernel_info_read(fds[HF_SUP_FD_INFO], &info);
	if (r < 0)
		hf_warn_r(r, "read the watchdog's description of the kernel");
	if (info) {
		e->info = hf_kernel_info_free(e->info);
		e->info = info;
	}
	if (assist != HF_SUP_ASSIST_OFF && e->info && fds[HF_SUP_FD_RING_URGENT] >= 0 &&
	    fds[HF_SUP_FD_RING_BULK] >= 0 && fds[HF_SUP_FD_COUNTERS] >= 0) {
		r = map_rings(e, fds);
		if (r < 0)
			hf_error_r(r, "map the kernel's rings, going on without");
	} else {
		unmap(e);
	}
	e->assist = e->rings ? assist : HF_SUP_ASSIST_OFF;
	choose_source(e);
	e->cb.assist_changed(e->userdata);
	(void)read_both(e);
}

/* ---- life ------------------------------------------------------------------------------------- */

int hf_events_new(sd_event *event, struct hf_spool *spool, struct hf_ringlog *log,
		  const struct hf_config *config, const struct hf_events_callbacks *cb,
		  void *userdata, struct hf_events **ret)
{
	_cleanup_(hf_events_freep) struct hf_events *e = calloc(1, sizeof(*e));
	uint64_t seed;
	int r;

	if (!e)
		return -ENOMEM;
	e->magic = EVENTS_MAGIC;
	e->poll_us = POLL_US;
	e->event = sd_event_ref(event);
	e->spool = spool;
	e->config = config;
	e->cb = *cb;
	e->userdata = userdata;
	e->log = log;
	e->budget = hf_ringlog_budget(log);
	hf_budget_configure(e->budget, config->telemetry.max_events_per_s, config->telemetry.burst);
	e->recent = hf_recent_new();
	e->join = hf_join_new();
	hf_random_bytes(&seed, sizeof(seed));
	e->tally = hf_tally_new(seed);
	if (!e->recent || !e->join || !e->tally)
		return -ENOMEM;
	r = sd_event_add_time(event, &e->poll, CLOCK_MONOTONIC, 0, POLL_ACCURACY_US, on_poll, e);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(e->poll, "ring poll"); /* for debugging only */
	r = sd_event_add_defer(event, &e->again, on_again, e);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(e->again, SD_EVENT_OFF);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(e);
	return 0;
}

struct hf_events *hf_events_free(struct hf_events *e)
{
	if (!e)
		return NULL;
	unmap(e);
	e->fallback = hf_sockdiag_free(e->fallback);
	sd_event_source_disable_unref(e->poll);
	sd_event_source_disable_unref(e->again);
	e->info = hf_kernel_info_free(e->info);
	e->recent = hf_recent_free(e->recent);
	e->join = hf_join_free(e->join);
	e->tally = hf_tally_free(e->tally);
	hf_buf_done(&e->packed);
	sd_event_unref(e->event);
	e->magic = 0;
	free(e);
	return NULL;
}

void hf_events_configure(struct hf_events *e, const struct hf_config *config)
{
	e->config = config;
	hf_budget_configure(e->budget, config->telemetry.max_events_per_s, config->telemetry.burst);
}

const char *hf_events_assist(const struct hf_events *e)
{
	static const char *const names[] = {
		[HF_SUP_ASSIST_OFF] = "off",
		[HF_SUP_ASSIST_PARTIAL] = "partial",
		[HF_SUP_ASSIST_EBPF] = "ebpf",
	};

	return e->assist < _HF_SUP_ASSIST_MAX ? names[e->assist] : "off";
}

const char *hf_events_assist_reason(const struct hf_events *e)
{
	return e->info ? hf_kernel_info_reason(e->info) : "the watchdog has not said yet";
}

uint64_t hf_events_lost(const struct hf_events *e)
{
	return e->lost;
}

void hf_events_counts(const struct hf_events *e, uint64_t *ret_read, uint64_t *ret_malformed)
{
	*ret_read = e->read;
	*ret_malformed = e->malformed;
}

const struct hf_recent *hf_events_recent(const struct hf_events *e)
{
	return e->recent;
}

const struct hf_tally *hf_events_tally(const struct hf_events *e)
{
	return e->tally;
}

int64_t hf_events_realtime_offset_ns(struct hf_events *e)
{
	refresh_realtime(e);
	return e->realtime_offset_ns;
}

void hf_events_telemetry(struct hf_events *e, Bus__Telemetry *t, Bus__Program *programs,
			 Bus__Program **pointers, size_t max)
{
	const struct hf_kernel_info_program *p;
	struct hf_rings_totals totals = {};
	struct hf_spool_stats spool = {};
	size_t n = 0;

	bus__telemetry__init(t);
	if (e->rings)
		hf_rings_totals(e->rings, &totals);
	hf_spool_stats(e->spool, &spool);
	t->generated = totals.generated;
	t->delivered = totals.delivered;
	t->in_ring = totals.in_ring;
	t->lost = totals.lost;
	t->filtered = totals.filtered;
	t->throttled = totals.throttled;
	t->spooled = spool.appended;
	t->acked = spool.acked;
	t->blind_ms = hf_ringlog_blind_ns(e->log, hf_now_monotonic_ns()) / HF_NS_PER_MS;
	while (e->info && n < max && (p = hf_kernel_info_program(e->info, n))) {
		bus__program__init(&programs[n]);
		programs[n].name = (char *)p->name;
		programs[n].attached = p->attached;
		programs[n].reason = (char *)p->reason;
		pointers[n] = &programs[n];
		n++;
	}
	if (n < max && (e->fallback || e->fallback_error < 0)) {
		bus__program__init(&programs[n]);
		programs[n].name = (char *)"fallback.sock_diag";
		programs[n].attached = e->fallback != NULL;
		programs[n].reason = (char *)(e->fallback ? "" : strerror(-e->fallback_error));
		pointers[n] = &programs[n];
		n++;
	}
	t->programs = pointers;
	t->n_programs = n;
}
