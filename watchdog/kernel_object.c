/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From BPF objects to descriptors. Two ways: the pins of an earlier load of the same schema, or a
 * fresh load, in which each program the kernel does not take is switched off and the rest tried
 * again. The one file that knows the skeletons.
 *
 * I1. Counters and policy are filled before the first program is attached.
 * I2. Nothing of libbpf outlives a call: only descriptors and our own strings do, so that the BTF
 *     of the whole kernel does not stay in memory.
 */
#include "kernel_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

/* The skeleton names this type, too. */
struct hf_cgroup_names {
	char leaf[HF_CGROUP_LEAF_SIZE];
	char parent[HF_CGROUP_LEAF_SIZE];
};

#include "holdfast.skel.h"
#include "holdfast_old.skel.h"

const struct hf_kernel_program_line hf_kernel_program_table[_PROGRAM_MAX] = {
	[PROGRAM_TCP_STATE] = {"tcp.state", "tcp_state", NULL, "inet_sock_set_state", 3},
	[PROGRAM_TCP_RESET_SENT] = {"tcp.reset_sent", "tcp_reset_sent", NULL, "tcp_send_reset", 2},
	[PROGRAM_TCP_RESET_RECEIVED] = {"tcp.reset_received", "tcp_reset_received", NULL,
					"tcp_receive_reset", 1},
	[PROGRAM_TCP_ERROR] = {"tcp.error", "tcp_error", NULL, "inet_sk_error_report", 1},
	[PROGRAM_TCP_OWNER] = {"tcp.owner", "tcp_owner", NULL, "tcp_rcv_space_adjust", 1},
	[PROGRAM_TCP_RETRANSMIT] = {"tcp.retransmit", "tcp_retransmit", NULL, "tcp_retransmit_skb",
				    2},
	[PROGRAM_SKB_DROP] = {"skb.drop", "skb_drop", NULL, "kfree_skb", 3},
	[PROGRAM_PROC_EXIT] = {"proc.exit", "proc_exit", NULL, "sched_process_exit", 1},
	[PROGRAM_PROC_SIGNAL] = {"proc.signal", "proc_signal", NULL, "signal_generate", 5},
	[PROGRAM_PROC_OOM] = {"proc.oom", "proc_oom", "proc_oom_pid", "mark_victim", 1},
	[PROGRAM_SNAPSHOT] = {"snapshot", "snapshot_sockets", NULL, NULL, 0},
	[PROGRAM_DROP_FLUSH] = {"skb.drop_rest", "skb_drop_flush", NULL, NULL, 0},
};

static const char *const map_names[_MAP_MAX] = {
	[MAP_RING_URGENT] = "ring_urgent",
	[MAP_RING_BULK] = "ring_bulk",
	[MAP_COUNTERS] = "counters",
	[MAP_POLICY] = "policy",
	[MAP_FILTER_NETNS] = "filter_netns",
	[MAP_FILTER_CGROUP] = "filter_cgroup",
	[MAP_FILTER_PORT] = "filter_port",
	[MAP_FILTER_UNIT] = "filter_unit",
	[MAP_WATCHED_COOKIE] = "watched_cookie",
	[MAP_WATCHED_PROCESS] = "watched_process",
	[MAP_EXIT_VERDICT] = "exit_verdict",
	[MAP_DROP_COUNTS] = "drop_counts",
};

/* libbpf calls back without a context: what it said last about a program, for the retry. */
static char refused_program[64];
static char refused_why[160];

static void note_refusal(const char *line)
{
	const char *name, *end, *why;

	if (!hf_startswith(line, "libbpf: prog '"))
		return;
	name = line + strlen("libbpf: prog '");
	end = strchr(name, '\'');
	if (!end || (size_t)(end - name) >= sizeof(refused_program))
		return;
	why = strstr(end, "BPF program load failed: ");
	if (why || strstr(end, "failed to load: ") || strstr(end, "failed to find ") ||
	    strstr(end, "relocation") || strstr(end, "bad relo")) {
		memcpy(refused_program, name, (size_t)(end - name));
		refused_program[end - name] = '\0';
		why = why ? why + strlen("BPF program load failed: ") : end + 3;
		if (!refused_why[0])
			(void)hf_strlcpy(refused_why, why, sizeof(refused_why));
		refused_why[strcspn(refused_why, "\n")] = '\0';
	}
}

/* One level down: what libbpf warns of is for us to judge. Verifier logs only when debugging. */
static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];
	va_list copy;

	va_copy(copy, ap);
	(void)vsnprintf(line, sizeof(line), fmt, copy);
	va_end(copy);
	line[strcspn(line, "\n")] = '\0';
	if (level == LIBBPF_WARN)
		note_refusal(line);
	if (level <= LIBBPF_INFO)
		hf_debug("%s", line);
	return 0;
}

void hf_kernel_quiet(void)
{
	(void)libbpf_set_print(print_libbpf);
}

uint32_t hf_kernel_cpus(void)
{
	int n = libbpf_num_possible_cpus();

	return n > 0 ? (uint32_t)n : 1;
}

const char *hf_kernel_refusal(void)
{
	return refused_why;
}

/* ---- probing ------------------------------------------------------------------------------- */

static int probe_btf(struct hf_kernel *k, const struct btf *btf)
{
	struct hf_kernel_features *f = &k->features;
	int i, n;

	k->old_object = !hf_probe_atomic_fetch();
	hf_probe_features(btf, f);
	f->page_kib = (uint32_t)(sysconf(_SC_PAGESIZE) / 1024);
	f->bulk_eighth = k->ring_bytes[HF_RING_BULK] / 8;

	for (i = 0; i < _PROGRAM_MAX; i++) {
		struct hf_kernel_slot *p = &k->programs[i];

		if (!hf_kernel_program_table[i].tracepoint)
			continue;
		n = hf_probe_tracepoint_args(btf, hf_kernel_program_table[i].tracepoint);
		if (n < 0)
			hf_kernel_switch_off(p, "this kernel has no tracepoint %s",
					     hf_kernel_program_table[i].tracepoint);
		else if (n < hf_kernel_program_table[i].min_args)
			hf_kernel_switch_off(p,
					     "tracepoint %s has %d arguments here, %d are needed",
					     hf_kernel_program_table[i].tracepoint, n,
					     hf_kernel_program_table[i].min_args);
		else if (hf_kernel_program_table[i].variant)
			p->use_variant = n < 2;
	}
	if (k->programs[PROGRAM_SKB_DROP].reason[0])
		hf_kernel_switch_off(&k->programs[PROGRAM_DROP_FLUSH], "skb.drop is off");
	if (!f->sk_storage)
		hf_kernel_switch_off(&k->programs[PROGRAM_SNAPSHOT],
				     "this kernel has no socket storage for tracing programs");

	return hf_probe_reason_names(btf, &k->names);
}

int hf_kernel_probe(struct hf_kernel *k)
{
	struct btf *btf = btf__load_vmlinux_btf();
	int r;

	if (!btf)
		return errno == ENOMEM ? -ENOMEM : -ENOENT;
	r = probe_btf(k, btf);
	btf__free(btf);
	return r;
}

static const void *object_bytes(const struct hf_kernel *k, size_t *ret_size)
{
	return k->old_object ? holdfast_old__elf_bytes(ret_size) : holdfast__elf_bytes(ret_size);
}

/*
 * The objects are half of this program and read at its start only. They are constant data of the
 * program's file, so dropping the pages loses nothing: they come back from the page cache.
 */
void hf_kernel_object_release(void)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const char *objects[2];
	size_t n[2];

	objects[0] = holdfast__elf_bytes(&n[0]);
	objects[1] = holdfast_old__elf_bytes(&n[1]);
	for (int i = 0; i < 2; i++) {
		/* Whole pages of the object only: beside it may be what was relocated. */
		uintptr_t from = ((uintptr_t)objects[i] + page - 1) & ~(page - 1);
		uintptr_t to = ((uintptr_t)objects[i] + n[i]) & ~(page - 1);

		if (to > from)
			(void)madvise((void *)from, to - from, MADV_DONTNEED);
	}
}

/* FNV-1a: to tell schemas apart, not to protect anything. */
uint64_t hf_kernel_schema(const struct hf_kernel *k)
{
	uint64_t h = 0xcbf29ce484222325u;
	const uint8_t *elf;
	uint32_t extra[] = {HF_EVENT_ABI, k->ring_bytes[0], k->ring_bytes[1], k->cpus};
	size_t n, i;

	elf = object_bytes(k, &n);
	for (i = 0; i < n; i++)
		h = (h ^ elf[i]) * 0x100000001b3u;
	for (i = 0; i < sizeof(extra); i++)
		h = (h ^ ((const uint8_t *)extra)[i]) * 0x100000001b3u;
	return h;
}

/* ---- loading ------------------------------------------------------------------------------- */

static struct bpf_program *find_program(struct bpf_object *obj, const struct hf_kernel *k, int i,
					bool other_variant)
{
	const char *symbol = hf_kernel_program_table[i].symbol;

	if (hf_kernel_program_table[i].variant && k->programs[i].use_variant != other_variant)
		symbol = hf_kernel_program_table[i].variant;
	return bpf_object__find_program_by_name(obj, symbol);
}

static int resize(struct bpf_object *obj, enum map_id map, uint32_t n)
{
	return bpf_map__set_max_entries(bpf_object__find_map_by_name(obj, map_names[map]), n);
}

/* The frozen constants; their layout is the skeleton's, which is the same for both objects. */
static int set_features(struct bpf_object *obj, const struct hf_kernel_features *f)
{
	struct bpf_map *map;
	uint8_t *data;
	size_t size;

	bpf_object__for_each_map(map, obj)
	{
		if (!hf_endswith(bpf_map__name(map), ".rodata"))
			continue;
		data = (uint8_t *)(uintptr_t)bpf_map__initial_value(map, &size);
		if (!data || size < sizeof(struct holdfast__rodata))
			return -EINVAL;
		memcpy(data + offsetof(struct holdfast__rodata, hf_kernel), f, sizeof(*f));
		return 0;
	}
	return -ENOENT;
}

static int prepare(struct hf_kernel *k, struct bpf_object *obj)
{
	int i, r;

	r = resize(obj, MAP_RING_URGENT, k->ring_bytes[HF_RING_URGENT]);
	if (!r)
		r = resize(obj, MAP_RING_BULK, k->ring_bytes[HF_RING_BULK]);
	if (!r)
		r = resize(obj, MAP_COUNTERS, k->cpus);
	if (!r)
		r = set_features(obj, &k->features);
	if (r)
		return r;
	for (i = 0; i < _PROGRAM_MAX; i++) {
		if (k->programs[i].reason[0])
			(void)bpf_program__set_autoload(find_program(obj, k, i, false), false);
		if (hf_kernel_program_table[i].variant)
			(void)bpf_program__set_autoload(find_program(obj, k, i, true), false);
	}
	return 0;
}

static int program_of_symbol(const char *symbol)
{
	int i;

	for (i = 0; i < _PROGRAM_MAX; i++)
		if (hf_streq(symbol, hf_kernel_program_table[i].symbol) ||
		    hf_streq0(symbol, hf_kernel_program_table[i].variant))
			return i;
	return -ENOENT;
}

/* Loads with as many programs as the kernel takes. */
static int load(struct hf_kernel *k, struct bpf_object **ret)
{
	struct bpf_object *obj;
	int attempt, i, r = -EIO;
	const void *elf;
	size_t n;

	for (attempt = 0; attempt <= _PROGRAM_MAX; attempt++) {
		elf = object_bytes(k, &n);
		obj = bpf_object__open_mem(elf, n, NULL);
		if (!obj)
			return -errno;
		r = prepare(k, obj);
		refused_program[0] = refused_why[0] = '\0';
		if (!r)
			r = bpf_object__load(obj);
		if (!r) {
			*ret = obj;
			return 0;
		}
		bpf_object__close(obj);
		i = program_of_symbol(refused_program);
		/* EPERM is about us, not about one program. */
		if (i < 0 || k->programs[i].reason[0] || r == -EPERM)
			return r;
		hf_kernel_switch_off(&k->programs[i], "refused by the kernel: %s", refused_why);
		hf_debug("program %s is refused, trying without it: %s",
			 hf_kernel_program_table[i].name, refused_why);
	}
	return r;
}

static int fill_counters(const struct hf_kernel *k)
{
	uint64_t base = hf_now_boottime_ns() / HF_NS_PER_MS << HF_SEQ_BASE_SHIFT;
	struct hf_cpu_counters c = {0};
	uint32_t cpu;
	int i;

	for (i = 0; i < _HF_RING_MAX; i++)
		c.ring[i].seq = c.ring[i].base = base;
	for (cpu = 0; cpu < k->cpus; cpu++)
		if (bpf_map_update_elem(k->map_fd[MAP_COUNTERS], &cpu, &c, BPF_ANY) < 0)
			return -errno;
	/*
	 * From here on only programs write: the descriptor goes to the agent. (One opened
	 * read-only could not be mapped at all, see do_mmap() on VM_SHARED.)
	 */
	if (bpf_map_freeze(k->map_fd[MAP_COUNTERS]) < 0)
		return -errno;
	return 0;
}

/* Runs the iterator over all open files once; what it prints is nothing. */
static void take_snapshot(struct hf_kernel *k, struct bpf_program *prog)
{
	struct hf_kernel_slot *p = &k->programs[PROGRAM_SNAPSHOT];
	struct bpf_link *link;
	char buf[64];
	int fd;

	link = bpf_program__attach_iter(prog, NULL);
	if (!link) {
		hf_kernel_switch_off(p, "%s", strerror(errno));
		return;
	}
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0) {
		hf_kernel_switch_off(p, "%s", strerror(errno));
	} else {
		ssize_t n;

		do {
			n = read(fd, buf, sizeof(buf));
		} while (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)));
		if (n < 0)
			hf_kernel_switch_off(p, "%s", strerror(errno));
		else
			p->pub.attached = true;
		(void)hf_close(fd);
	}
	bpf_link__destroy(link);
}

static int pin_path(char dst[static HF_PINS_PATH_MAX + 64], const char *dir, const char *kind,
		    const char *name)
{
	return hf_strf(dst, HF_PINS_PATH_MAX + 64, "%s/%s_%s", dir, kind, name) ? 0 : -ENAMETOOLONG;
}

static int pin(const struct hf_kernel *k, const char *kind, const char *name, int fd)
{
	char path[HF_PINS_PATH_MAX + 64];
	int r;

	r = pin_path(path, k->pins.fresh, kind, name);
	if (r < 0)
		return r;
	return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

/* Nothing to attach to: it is kept to be run. */
static void keep_program(struct hf_kernel *k, struct bpf_object *obj, int i)
{
	struct bpf_program *prog = find_program(obj, k, i, false);
	struct hf_kernel_slot *p = &k->programs[i];

	if (p->reason[0])
		return;
	p->fd = fcntl(bpf_program__fd(prog), F_DUPFD_CLOEXEC, 3);
	p->pub.attached = p->fd >= 0;
	if (k->pinned && pin(k, "prog", hf_kernel_program_table[i].symbol, p->fd) < 0)
		hf_debug("program '%s' is not pinned", hf_kernel_program_table[i].name);
}

static void attach(struct hf_kernel *k, struct bpf_object *obj)
{
	int i, r;

	for (i = 0; i < _PROGRAM_MAX; i++) {
		struct hf_kernel_slot *p = &k->programs[i];
		struct bpf_program *prog = find_program(obj, k, i, false);
		struct bpf_link *link;

		if (p->reason[0] || i == PROGRAM_SNAPSHOT || i == PROGRAM_DROP_FLUSH)
			continue;
		link = bpf_program__attach(prog);
		if (!link) {
			hf_kernel_switch_off(p, "cannot attach: %s", strerror(errno));
			continue;
		}
		p->pub.attached = true;
		p->fd = fcntl(bpf_program__fd(prog), F_DUPFD_CLOEXEC, 3);
		if (k->pinned) {
			r = pin(k, "link", hf_kernel_program_table[i].symbol, bpf_link__fd(link));
			if (!r)
				r = pin(k, "prog", hf_kernel_program_table[i].symbol,
					bpf_program__fd(prog));
			if (r < 0) {
				hf_warn_r(r, "Cannot pin program '%s'",
					  hf_kernel_program_table[i].name);
				k->pinned = false;
			}
		}
		p->link_fd = fcntl(bpf_link__fd(link), F_DUPFD_CLOEXEC, 3);
		bpf_link__destroy(link);
	}
	keep_program(k, obj, PROGRAM_DROP_FLUSH);
	/* Last, so that no socket falls between the snapshot and the programs. */
	if (!k->programs[PROGRAM_SNAPSHOT].reason[0])
		take_snapshot(k, find_program(obj, k, PROGRAM_SNAPSHOT, false));
}

static int take_maps(struct hf_kernel *k, struct bpf_object *obj)
{
	int i, r;

	for (i = 0; i < _MAP_MAX; i++) {
		int fd = bpf_map__fd(bpf_object__find_map_by_name(obj, map_names[i]));

		k->map_fd[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (k->map_fd[i] < 0)
			return -errno;
		if (!k->pinned)
			continue;
		r = pin(k, "map", map_names[i], fd);
		if (r < 0) {
			hf_warn_r(r, "Cannot pin map '%s'", map_names[i]);
			k->pinned = false;
		}
	}
	return 0;
}

int hf_kernel_load_fresh(struct hf_kernel *k, const struct hf_policy *policy)
{
	struct bpf_object *obj = NULL;
	int r;

	r = load(k, &obj);
	if (r < 0)
		return r;
	if (k->pinned) {
		r = hf_pins_begin(&k->pins);
		if (r < 0) {
			hf_warn_r(r, "Cannot make pin directory '%s'", k->pins.fresh);
			k->pinned = false;
		}
	}
	r = take_maps(k, obj);
	if (!r)
		r = fill_counters(k);
	if (!r)
		r = hf_kernel_set_policy(k, policy);
	if (!r) {
		attach(k, obj);
		if (k->pinned) {
			int p = hf_pins_finish(&k->pins);

			if (p < 0) {
				hf_warn_r(p, "Cannot name pin directory '%s'", k->pins.final);
				k->pinned = false;
			}
		}
	}
	if (!k->pinned)
		hf_pins_abort(&k->pins);
	bpf_object__close(obj);
	return r;
}

/* ---- re-opening ---------------------------------------------------------------------------- */

static int open_pin(const struct hf_kernel *k, const char *kind, const char *name)
{
	char path[HF_PINS_PATH_MAX + 64];
	int fd, r;

	r = pin_path(path, k->pins.final, kind, name);
	if (r < 0)
		return r;
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

int hf_kernel_reopen(struct hf_kernel *k)
{
	int i;

	for (i = 0; i < _MAP_MAX; i++) {
		k->map_fd[i] = open_pin(k, "map", map_names[i]);
		if (k->map_fd[i] < 0)
			return k->map_fd[i];
	}
	for (i = 0; i < _PROGRAM_MAX; i++) {
		struct hf_kernel_slot *p = &k->programs[i];

		if (p->reason[0])
			continue;
		if (i == PROGRAM_SNAPSHOT) {
			p->pub.attached = true; /* was taken when they were loaded */
			continue;
		}
		if (i == PROGRAM_DROP_FLUSH) {
			p->fd = open_pin(k, "prog", hf_kernel_program_table[i].symbol);
			p->pub.attached = p->fd >= 0;
			if (p->fd < 0)
				hf_kernel_switch_off(p, "was not kept: %s", strerror(-p->fd));
			continue;
		}
		p->link_fd = open_pin(k, "link", hf_kernel_program_table[i].symbol);
		if (p->link_fd < 0) {
			hf_kernel_switch_off(p, "was refused when the programs were loaded");
			p->link_fd = -1;
			continue;
		}
		p->pub.attached = true;
		p->fd = open_pin(k, "prog", hf_kernel_program_table[i].symbol);
	}
	return 0;
}
