/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joins a reset or close with the end of the process that owned the socket: `because`. Bounded: the
 * newest ends only.
 */
#include "kernel_join.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/str.h"

/* A burst that ends more processes than this within the window loses the oldest causes. */
#define EXITS 512
#define PAIRS 512

/* Longer than "[ffff:…]:65535". */
#define ADDRESS_MAX 56

struct ended {
	uint32_t pid;
	uint64_t start_boot_ns;
	uint64_t boot_ns;
	char text[HF_JOIN_TEXT_MAX - 24]; /* room for "… 4999 ms before" */
};

/* A reset that a dying process sent, to be found by the socket that receives it. */
struct pair {
	uint32_t netns;
	uint64_t boot_ns; /* of the exit */
	uint64_t sent_ns;
	char local[ADDRESS_MAX];
	char peer[ADDRESS_MAX];
	uint32_t pid;
	uint64_t start_boot_ns;
};

struct hf_join {
	struct ended exits[EXITS];
	struct pair pairs[PAIRS];
};

struct hf_join *hf_join_new(void)
{
	return calloc(1, sizeof(struct hf_join));
}

struct hf_join *hf_join_free(struct hf_join *j)
{
	free(j);
	return NULL;
}

static struct ended *exit_slot(struct hf_join *j, uint32_t pid, uint64_t start_boot_ns)
{
	uint32_t h =
		hf_crc32c(hf_crc32c(0, &pid, sizeof(pid)), &start_boot_ns, sizeof(start_boot_ns));

	return &j->exits[h % EXITS];
}

static struct pair *pair_slot(struct hf_join *j, uint32_t netns, const char *local,
			      const char *peer)
{
	uint32_t h = hf_crc32c(0, &netns, sizeof(netns));

	h = hf_crc32c(h, local, strlen(local));
	h = hf_crc32c(h, peer, strlen(peer));
	return &j->pairs[h % PAIRS];
}

static void note_exit(struct hf_join *j, const Bus__Event *e)
{
	struct ended *x = exit_slot(j, e->pid, e->start_boot_ns);
	const Bus__ExitInfo *i = e->exit;

	x->pid = e->pid;
	x->start_boot_ns = e->start_boot_ns;
	x->boot_ns = e->boot_ns;
	if (i->oom)
		(void)hf_strf(x->text, sizeof(x->text), "pid %u '%s' was ended by the OOM killer",
			      e->pid, e->comm);
	else if (i->signal && i->by_pid && i->by_pid != e->pid)
		(void)hf_strf(x->text, sizeof(x->text),
			      "pid %u '%s' was killed by %s from pid %u '%s'", e->pid, e->comm,
			      e->reason, i->by_pid, i->by_comm);
	else if (i->signal)
		(void)hf_strf(x->text, sizeof(x->text), "pid %u '%s' was ended by %s", e->pid,
			      e->comm, e->reason);
	else
		(void)hf_strf(x->text, sizeof(x->text), "pid %u '%s' exited with status %d", e->pid,
			      e->comm, i->code);
}

/* Not for what is no end, and not for a connect that failed: its owner's end is no reason. */
static bool is_end(const Bus__Event *e)
{
	return e->conn &&
	       (hf_streq(e->kind, "conn.reset_sent") || hf_streq(e->kind, "conn.reset_received") ||
		hf_streq(e->kind, "conn.closed") || hf_streq(e->kind, "conn.dropped"));
}

static const struct ended *find_exit(struct hf_join *j, uint32_t pid, uint64_t start_boot_ns,
				     uint64_t boot_ns)
{
	const struct ended *x = exit_slot(j, pid, start_boot_ns);

	if (!pid || x->pid != pid || x->start_boot_ns != start_boot_ns)
		return NULL;
	if (boot_ns < x->boot_ns || boot_ns - x->boot_ns > HF_JOIN_WINDOW_NS)
		return NULL;
	return x;
}

static void tell(char dst[static HF_JOIN_TEXT_MAX], const char *whose, const struct ended *x,
		 uint64_t boot_ns)
{
	uint64_t ns = boot_ns - x->boot_ns;

	if (ns < HF_NS_PER_MS)
		(void)hf_strf(dst, HF_JOIN_TEXT_MAX, "%s%s %u us before", whose, x->text,
			      (unsigned)(ns / HF_NS_PER_US));
	else
		(void)hf_strf(dst, HF_JOIN_TEXT_MAX, "%s%s %u ms before", whose, x->text,
			      (unsigned)(ns / HF_NS_PER_MS));
}

static void note_pair(struct hf_join *j, const Bus__Event *e)
{
	struct pair *p = pair_slot(j, e->netns, e->local, e->peer);

	p->netns = e->netns;
	p->sent_ns = e->boot_ns;
	p->pid = e->pid;
	p->start_boot_ns = e->start_boot_ns;
	(void)hf_strlcpy(p->local, e->local, sizeof(p->local));
	(void)hf_strlcpy(p->peer, e->peer, sizeof(p->peer));
}

void hf_join_event(struct hf_join *j, const Bus__Event *e, char dst[static HF_JOIN_TEXT_MAX])
{
	const struct ended *x;
	const struct pair *p;

	dst[0] = '\0';
	if (e->exit) {
		note_exit(j, e);
		return;
	}
	if (!is_end(e))
		return;
	x = find_exit(j, e->pid, e->start_boot_ns, e->boot_ns);
	if (x) {
		tell(dst, "", x, e->boot_ns);
		if (hf_streq(e->kind, "conn.reset_sent"))
			note_pair(j, e);
		return;
	}
	/* The other end, if it is on this host and in this namespace. */
	p = pair_slot(j, e->netns, e->peer, e->local);
	if (!p->pid || p->netns != e->netns || !hf_streq(p->local, e->peer) ||
	    !hf_streq(p->peer, e->local))
		return;
	x = find_exit(j, p->pid, p->start_boot_ns, e->boot_ns);
	if (x)
		tell(dst, "the peer, ", x, e->boot_ns);
}
