/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that wait for strangers. Each network namespace is read once, through a process that lives
 * in it (/proc/PID/net): a scan has a namespace of its own, where there is nothing to see. Who owns
 * a socket is found by its inode among the descriptors of all processes.
 */
#include "userspace/scan/checks.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/scan/listeners.h"
#include "userspace/scan/process.h"

#define NAMESPACES_MAX 256u
#define LISTENERS_MAX  4096u
/* A table of a busy host has a line of 150 bytes for each connection. */
#define TABLE_MAX (64u << 20)
/* Descriptors of one process that are looked at. */
#define FDS_MAX 65536u

struct collection {
	struct hf_listener *items;
	size_t n;
	ino_t namespaces[NAMESPACES_MAX];
	size_t namespaces_n;
	uint64_t left_out;
};

bool hf_listener_parse(const char *line, const char *protocol, struct hf_listener *ret)
{
	struct hf_listener l = {.protocol = protocol};
	char address[33];
	unsigned port, state;
	bool udp = hf_startswith(protocol, "udp");
	size_t len;

	/* "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 12345" */
	if (sscanf(line,
		   " %*u: %32[0-9A-Fa-f]:%4x %*32[0-9A-Fa-f]:%*4x %2x %*x:%*x %*x:%*x %*x %" SCNu32
		   " %*d %" SCNu64,
		   address, &port, &state, &l.uid, &l.inode) != 5)
		return false;
	len = strlen(address);
	if ((len != 8 && len != 32) || port == 0)
		return false;
	/* TCP_LISTEN; an unconnected UDP socket is TCP_CLOSE. */
	if (state != (udp ? 7u : 10u))
		return false;
	l.family = len == 8 ? AF_INET : AF_INET6;
	l.port = (uint16_t)port;
	/* Words of the address as numbers of this host's order. */
	for (size_t i = 0; i < len / 8; i++) {
		char word[9];
		uint32_t value;

		memcpy(word, address + 8 * i, 8);
		word[8] = 0;
		value = (uint32_t)strtoul(word, NULL, 16);
		memcpy(l.address + 4 * i, &value, 4);
	}
	*ret = l;
	return true;
}

bool hf_listener_is_loopback(const struct hf_listener *l)
{
	static const unsigned char v6[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (l->family == AF_INET)
		return l->address[0] == 127;
	if (memcmp(l->address, mapped, sizeof(mapped)) == 0)
		return l->address[12] == 127;
	return memcmp(l->address, v6, sizeof(v6)) == 0;
}

static void read_table(struct hf_scan *s, const struct hf_process *p, const char *protocol,
		       struct collection *c)
{
	_cleanup_free_ char *text = NULL;
	char name[16], *save = NULL;
	size_t len;
	int r;

	(void)hf_strf(name, sizeof(name), "net/%s", protocol);
	r = hf_read_file(p->dir, name, TABLE_MAX, &text, &len);
	if (r < 0) {
		if (r != -ENOENT)
			s->state[s->current].unreadable++;
		return;
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct hf_listener l;

		if (!hf_listener_parse(line, protocol, &l))
			continue;
		if (c->n == LISTENERS_MAX) {
			c->left_out++;
			continue;
		}
		c->items[c->n++] = l;
	}
}

static int collect(struct hf_scan *s, const struct hf_process *p, void *arg)
{
	static const char *const protocols[] = {"tcp", "tcp6", "udp", "udp6"};
	struct collection *c = arg;
	struct stat st;

	if (fstatat(p->dir, "ns/net", &st, 0) < 0)
		return 0;
	for (size_t i = 0; i < c->namespaces_n; i++)
		if (c->namespaces[i] == st.st_ino)
			return 0;
	if (c->namespaces_n == NAMESPACES_MAX) {
		hf_scan_partial(s, "only the first %u network namespaces were looked at",
				NAMESPACES_MAX);
		return 0;
	}
	c->namespaces[c->namespaces_n++] = st.st_ino;
	for (size_t i = 0; i < HF_ARRAY_SIZE(protocols); i++)
		read_table(s, p, protocols[i], c);
	return 0;
}

static int by_inode(const void *a, const void *b)
{
	const struct hf_listener *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static void claim(struct collection *c, uint64_t inode, const struct hf_process *p)
{
	const struct hf_listener key = {.inode = inode};
	struct hf_listener *l = bsearch(&key, c->items, c->n, sizeof(key), by_inode);

	/* A socket handed down is its first owner's; the youngest pid is a child. */
	if (!l || l->pid)
		return;
	l->pid = p->pid;
	(void)hf_strlcpy(l->comm, p->comm, sizeof(l->comm));
	(void)hf_strlcpy(l->unit, p->unit, sizeof(l->unit));
}

static int own(struct hf_scan *s, const struct hf_process *p, void *arg)
{
	int fd = openat(p->dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	unsigned n = 0;

	if (!d) {
		if (fd < 0 && errno != ENOENT)
			s->state[s->current].unreadable++;
		(void)hf_close(fd);
		return 0;
	}
	for (struct dirent *e; r == 0 && n < FDS_MAX && (e = readdir(d)); n++) {
		char link[64];
		uint64_t inode;
		ssize_t len = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (len <= 0)
			continue;
		link[len] = 0;
		if (sscanf(link, "socket:[%" SCNu64 "]", &inode) == 1)
			claim(arg, inode, p);
		if (n % 256 == 255)
			r = hf_scan_tick(s, 1, "descriptors");
	}
	(void)closedir(d);
	return r;
}

static void tell(struct hf_scan *s, const struct hf_listener *l)
{
	char address[INET6_ADDRSTRLEN] = "", where[96];
	bool loopback = hf_listener_is_loopback(l);

	(void)inet_ntop(l->family, l->address, address, sizeof(address));
	(void)hf_strf(where, sizeof(where), l->family == AF_INET ? "%.3s %s:%u" : "%.3s [%s]:%u",
		      l->protocol, address, l->port);
	if (l->pid)
		hf_scan_found(s, loopback ? HF_SEVERITY_INFO : HF_SEVERITY_LOW, "listeners.open",
			      where,
			      loopback ? "none needed if it is wanted"
				       : "close or firewall it if nobody outside needs it",
			      "pid %u (%s, uid %u, unit %s) %s", l->pid, l->comm, l->uid,
			      *l->unit ? l->unit : "none",
			      loopback ? "can be reached from this host only"
				       : "can be reached from the network");
	else
		hf_scan_found(s, loopback ? HF_SEVERITY_LOW : HF_SEVERITY_MEDIUM,
			      "listeners.no_owner", where,
			      "find out what opened it: the kernel itself (nfs, wireguard) or a "
			      "process that could not be looked at",
			      "no process owns it (uid %u, inode %" PRIu64 ")", l->uid, l->inode);
}

int hf_check_listeners(struct hf_scan *s)
{
	_cleanup_free_ struct hf_listener *items = calloc(LISTENERS_MAX, sizeof(*items));
	struct collection c = {.items = items};
	int r;

	if (!items)
		return -ENOMEM;
	r = hf_process_each(s, 0, 0.3, collect, &c);
	if (r < 0)
		return r;
	qsort(c.items, c.n, sizeof(*c.items), by_inode);
	r = hf_process_each(s, 0.3, 1, own, &c);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c.n; i++)
		tell(s, &c.items[i]);
	s->state[s->current].looked_at = c.n;
	if (c.left_out)
		hf_scan_partial(s, "%llu sockets are not told", (unsigned long long)c.left_out);
	return 0;
}
