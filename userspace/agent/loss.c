/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an outage record. */
#include "userspace/agent/loss.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "userspace/proto/frame.h"

#define LOSS_MAGIC        0x53534f4cu
#define TIMER_ACCURACY_US 100u /* 0 would mean 250 ms */
/* The watchdog dials within 100 ms of its own start; two seconds are for a host under load. */
#define LAST_EXIT_WAIT_NS (2 * HF_NS_PER_S)

struct hf_loss {
	unsigned magic;
	struct hf_outages *store;
	sd_event_source *timer;
	void (*finished)(Bus__Outage *rec, void *userdata);
	void *userdata;

	Bus__Outage *rec; /* not finished yet; NULL none */
	struct hf_evidence ev;
	uint64_t cookie;
	uint64_t began_ns, detected_ns, restored_ns; /* CLOCK_BOOTTIME; restored 0: still out */
	bool sealed;
	bool predecessor;       /* the agent or the host had died: no evidence of a socket */
	uint64_t wall_began_ns; /* CLOCK_REALTIME, where a reboot is part of the outage; else 0 */
	char goodbye[32];
	char last_cause[32];
};

static void finish(struct hf_loss *l)
{
	Bus__Outage *rec = l->rec;

	if (!rec || !l->sealed || !l->restored_ns)
		return;
	rec->outage_us =
		l->restored_ns > l->began_ns ? (l->restored_ns - l->began_ns) / HF_NS_PER_US : 0;
	rec->restored_unix_ns = hf_boottime_to_realtime_ns(l->restored_ns);
	if (l->wall_began_ns)
		rec->outage_us = rec->restored_unix_ns > l->wall_began_ns
					 ? (rec->restored_unix_ns - l->wall_began_ns) / HF_NS_PER_US
					 : 0;
	hf_outages_changed(l->store, rec);
	l->rec = NULL;
	l->cookie = 0;
	hf_evidence_done(&l->ev);
	l->finished(rec, l->userdata);
}

static void store_times(struct hf_loss *l)
{
	Bus__Outage *rec = l->rec;

	rec->began_unix_ns = hf_boottime_to_realtime_ns(l->began_ns);
	rec->detected_unix_ns = hf_boottime_to_realtime_ns(l->detected_ns);
	rec->detect_us =
		l->detected_ns > l->began_ns ? (l->detected_ns - l->began_ns) / HF_NS_PER_US : 0;
	if (l->wall_began_ns) {
		rec->began_unix_ns = l->wall_began_ns;
		rec->detect_us = 0; /* no clock of ours spans it */
	}
}

static void store_evidence(struct hf_loss *l)
{
	Bus__Evidence *e = l->rec->evidence;
	const struct hf_evidence *ev = &l->ev;
	int err = ev->kernel.err ? ev->kernel.err : ev->err;

	e->err = err;
	hf_outage_set(&e->err_name, err ? strerrorname_np(err) ?: "" : "");
	hf_outage_set(&e->tls, ev->tls_text);
	hf_outage_set(&e->netlink, ev->net_text);
	e->close_code = ev->close_code ? ev->close_code : ev->violation;
	hf_outage_set(&e->close_reason, ev->close_code ? ev->close_reason : ev->violation_text);
	if (ev->kernel_event && !e->kernel)
		(void)hf_pb_unpack(&bus__event__descriptor, ev->kernel_event, ev->kernel_event_len,
				   &e->kernel); /* without memory the record lacks it */
}

/* The one field that people filter the journal by; the last of the line, see hf_log_pass_on(). */
static void __attribute__((format(printf, 2, 3))) log_cause(const char *cause, const char *fmt, ...)
{
	const struct hf_log_field fields[] = {{"HOLDFAST_CAUSE", cause}, {}};
	va_list ap;

	va_start(ap, fmt);
	hf_logv(HF_LOG_NOTICE, fields, fmt, ap);
	va_end(ap);
}

static void seal(struct hf_loss *l)
{
	struct hf_verdict v;

	if (!l->rec || l->sealed)
		return;
	(void)sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	l->sealed = true;
	if (!l->predecessor) {
		hf_evidence_judge(&l->ev, &v);
		l->began_ns = v.began_boot_ns;
		hf_outage_set(&l->rec->cause, hf_cause_name(v.cause));
		hf_outage_set(&l->rec->detected_by, hf_detector_name(v.by));
		hf_outage_set(&l->rec->detail, v.detail);
		store_evidence(l);
	}
	store_times(l);
	hf_strlcpy(l->last_cause, l->rec->cause, sizeof(l->last_cause));
	log_cause(l->rec->cause, "outage: %s (%s): %s, noticed after %llu us", l->rec->cause,
		  l->rec->detected_by, l->rec->detail, (unsigned long long)l->rec->detect_us);
	hf_outages_changed(l->store, l->rec);
	finish(l);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_loss *l = HF_CAST(userdata, struct hf_loss, LOSS_MAGIC);

	(void)s;
	(void)usec;
	seal(l);
	return 0;
}

static void seal_in(struct hf_loss *l, uint64_t delay_ns)
{
	uint64_t at = (hf_now_monotonic_ns() + delay_ns) / HF_NS_PER_US + 1;

	if (sd_event_source_set_time(l->timer, at) < 0 ||
	    sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT) < 0)
		seal(l);
}

int hf_loss_new(sd_event *event, struct hf_outages *store,
		void (*finished)(Bus__Outage *rec, void *userdata), void *userdata,
		struct hf_loss **ret)
{
	_cleanup_(hf_loss_freep) struct hf_loss *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->magic = LOSS_MAGIC;
	l->store = store;
	l->finished = finished;
	l->userdata = userdata;
	r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_US, on_timer, l);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(l->timer, "outage seal"); /* for debugging only */
	r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

struct hf_loss *hf_loss_free(struct hf_loss *l)
{
	if (!l)
		return NULL;
	sd_event_source_disable_unref(l->timer);
	hf_evidence_done(&l->ev);
	l->magic = 0;
	free(l);
	return NULL;
}

/* Makes room for the next record: what is open is sealed, and over if it was not. */
static void conclude(struct hf_loss *l)
{
	seal(l);
	if (l->rec) {
		l->restored_ns = hf_now_boottime_ns();
		finish(l);
	}
}

struct hf_verdict hf_loss_begin(struct hf_loss *l, struct hf_evidence *ev, uint64_t cookie,
				uint64_t session_epoch)
{
	struct hf_verdict v;

	hf_evidence_judge(ev, &v);
	conclude(l);
	hf_strlcpy(l->last_cause, hf_cause_name(v.cause), sizeof(l->last_cause));
	l->rec = hf_outages_new_record(l->store);
	if (!l->rec) {
		hf_evidence_done(ev);
		(void)hf_log_oom();
		return v;
	}
	l->ev = *ev;
	*ev = (struct hf_evidence){};
	l->cookie = cookie;
	l->sealed = l->predecessor = false;
	l->wall_began_ns = 0;
	l->restored_ns = 0;
	l->began_ns = v.began_boot_ns;
	l->detected_ns = l->ev.noticed_boot_ns;
	l->rec->session_epoch = session_epoch;
	/* A first version for a successor, should we be killed in the next five milliseconds. */
	hf_outage_set(&l->rec->cause, hf_cause_name(v.cause));
	hf_outage_set(&l->rec->detected_by, hf_detector_name(v.by));
	hf_outage_set(&l->rec->detail, v.detail);
	store_times(l);
	hf_outages_changed(l->store, l->rec);
	seal_in(l, HF_EVIDENCE_JOIN_NS);
	return v;
}

bool hf_loss_late_kernel(struct hf_loss *l, uint64_t cookie, const struct hf_kernel_fact *fact,
			 const uint8_t *event, size_t len)
{
	if (!l->rec || l->sealed || l->cookie == 0 || cookie != l->cookie)
		return false;
	/* We close the socket as soon as we give it up; what that sends explains nothing. */
	if (fact->word == HF_KERNEL_SAID_RESET_SENT && fact->boot_ns >= l->ev.noticed_boot_ns)
		return true;
	hf_evidence_add_kernel(&l->ev, fact, event, len);
	return true;
}

uint64_t hf_loss_cookie(const struct hf_loss *l)
{
	return l->rec && !l->sealed ? l->cookie : 0;
}

void hf_loss_attempt(struct hf_loss *l, const Bus__Attempt *a)
{
	if (!l->rec)
		return;
	hf_outage_add_attempt(l->rec, a);
	hf_outages_changed(l->store, l->rec);
}

void hf_loss_hint(struct hf_loss *l, const char *tls, const char *dns, const char *proxy)
{
	Bus__Evidence *e;

	if (!l->rec)
		return;
	e = l->rec->evidence;
	if (tls && tls[0])
		hf_outage_set(&e->tls, tls);
	if (dns && dns[0])
		hf_outage_set(&e->dns, dns);
	if (proxy && proxy[0])
		hf_outage_set(&e->proxy, proxy);
}

void hf_loss_amend(struct hf_loss *l, enum hf_cause from, enum hf_cause to, const char *detail)
{
	if (!l->rec || !l->sealed || !hf_streq(l->rec->cause, hf_cause_name(from)))
		return;
	log_cause(hf_cause_name(to), "outage: %s is %s after all: %s", l->rec->cause,
		  hf_cause_name(to), detail);
	hf_outage_set(&l->rec->cause, hf_cause_name(to));
	hf_outage_set(&l->rec->detail, detail);
	hf_strlcpy(l->last_cause, l->rec->cause, sizeof(l->last_cause));
	hf_outages_changed(l->store, l->rec);
}

void hf_loss_restored(struct hf_loss *l)
{
	if (!l->rec)
		return;
	l->restored_ns = hf_now_boottime_ns();
	finish(l);
}

/* ---- the predecessor -------------------------------------------------------------------------- */

enum hf_cause hf_loss_cause_of_exit(const struct hf_sup_last_exit *e, const char *goodbye)
{
	enum hf_cause said = goodbye && goodbye[0] ? hf_cause_from_name(goodbye) : HF_CAUSE_UNKNOWN;

	if (e->cause >= _HF_EXIT_MAX)
		return said;
	switch ((enum hf_exit_cause)e->cause) {
	case HF_EXIT_KILLED_BY_OPERATOR:
		return HF_CAUSE_AGENT_KILLED;
	case HF_EXIT_OOM:
	case HF_EXIT_LIMIT:
		return HF_CAUSE_AGENT_OOM;
	case HF_EXIT_CRASHED:
	case HF_EXIT_SIGNALLED:
		return HF_CAUSE_AGENT_CRASH;
	case HF_EXIT_HUNG:
		return HF_CAUSE_AGENT_HANG;
	case HF_EXIT_STOPPED_BY_REQUEST:
		return said != HF_CAUSE_UNKNOWN ? said : HF_CAUSE_AGENT_STOPPED;
	case HF_EXIT_EXITED:
		if (said != HF_CAUSE_UNKNOWN)
			return said;
		return e->code == 0 ? HF_CAUSE_AGENT_STOPPED : HF_CAUSE_AGENT_CRASH;
	case HF_EXIT_UNKNOWN:
	case _HF_EXIT_MAX:
		break;
	}
	return said;
}

void hf_loss_from_predecessor(struct hf_loss *l, const struct hf_blackbox_record *b,
			      const uint8_t boot_id[static 16])
{
	bool same_boot = memcmp(b->boot_id, boot_id, 16) == 0;
	enum hf_cause said = b->stopped ? hf_cause_from_name(b->reason) : HF_CAUSE_UNKNOWN;
	uint64_t now = hf_now_boottime_ns();

	l->predecessor = true;
	l->sealed = false;
	l->restored_ns = 0;
	l->detected_ns = now;
	hf_strlcpy(l->goodbye, b->stopped ? b->reason : "", sizeof(l->goodbye));
	l->rec = b->outage_id[0] ? hf_outages_find(l->store, b->outage_id) : NULL;
	if (l->rec && !l->rec->restored_unix_ns) {
		/* It was offline already: the same outage goes on, whatever ended the agent. */
		uint64_t since = hf_now_realtime_ns() - l->rec->began_unix_ns;

		l->began_ns = now > since ? now - since : 0;
		l->detected_ns = l->began_ns + l->rec->detect_us * HF_NS_PER_US;
		l->sealed = true;
		return;
	}
	l->rec = NULL;
	if (!b->session_epoch)
		return;
	l->rec = hf_outages_new_record(l->store);
	if (!l->rec) {
		(void)hf_log_oom();
		return;
	}
	l->rec->session_epoch = b->session_epoch;
	if (same_boot) {
		l->began_ns = b->last_alive_boot_ns < now ? b->last_alive_boot_ns : now;
		hf_outage_set(&l->rec->cause, hf_cause_name(b->stopped ? said : HF_CAUSE_UNKNOWN));
		hf_outage_set(&l->rec->detail,
			      b->stopped ? hf_cause_text(said)
					 : "the agent ended without a goodbye and nobody says why");
	} else {
		/* CLOCK_BOOTTIME began anew: the wall clock is all that spans a reboot. */
		l->wall_began_ns = b->last_alive_real_ns;
		l->began_ns = 0;
		hf_outage_set(&l->rec->cause, hf_cause_name(b->stopped ? said : HF_CAUSE_UNKNOWN));
		hf_outage_set(
			&l->rec->detail,
			b->stopped
				? "the host shut down or rebooted"
				: "the host started anew without a goodbye: power loss, crash or hard reset");
	}
	hf_outage_set(&l->rec->detected_by, hf_detector_name(HF_BY_CLOCK));
	store_times(l);
	hf_outages_changed(l->store, l->rec);
	seal_in(l, same_boot ? LAST_EXIT_WAIT_NS : 0);
}

void hf_loss_last_exit(struct hf_loss *l, const struct hf_sup_last_exit *e)
{
	Bus__ExitRecord *x;
	enum hf_cause cause;
	char by[64] = "", text[HF_SUP_TEXT_MAX + 64], pid[16];

	if (!l->rec || !l->predecessor || l->sealed)
		return;
	cause = hf_loss_cause_of_exit(e, l->goodbye);
	hf_outage_set(&l->rec->cause, hf_cause_name(cause));
	hf_outage_set(&l->rec->detected_by,
		      hf_detector_name(e->from_kernel ? HF_BY_KERNEL : HF_BY_SOCKET));
	if (e->by_pid)
		hf_strf(by, sizeof(by), " (by pid %u, %.15s, uid %u)", e->by_pid, e->by_comm,
			e->by_uid);
	x = calloc(1, sizeof(*x));
	if (x) {
		static const char *const causes[] = {
			[HF_EXIT_UNKNOWN] = "unknown",
			[HF_EXIT_EXITED] = "exited",
			[HF_EXIT_SIGNALLED] = "signalled",
			[HF_EXIT_KILLED_BY_OPERATOR] = "killed_by_operator",
			[HF_EXIT_OOM] = "oom",
			[HF_EXIT_CRASHED] = "crashed",
			[HF_EXIT_HUNG] = "hung",
			[HF_EXIT_LIMIT] = "limit",
			[HF_EXIT_STOPPED_BY_REQUEST] = "stopped_by_request",
		};
		char comm[HF_SUP_COMM_MAX + 1];

		bus__exit_record__init(x);
		hf_outage_set(&x->cause, e->cause < _HF_EXIT_MAX ? causes[e->cause] : "unknown");
		x->pid = e->pid;
		x->code = e->code;
		x->signal = e->signal;
		x->core = e->core;
		x->by_pid = e->by_pid;
		x->by_uid = e->by_uid;
		hf_strf(comm, sizeof(comm), "%.*s", HF_SUP_COMM_MAX, e->by_comm);
		hf_outage_set(&x->by_comm, comm);
		x->exit_to_exec_us = e->exit_to_exec_us;
		x->at_unix_ns = e->at_boot_ns ? hf_boottime_to_realtime_ns(e->at_boot_ns) : 0;
		x->from_kernel = e->from_kernel;
		hf_outage_set(&x->text, e->text);
		if (l->rec->evidence->exit)
			bus__exit_record__free_unpacked(l->rec->evidence->exit, NULL);
		l->rec->evidence->exit = x;
	}
	if (e->at_boot_ns && e->at_boot_ns <= l->detected_ns)
		l->began_ns = e->at_boot_ns;
	/* The watchdog's line usually names the killer; the record always does. */
	hf_strf(pid, sizeof(pid), "%u", e->by_pid);
	hf_strf(text, sizeof(text), "%.*s%s", HF_SUP_TEXT_MAX,
		e->text[0] ? e->text : hf_cause_text(cause),
		e->by_pid && strstr(e->text, pid) ? "" : by);
	hf_sanitize(text);
	hf_outage_set(&l->rec->detail, text);
	seal(l);
}

void hf_loss_stop(struct hf_loss *l)
{
	seal(l);
}

const Bus__Outage *hf_loss_open(const struct hf_loss *l)
{
	return l->rec && !l->restored_ns ? l->rec : NULL;
}

const char *hf_loss_last_cause(const struct hf_loss *l)
{
	return l->last_cause;
}
