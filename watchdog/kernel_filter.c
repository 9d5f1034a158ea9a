/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the filter people write to the policy the programs read, in three steps: compile (checks
 * everything, writes nothing), stage (new members beside the old), switch.
 */
#include "kernel_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "kernel_private.h"

/* Default of skb.drop: what costs TCP a packet. Names of any kernel; those it lacks are skipped. */
static const char *const default_drops[] = {
	"NETFILTER_DROP",
	"SOCKET_FILTER",
	"SOCKET_RCVBUFF",
	"SOCKET_BACKLOG",
	"PROTO_MEM",
	"NOMEM",
	"TCP_CSUM",
	"SKB_CSUM",
	"TCP_MD5NOTFOUND",
	"TCP_MD5FAILURE",
	"TCP_AUTH_HDR",
	"TCP_OVERWINDOW",
	"TCP_LISTEN_OVERFLOW",
	"TCP_ZEROWINDOW",
	"TCP_MINTTL",
	"QDISC_DROP",
	"CPU_BACKLOG",
	"FULL_RING",
	"IP_OUTNOROUTES",
	"IP_RPFILTER",
	"NEIGH_FAILED",
	"NEIGH_CREATEFAIL",
	"NEIGH_QUEUEFULL",
	"PKT_TOO_BIG",
	"BPF_CGROUP_EGRESS",
	"TC_INGRESS",
	"TC_EGRESS",
	"XDP",
};

static const struct {
	const char *name;
	enum hf_event_kind kind;
} kinds[] = {
	{"conn.failed", HF_EVENT_CONN_FAILED},
	{"conn.reset_received", HF_EVENT_CONN_RESET_RECEIVED},
	{"conn.reset_sent", HF_EVENT_CONN_RESET_SENT},
	{"conn.dropped", HF_EVENT_CONN_DROPPED},
	{"conn.closed", HF_EVENT_CONN_CLOSED},
	{"conn.retransmit", HF_EVENT_CONN_RETRANSMIT},
	{"proc.exit", HF_EVENT_PROC_EXIT},
	{"proc.oom", HF_EVENT_PROC_OOM},
	{"skb.drop", HF_EVENT_SKB_DROP},
	{"telemetry.loss", HF_EVENT_TELEMETRY_LOSS},
};
_Static_assert(HF_ARRAY_SIZE(kinds) == _HF_EVENT_KIND_MAX - 1, "each kind has a name");

struct unit {
	char name[HF_CGROUP_LEAF_SIZE];
};

/* A filter compiled: the policy and the members of each filter map. Freed by compiled_done(). */
struct compiled {
	struct hf_policy policy;
	uint32_t netns;
	size_t n_netns;
	uint16_t *ports;
	size_t n_ports;
	struct unit *units;
	size_t n_units;
	uint64_t *cgroups;
	size_t n_cgroups;
};

static void compiled_done(struct compiled *c)
{
	free(c->ports);
	free(c->units);
	free(c->cgroups);
	*c = (struct compiled){};
}

void hf_kernel_filter_default(struct hf_kernel_filter *ret)
{
	*ret = (struct hf_kernel_filter){
		.kinds = HF_POLICY_KINDS_DEFAULT,
		.closed_one_in = 1,
		/* A cgroup may fill an eighth of the bulk ring at once, then 500 events a second. */
		.burst = 600,
		.per_s = 500,
		.drop_window_ms = 1000,
	};
}

uint32_t hf_kernel_kind_by_name(const char *name)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++)
		if (hf_streq(name, kinds[i].name))
			return HF_POLICY_KIND(kinds[i].kind);
	return 0;
}

/* ---- compiling ------------------------------------------------------------------------------- */

static int compile_ports(struct compiled *c, const struct hf_kernel_choice *choice,
			 struct hf_err *err)
{
	uint32_t port;

	if (choice->n > HF_FILTER_PORT_MAX)
		return hf_err_set(err, -EINVAL, "%zu ports, at most %u", choice->n,
				  HF_FILTER_PORT_MAX);
	c->ports = calloc(choice->n + 1, sizeof(*c->ports));
	if (!c->ports)
		return hf_err_set(err, -ENOMEM, "no memory");
	for (size_t i = 0; i < choice->n; i++) {
		if (hf_parse_u32(choice->names[i], &port) < 0 || port < 1 || port > 65535)
			return hf_err_set(err, -EINVAL, "'%s' is no port", choice->names[i]);
		c->ports[c->n_ports++] = (uint16_t)port;
	}
	return 0;
}

static int compile_units(struct compiled *c, const struct hf_kernel_choice *choice,
			 struct hf_err *err)
{
	if (choice->n > HF_FILTER_UNIT_MAX)
		return hf_err_set(err, -EINVAL, "%zu units, at most %u", choice->n,
				  HF_FILTER_UNIT_MAX);
	c->units = calloc(choice->n + 1, sizeof(*c->units));
	if (!c->units)
		return hf_err_set(err, -ENOMEM, "no memory");
	for (size_t i = 0; i < choice->n; i++) {
		const char *name = choice->names[i];

		if (!name[0] || strchr(name, '/') ||
		    !hf_strlcpy(c->units[c->n_units].name, name, sizeof(c->units[0].name)))
			return hf_err_set(err, -EINVAL, "'%s' is no name of a unit", name);
		c->n_units++;
	}
	return 0;
}

/*
 * Where the hierarchies are whose ids name cgroups: v2, and v1's memory (bpf/lib/owner.h uses it for
 * processes in the v2 root). Writes at most max mount points; returns how many there are.
 */
static size_t cgroup_mounts(char (*ret)[HF_PINS_PATH_MAX], size_t max)
{
	_cleanup_free_ char *text = NULL;
	char *line, *rest, *kind, *at;
	size_t n = 0, len;

	/* Containers have long tables; a megabyte is ten thousand mounts. */
	if (hf_read_file(AT_FDCWD, "/proc/self/mountinfo", 1u << 20, &text, &len) < 0)
		return 0;
	for (rest = text; n < max && (line = strsep(&rest, "\n"));) {
		kind = strstr(line, " - ");
		if (!kind)
			continue;
		if (!hf_startswith(kind + 3, "cgroup2 ") &&
		    !(hf_startswith(kind + 3, "cgroup ") && strstr(kind, "memory")))
			continue;
		at = line;
		for (int field = 0; field < 4; field++)
			(void)strsep(&at, " ");
		if (!at)
			continue;
		at[strcspn(at, " ")] = '\0';
		if (hf_strlcpy(ret[n], at, sizeof(ret[n])))
			n++;
	}
	return n;
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The ids of those that exist, sorted. The inode number of a cgroup's directory is its id. */
static int resolve_cgroups(const struct hf_kernel_choice *choice, uint64_t **ret, size_t *ret_n)
{
	char mounts[4][HF_PINS_PATH_MAX], path[2 * HF_PINS_PATH_MAX];
	size_t n_mounts = cgroup_mounts(mounts, HF_ARRAY_SIZE(mounts)), n = 0;
	uint64_t *ids = calloc(choice->n * HF_ARRAY_SIZE(mounts) + 1, sizeof(*ids));
	struct stat st;

	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < choice->n; i++)
		for (size_t m = 0; m < n_mounts; m++)
			if (hf_strf(path, sizeof(path), "%s%s", mounts[m], choice->names[i]) &&
			    stat(path, &st) == 0 && S_ISDIR(st.st_mode))
				ids[n++] = st.st_ino;
	qsort(ids, n, sizeof(*ids), by_id);
	*ret = ids;
	*ret_n = n;
	return 0;
}

static int compile_cgroups(struct compiled *c, const struct hf_kernel_choice *choice,
			   struct hf_err *err)
{
	/* Each may be in two hierarchies. */
	if (choice->n > HF_FILTER_CGROUP_MAX / 2)
		return hf_err_set(err, -EINVAL, "%zu cgroups, at most %u", choice->n,
				  HF_FILTER_CGROUP_MAX / 2);
	for (size_t i = 0; i < choice->n; i++)
		if (choice->names[i][0] != '/' || strstr(choice->names[i], "/../") ||
		    hf_endswith(choice->names[i], "/.."))
			return hf_err_set(err, -EINVAL, "'%s' is no path of a cgroup",
					  choice->names[i]);
	if (resolve_cgroups(choice, &c->cgroups, &c->n_cgroups) < 0)
		return hf_err_set(err, -ENOMEM, "no memory");
	if (c->n_cgroups > HF_FILTER_CGROUP_MAX)
		return hf_err_set(err, -EINVAL, "too many cgroups");
	return 0;
}

/* The number of a drop reason of the running kernel; -ENOENT. */
static int drop_reason(const struct hf_kernel *k, const char *name)
{
	const char *line = (const char *)k->names.data, *end = line + k->names.len, *eol;
	char want[96];

	for (; line && line < end; line = eol + 1) {
		unsigned long n;
		char *after;

		eol = memchr(line, '\n', (size_t)(end - line));
		if (!eol)
			break;
		if (!hf_startswith(line, "drop "))
			continue;
		n = strtoul(line + strlen("drop "), &after, 10);
		if (!hf_strf(want, sizeof(want), " %s\n", name))
			return -ENOENT;
		if (hf_startswith(after, want))
			return n < HF_DROP_REASON_MAX ? (int)n : -ENOENT;
	}
	return -ENOENT;
}

static int compile_drops(const struct hf_kernel *k, struct compiled *c,
			 const struct hf_kernel_choice *choice, struct hf_err *err)
{
	bool all = choice->mode == HF_KERNEL_ALL || choice->n == 0;
	const char *const *names = all ? default_drops : choice->names;
	size_t n = all ? HF_ARRAY_SIZE(default_drops) : choice->n, found = 0;

	if (choice->mode == HF_KERNEL_EXCEPT)
		return hf_err_set(err, -EINVAL, "drop reasons are named, not excepted");
	for (size_t i = 0; i < n; i++) {
		int r = drop_reason(k, names[i]);

		if (r < 0)
			continue;
		c->policy.drop_reasons[r / 64] |= 1ull << (r % 64);
		found++;
	}
	if (!all && !found && k->names.len)
		return hf_err_set(err, -EINVAL, "this kernel has no drop reason '%s'", names[0]);
	return 0;
}

static uint32_t choice_flags(const struct hf_kernel_choice *choice, uint32_t only, uint32_t except)
{
	switch (choice->mode) {
	case HF_KERNEL_ALL:
	case _HF_KERNEL_CHOICE_MAX:
		return 0;
	case HF_KERNEL_ONLY:
		return only;
	case HF_KERNEL_EXCEPT:
		return except;
	}
	return 0;
}

static int compile(const struct hf_kernel *k, const struct hf_kernel_filter *f, struct compiled *c,
		   struct hf_err *err)
{
	uint32_t known = HF_POLICY_KIND(_HF_EVENT_KIND_MAX) - 1 - HF_POLICY_KIND(HF_EVENT_NONE);
	struct hf_policy *p = &c->policy;
	struct stat st;
	int r;

	if (f->kinds & ~known)
		return hf_err_set(err, -EINVAL, "unknown kinds of events");
	if (f->closed_one_in < 1 || f->closed_one_in > 1000000)
		return hf_err_set(err, -EINVAL, "one in %u is no sampling", f->closed_one_in);
	if (f->burst && (f->per_s < 1 || f->per_s > 1000000 || f->burst > 1000000))
		return hf_err_set(err, -EINVAL, "%u events at once and %u a second is no limit",
				  f->burst, f->per_s);
	p->kinds = f->kinds | HF_POLICY_KIND(HF_EVENT_CONN_RETRANSMIT) |
		   HF_POLICY_KIND(HF_EVENT_TELEMETRY_LOSS);
	p->closed_one_in = f->closed_one_in;
	p->bucket_burst = f->burst;
	p->bucket_interval_ns = f->burst ? HF_NS_PER_S / f->per_s : 0;
	p->mark_interval_ns = HF_NS_PER_S;
	p->drop_window_ns = (f->drop_window_ms ? f->drop_window_ms : 1) * HF_NS_PER_MS;
	p->flags = choice_flags(&f->ports, HF_POLICY_F_PORT_ONLY, HF_POLICY_F_PORT_EXCEPT) |
		   choice_flags(&f->units, HF_POLICY_F_UNIT_ONLY, HF_POLICY_F_UNIT_EXCEPT) |
		   choice_flags(&f->cgroups, HF_POLICY_F_CGROUP_ONLY, HF_POLICY_F_CGROUP_EXCEPT) |
		   (f->burst ? 0 : HF_POLICY_F_NO_THROTTLE) |
		   (f->exit_bad_only ? HF_POLICY_F_EXIT_BAD_ONLY : 0);
	if (f->own_netns) {
		if (stat("/proc/self/ns/net", &st) < 0)
			return hf_err_set(err, -errno, "own network namespace: %s",
					  strerror(errno));
		c->netns = (uint32_t)st.st_ino;
		c->n_netns = 1;
		p->flags |= HF_POLICY_F_NETNS_ONLY;
	}
	r = compile_ports(c, &f->ports, err);
	if (r >= 0)
		r = compile_units(c, &f->units, err);
	if (r >= 0)
		r = compile_cgroups(c, &f->cgroups, err);
	if (r >= 0)
		r = compile_drops(k, c, &f->drop_reasons, err);
	return r;
}

/* ---- the copy that refresh works from ---------------------------------------------------------- */

struct hf_kernel_filter_copy {
	struct hf_kernel_filter f;
	uint64_t *cgroups; /* as they were found last */
	size_t n_cgroups;
	char *text; /* of all names */
	const char *names[];
};

struct hf_kernel_filter_copy *hf_kernel_filter_copy_free(struct hf_kernel_filter_copy *c)
{
	if (!c)
		return NULL;
	free(c->cgroups);
	free(c->text);
	free(c);
	return NULL;
}

static struct hf_kernel_filter_copy *copy_filter(const struct hf_kernel_filter *f)
{
	struct hf_kernel_filter_copy *c;
	struct hf_kernel_choice *of[4];
	size_t n = 0, bytes = 1, at = 0;
	char *text;

	n = f->ports.n + f->units.n + f->cgroups.n + f->drop_reasons.n;
	c = calloc(1, sizeof(*c) + n * sizeof(c->names[0]));
	if (!c)
		return NULL;
	c->f = *f;
	of[0] = &c->f.ports;
	of[1] = &c->f.units;
	of[2] = &c->f.cgroups;
	of[3] = &c->f.drop_reasons;
	for (size_t i = 0; i < HF_ARRAY_SIZE(of); i++)
		for (size_t j = 0; j < of[i]->n; j++)
			bytes += strlen(of[i]->names[j]) + 1;
	c->text = text = malloc(bytes);
	if (!text)
		return hf_kernel_filter_copy_free(c);
	for (size_t i = 0; i < HF_ARRAY_SIZE(of); i++) {
		const char *const *names = of[i]->names;

		of[i]->names = &c->names[at];
		for (size_t j = 0; j < of[i]->n; j++) {
			size_t len = strlen(names[j]) + 1;

			memcpy(text, names[j], len);
			c->names[at++] = text;
			text += len;
		}
	}
	return c;
}

/* ---- applying --------------------------------------------------------------------------------- */

static int stage(struct hf_kernel *k, const struct compiled *c, uint32_t bit)
{
	int r;

	r = hf_kernel_members_add(k, MAP_FILTER_NETNS, &c->netns, sizeof(c->netns), c->n_netns,
				  bit);
	if (!r)
		r = hf_kernel_members_add(k, MAP_FILTER_PORT, c->ports, sizeof(*c->ports),
					  c->n_ports, bit);
	if (!r)
		r = hf_kernel_members_add(k, MAP_FILTER_UNIT, c->units, sizeof(*c->units),
					  c->n_units, bit);
	if (!r)
		r = hf_kernel_members_add(k, MAP_FILTER_CGROUP, c->cgroups, sizeof(*c->cgroups),
					  c->n_cgroups, bit);
	return r;
}

static int clear(struct hf_kernel *k, uint32_t bit)
{
	static const enum map_id maps[] = {MAP_FILTER_NETNS, MAP_FILTER_PORT, MAP_FILTER_UNIT,
					   MAP_FILTER_CGROUP};
	int r = 0;

	for (size_t i = 0; !r && i < HF_ARRAY_SIZE(maps); i++)
		r = hf_kernel_members_clear(k, maps[i], bit);
	return r;
}

static int apply(struct hf_kernel *k, struct compiled *c)
{
	uint32_t old = hf_kernel_filter_bit(k->policy.flags);
	uint32_t next = HF_FILTER_SET_A + HF_FILTER_SET_B - old;
	int r;

	/* What a loader that died half-way may have left. */
	r = clear(k, next);
	if (!r)
		r = stage(k, c, next);
	if (!r) {
		c->policy.flags |= next == HF_FILTER_SET_B ? HF_POLICY_F_SET_B : 0;
		r = hf_kernel_write_policy(k, &c->policy);
	}
	/* On failure the new members go, else the old ones; those left over do no harm. */
	(void)clear(k, r < 0 ? next : old);
	return r;
}

static void compiled_donep(struct compiled *c)
{
	compiled_done(c);
}

HF_DEFINE_CLEANUP(struct hf_kernel_filter_copy *, hf_kernel_filter_copy_free);

int hf_kernel_filter_apply(struct hf_kernel *k, const struct hf_kernel_filter *f,
			   struct hf_err *err)
{
	_cleanup_(hf_kernel_filter_copy_freep) struct hf_kernel_filter_copy *copy = NULL;
	_cleanup_(compiled_donep) struct compiled c = {};
	int r;

	r = compile(k, f, &c, err);
	if (r < 0)
		return r;
	if (k->assist == HF_KERNEL_ASSIST_OFF)
		return hf_err_set(err, -ENOSYS, "kernel assist is off: %s", k->reason);
	copy = copy_filter(f);
	if (!copy)
		return hf_err_set(err, -ENOMEM, "no memory");
	r = apply(k, &c);
	if (r < 0)
		return hf_err_set(err, r, "write the policy to the kernel: %s", strerror(-r));
	copy->cgroups = TAKE_PTR(c.cgroups);
	copy->n_cgroups = c.n_cgroups;
	(void)hf_kernel_filter_copy_free(k->filter);
	k->filter = TAKE_PTR(copy);
	return 0;
}

int hf_kernel_filter_refresh(struct hf_kernel *k)
{
	_cleanup_free_ uint64_t *ids = NULL;
	struct hf_kernel_filter_copy *now = k->filter;
	struct hf_err err = {};
	size_t n = 0;
	int r;

	if (!now || now->f.cgroups.mode == HF_KERNEL_ALL || !now->f.cgroups.n)
		return 0;
	r = resolve_cgroups(&now->f.cgroups, &ids, &n);
	if (r < 0)
		return r;
	if (n == now->n_cgroups && (!n || memcmp(ids, now->cgroups, n * sizeof(*ids)) == 0))
		return 0;
	/* The copy is freed by its own replacement, so it is taken off first. */
	k->filter = NULL;
	r = hf_kernel_filter_apply(k, &now->f, &err);
	if (r < 0) {
		k->filter = now;
		return r;
	}
	(void)hf_kernel_filter_copy_free(now);
	return 1;
}
