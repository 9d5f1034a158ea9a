/* SPDX-License-Identifier: Apache-2.0 */
/* What others saw of the session: the kernel, rtnetlink, TCP_INFO, the clock. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/str.h"
#include "userspace/agent/channel_private.h"
#include "userspace/agent/netlink.h"

#define TCP_CHECK_NS          (500 * HF_NS_PER_MS)
#define TCP_CHECK_RETRANSMITS 2u
#define AWAY_MAX_MS           60000u
/* As many as kicks may be: a network that flaps makes no more dials than that. */
#define KICK_LATER_NS (10 * HF_NS_PER_S)

/*
 * Where the kernel's retransmit event cannot help (no eBPF, or a local firewall swallows the segment
 * before the tracepoint), TCP_INFO does: looked at only while something is unacknowledged.
 */
void hf_channel_check_tcp_soon(struct hf_channel *ch)
{
	if (ch->tcp_check_armed || !ch->session)
		return;
	ch->tcp_check_armed = true;
	hf_channel_arm(ch->tcp_check, TCP_CHECK_NS);
}

int hf_channel_on_suspect(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	struct hf_link_tcp tcp;

	(void)s;
	(void)usec;
	if (!ch->session)
		return 0;
	ch->ev.suspect_over = true;
	ch->ev.tcp_acked = hf_link_tcp(hf_session_link(ch->session), &tcp) && tcp.unacked == 0;
	ch->ev.through_proxy = hf_target_proxy(ch->target) != NULL;
	hf_channel_handle(ch, HF_EV_SUSPECT_OVER, NULL);
	return 0;
}

int hf_channel_on_tcp_check(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct hf_channel *ch = HF_CAST(userdata, struct hf_channel, HF_CHANNEL_MAGIC);
	struct hf_link_tcp tcp;

	(void)s;
	(void)usec;
	ch->tcp_check_armed = false;
	if (!ch->session || !hf_link_tcp(hf_session_link(ch->session), &tcp) || tcp.unacked == 0)
		return 0;
	if (tcp.retransmits >= TCP_CHECK_RETRANSMITS)
		hf_channel_handle(ch, HF_EV_SUSPICION, "sent data is not acknowledged (TCP_INFO)");
	hf_channel_check_tcp_soon(ch);
	return 0;
}

/*
 * Later, smaller segments were received (SACK) while the large one before them is retransmitted: the
 * path has become narrower and its ICMP does not reach us. The racing dial already heals it.
 *
 * Mostly nothing is behind the large one, since TCP sends nothing more until that is through. Then the
 * race finds out: its first message is made as long as it can be, so that large segments and a small
 * one after them go over the same path (see on_probe() in attempt.c).
 */
void hf_channel_suspect_path_mtu(struct hf_channel *ch)
{
	struct hf_link_tcp tcp;

	if (!hf_link_tcp(hf_session_link(ch->session), &tcp) || tcp.unacked == 0 ||
	    tcp.snd_mss <= HF_ATTEMPT_SAFE_MSS)
		return;
	if (tcp.sacked == 0) {
		ch->self->config_sent = false;
		return;
	}
	ch->ev.pmtu = true;
	ch->max_segment = HF_ATTEMPT_SAFE_MSS;
}

bool hf_channel_kernel(struct hf_channel *ch, uint64_t cookie, const struct hf_kernel_fact *fact,
		       const uint8_t *event, size_t len)
{
	char why[128];

	if (ch->session && hf_session_cookie(ch->session) == cookie) {
		hf_evidence_add_kernel(&ch->ev, fact, event, len);
		switch (fact->word) {
		case HF_KERNEL_SAID_RETRANSMIT:
		case HF_KERNEL_SAID_SKB_DROP:
			hf_strf(why, sizeof(why),
				"the kernel reports %s on our socket (%u bytes unacknowledged)",
				fact->word == HF_KERNEL_SAID_RETRANSMIT ? "retransmits"
									: "a dropped packet",
				fact->unacked);
			/* A single dropped packet is TCP's daily life; one a firewall eats is not. */
			if (fact->word == HF_KERNEL_SAID_RETRANSMIT || ch->ev.firewall_drop)
				hf_channel_handle(ch, HF_EV_SUSPICION, why);
			break;
		case HF_KERNEL_SAID_CLOSED:
		case HF_KERNEL_SAID_DROPPED:
		case HF_KERNEL_SAID_RESET_SENT:
		case HF_KERNEL_SAID_RESET_RECEIVED:
			/* Read what is still there (a close frame) and then the error itself. */
			hf_session_poke(ch->session);
			break;
		case HF_KERNEL_SAID_NOTHING:
		case _HF_KERNEL_SAID_MAX:
			break;
		}
		return true;
	}
	if (hf_loss_late_kernel(ch->loss, cookie, fact, event, len))
		return true;
	if (ch->attempt && fact->word != HF_KERNEL_SAID_RETRANSMIT)
		hf_attempt_poke(ch->attempt, cookie);
	return false;
}

/* Try now, or, where that was done just before, soon. */
static void kick(struct hf_channel *ch, const char *why)
{
	uint64_t now = hf_now_monotonic_ns();

	if (hf_backoff_kick(&ch->backoff, now)) {
		hf_channel_handle(ch, HF_EV_KICK, why);
	} else if (ch->session) {
		hf_session_probe(ch->session);
	} else if (ch->retry_at_ns > now + KICK_LATER_NS &&
		   (ch->machine.state == HF_CH_BACKOFF || ch->machine.state == HF_CH_CLOCK_BAD)) {
		ch->retry_at_ns = now + KICK_LATER_NS;
		hf_channel_arm(ch->retry, KICK_LATER_NS);
	}
}

void hf_channel_network_changed(struct hf_channel *ch, const struct hf_net_table *t)
{
	struct sockaddr_storage local = {}, peer = {}, source = {};
	socklen_t local_len = sizeof(local), peer_len = sizeof(peer);
	int fd, r;

	if (!ch->session) {
		ch->max_segment = 0; /* another path may be wider */
		kick(ch, "the network changed");
		return;
	}
	fd = hf_link_fd(hf_session_link(ch->session));
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return; /* the socket's own error comes by itself */
	switch (hf_net_table_check(t, (struct sockaddr *)&local, ch->ev.net_text,
				   sizeof(ch->ev.net_text))) {
	case HF_NET_LINK_DOWN:
		ch->ev.net = HF_NET_SAID_LINK_DOWN;
		hf_channel_handle(ch, HF_EV_LOST, NULL);
		return;
	case HF_NET_ADDRESS_GONE:
		ch->ev.net = HF_NET_SAID_ADDRESS_LOST;
		hf_channel_handle(ch, HF_EV_LOST, NULL);
		return;
	case HF_NET_FINE:
	case HF_NET_UNKNOWN:
		break;
	}
	r = hf_net_source_for((struct sockaddr *)&peer, peer_len, &source);
	if (r == -ENETUNREACH || r == -EHOSTUNREACH || r == -EACCES) {
		ch->ev.net = HF_NET_SAID_NO_ROUTE;
		hf_strf(ch->ev.net_text, sizeof(ch->ev.net_text), "no route to %s any more: %s",
			ch->peer, strerror(-r));
		hf_channel_handle(ch, HF_EV_LOST, NULL);
	} else if (r >= 0 &&
		   !hf_net_same_address((struct sockaddr *)&source, (struct sockaddr *)&local) &&
		   hf_backoff_kick(&ch->backoff, hf_now_monotonic_ns())) {
		/* Counts only if the session does not prove itself. */
		ch->ev.net = HF_NET_SAID_NO_ROUTE;
		hf_strf(ch->ev.net_text, sizeof(ch->ev.net_text),
			"the route to %s now leaves from another address than %s", ch->peer,
			ch->local);
		hf_channel_handle(ch, HF_EV_KICK, ch->ev.net_text);
	}
}

void hf_channel_leave(struct hf_channel *ch, enum hf_cause cause)
{
	char why[120];

	if (ch->stopping || (ch->away && ch->machine.state == HF_CH_HELD))
		return;
	hf_strf(why, sizeof(why), "%s: %s", hf_cause_name(cause), hf_cause_text(cause));
	if (ch->session) {
		ch->ev.leaving = cause;
		hf_session_goodbye(ch->session, hf_cause_name(cause));
	}
	/* A host that changes its mind without a word must not stay away. */
	ch->wait_ms = AWAY_MAX_MS;
	ch->spread_ms = 0;
	hf_channel_handle(ch, HF_EV_HOLD, why);
	ch->away = ch->machine.state == HF_CH_HELD;
}

void hf_channel_back(struct hf_channel *ch)
{
	if (!ch->away)
		return;
	ch->away = false;
	if (ch->machine.state == HF_CH_HELD)
		hf_channel_handle(ch, HF_EV_DUE, "the host is back");
}

void hf_channel_resumed(struct hf_channel *ch, uint64_t slept_ms)
{
	char slept[32], why[96];

	hf_format_duration(slept_ms * HF_NS_PER_MS, slept, sizeof(slept));
	hf_strf(why, sizeof(why), "this host slept for %s", slept);
	if (ch->session) {
		ch->ev.suspended = true;
		ch->ev.suspended_ms = slept_ms;
	}
	kick(ch, why);
	hf_channel_back(ch);
}

void hf_channel_clock_set(struct hf_channel *ch)
{
	if (ch->machine.state == HF_CH_CLOCK_BAD)
		kick(ch, "the clock was set");
}

void hf_channel_last_exit(struct hf_channel *ch, const struct hf_sup_last_exit *e)
{
	hf_loss_last_exit(ch->loss, e);
}
