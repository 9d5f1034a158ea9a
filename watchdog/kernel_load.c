/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loader. Two ways to an open object: the pins of an earlier one of the same schema, or a fresh
 * load, in which each program the kernel does not take is switched off and the rest tried again.
 *
 * I1. A set of pins is complete or not there (kernel_pins.h).
 * I2. Counters and policy are filled before the first program is attached.
 * I3. Nothing of libbpf outlives hf_kernel_open(): only descriptors and our own strings do, so that
 *     the BTF of the whole kernel does not stay in memory.
 *
 * Long, because it is the one file that may know libbpf, and everything here does.
 */
#include "kernel_load.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "kernel_pins.h"
#include "kernel_probe.h"

/* The skeleton names this type, too. */
struct hf_cgroup_names {
	char leaf[HF_CGROUP_LEAF_SIZE];
	char parent[HF_CGROUP_PARENT_SIZE];
};

#include "holdfast.skel.h"
#include "holdfast_old.skel.h"

#define HF_KERNEL_MAGIC 0x4b524e4cu

/* The order of `holdfast status`. Two programs are variants of one: the kernel has either. */
enum program_id {
	PROGRAM_TCP_STATE,
	PROGRAM_TCP_RESET_SENT,
	PROGRAM_TCP_RESET_RECEIVED,
	PROGRAM_TCP_ERROR,
	PROGRAM_TCP_OWNER,
	PROGRAM_TCP_RETRANSMIT,
	PROGRAM_SKB_DROP,
	PROGRAM_PROC_EXIT,
	PROGRAM_PROC_SIGNAL,
	PROGRAM_PROC_OOM,
	PROGRAM_SNAPSHOT,
	_PROGRAM_MAX,
};

static const struct {
	const char *name;       /* for people */
	const char *symbol;     /* in the object */
	const char *variant;    /* likewise, for kernels whose tracepoint has other arguments */
	const char *tracepoint; /* NULL: an iterator */
	int min_args;
} program_table[_PROGRAM_MAX] = {
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
};

enum map_id {
	MAP_RING_URGENT, /* = HF_RING_URGENT */
	MAP_RING_BULK,
	MAP_COUNTERS,
	MAP_POLICY,
	MAP_FILTER_NETNS,
	MAP_FILTER_CGROUP,
	MAP_FILTER_PORT,
	MAP_WATCHED_COOKIE,
	MAP_WATCHED_PROCESS,
	MAP_EXIT_VERDICT,
	_MAP_MAX,
};

static const char *const map_names[_MAP_MAX] = {
	[MAP_RING_URGENT] = "ring_urgent",
	[MAP_RING_BULK] = "ring_bulk",
	[MAP_COUNTERS] = "counters",
	[MAP_POLICY] = "policy",
	[MAP_FILTER_NETNS] = "filter_netns",
	[MAP_FILTER_CGROUP] = "filter_cgroup",
	[MAP_FILTER_PORT] = "filter_port",
	[MAP_WATCHED_COOKIE] = "watched_cookie",
	[MAP_WATCHED_PROCESS] = "watched_process",
	[MAP_EXIT_VERDICT] = "exit_verdict",
};

struct program {
	struct hf_kernel_program pub;
	char reason[160];
	bool use_variant;
	int fd;      /* of the program, for its statistics */
	int link_fd; /* only where nothing could be pinned: it is what keeps the program attached */
};

struct hf_kernel {
	uint32_t magic;
	enum hf_kernel_assist assist;
	char reason[256];
	bool reopened;
	bool pinned;
	uint32_t ring_bytes[_HF_RING_MAX];
	uint32_t cpus;
	struct hf_pins pins;
	struct hf_kernel_features features;
	bool old_object; /* the one for kernels before 5.12 */
	struct program programs[_PROGRAM_MAX];
	int map_fd[_MAP_MAX];
	struct hf_buf names; /* "rst" and "drop" lines */
};

static const char *const assist_names[_HF_KERNEL_ASSIST_MAX] = {
	[HF_KERNEL_ASSIST_OFF] = "off",
	[HF_KERNEL_ASSIST_PARTIAL] = "partial",
	[HF_KERNEL_ASSIST_EBPF] = "ebpf",
};

const char *hf_kernel_assist_name(enum hf_kernel_assist assist)
{
	hf_assert(assist < _HF_KERNEL_ASSIST_MAX);
	return assist_names[assist];
}

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

static void switch_off(struct program *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void switch_off(struct program *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
	va_end(ap);
	p->pub.attached = false;
}

static int probe_kernel(struct hf_kernel *k, const struct btf *btf)
{
	struct hf_kernel_features *f = &k->features;
	int i, n;

	k->old_object = !hf_probe_atomic_fetch();
	hf_probe_features(btf, f);
	f->page_kib = (uint32_t)(sysconf(_SC_PAGESIZE) / 1024);
	f->bulk_eighth = k->ring_bytes[HF_RING_BULK] / 8;

	for (i = 0; i < _PROGRAM_MAX; i++) {
		struct program *p = &k->programs[i];

		if (!program_table[i].tracepoint)
			continue;
		n = hf_probe_tracepoint_args(btf, program_table[i].tracepoint);
		if (n < 0)
			switch_off(p, "this kernel has no tracepoint %s",
				   program_table[i].tracepoint);
		else if (n < program_table[i].min_args)
			switch_off(p, "tracepoint %s has %d arguments here, %d are needed",
				   program_table[i].tracepoint, n, program_table[i].min_args);
		else if (program_table[i].variant)
			p->use_variant = n < 2;
	}
	if (!f->sk_storage)
		switch_off(&k->programs[PROGRAM_SNAPSHOT],
			   "this kernel has no socket storage for tracing programs");

	return hf_probe_reason_names(btf, &k->names);
}

static const void *object_bytes(const struct hf_kernel *k, size_t *ret_size)
{
	return k->old_object ? holdfast_old__elf_bytes(ret_size) : holdfast__elf_bytes(ret_size);
}

/* FNV-1a: to tell schemas apart, not to protect anything. */
static uint64_t schema_hash(const struct hf_kernel *k)
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
	const char *symbol = program_table[i].symbol;

	if (program_table[i].variant && k->programs[i].use_variant != other_variant)
		symbol = program_table[i].variant;
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
		if (program_table[i].variant)
			(void)bpf_program__set_autoload(find_program(obj, k, i, true), false);
	}
	return 0;
}

static int program_of_symbol(const char *symbol)
{
	int i;

	for (i = 0; i < _PROGRAM_MAX; i++)
		if (hf_streq(symbol, program_table[i].symbol) ||
		    hf_streq0(symbol, program_table[i].variant))
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
		switch_off(&k->programs[i], "refused by the kernel: %s", refused_why);
		hf_debug("program %s is refused, trying without it: %s", program_table[i].name,
			 refused_why);
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
	struct program *p = &k->programs[PROGRAM_SNAPSHOT];
	struct bpf_link *link;
	char buf[64];
	int fd;

	link = bpf_program__attach_iter(prog, NULL);
	if (!link) {
		switch_off(p, "%s", strerror(errno));
		return;
	}
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd < 0) {
		switch_off(p, "%s", strerror(errno));
	} else {
		ssize_t n;

		do {
			n = read(fd, buf, sizeof(buf));
		} while (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)));
		if (n < 0)
			switch_off(p, "%s", strerror(errno));
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

static void attach(struct hf_kernel *k, struct bpf_object *obj)
{
	int i, r;

	for (i = 0; i < _PROGRAM_MAX; i++) {
		struct program *p = &k->programs[i];
		struct bpf_program *prog = find_program(obj, k, i, false);
		struct bpf_link *link;

		if (p->reason[0] || i == PROGRAM_SNAPSHOT)
			continue;
		link = bpf_program__attach(prog);
		if (!link) {
			switch_off(p, "cannot attach: %s", strerror(errno));
			continue;
		}
		p->pub.attached = true;
		p->fd = fcntl(bpf_program__fd(prog), F_DUPFD_CLOEXEC, 3);
		if (k->pinned) {
			r = pin(k, "link", program_table[i].symbol, bpf_link__fd(link));
			if (!r)
				r = pin(k, "prog", program_table[i].symbol, bpf_program__fd(prog));
			if (r < 0) {
				hf_warn_r(r, "Cannot pin program '%s'", program_table[i].name);
				k->pinned = false;
			}
		}
		p->link_fd = fcntl(bpf_link__fd(link), F_DUPFD_CLOEXEC, 3);
		bpf_link__destroy(link);
	}
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

static int load_fresh(struct hf_kernel *k, const struct hf_policy *policy)
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

static int reopen(struct hf_kernel *k)
{
	int i;

	for (i = 0; i < _MAP_MAX; i++) {
		k->map_fd[i] = open_pin(k, "map", map_names[i]);
		if (k->map_fd[i] < 0)
			return k->map_fd[i];
	}
	for (i = 0; i < _PROGRAM_MAX; i++) {
		struct program *p = &k->programs[i];

		if (p->reason[0])
			continue;
		if (i == PROGRAM_SNAPSHOT) {
			p->pub.attached = true; /* was taken when they were loaded */
			continue;
		}
		p->link_fd = open_pin(k, "link", program_table[i].symbol);
		if (p->link_fd < 0) {
			switch_off(p, "was refused when the programs were loaded");
			p->link_fd = -1;
			continue;
		}
		p->pub.attached = true;
		p->fd = open_pin(k, "prog", program_table[i].symbol);
	}
	return 0;
}

/* ---- the object ---------------------------------------------------------------------------- */

static void close_all(struct hf_kernel *k)
{
	int i;

	for (i = 0; i < _MAP_MAX; i++)
		k->map_fd[i] = hf_close(k->map_fd[i]);
	for (i = 0; i < _PROGRAM_MAX; i++) {
		k->programs[i].fd = hf_close(k->programs[i].fd);
		k->programs[i].link_fd = hf_close(k->programs[i].link_fd);
	}
}

static void forget_progress(struct hf_kernel *k)
{
	int i;

	close_all(k);
	for (i = 0; i < _PROGRAM_MAX; i++)
		k->programs[i].pub.attached = false;
}

static void explain_off(struct hf_kernel *k, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void explain_off(struct hf_kernel *k, const char *fmt, ...)
{
	va_list ap;
	int i;

	forget_progress(k);
	k->assist = HF_KERNEL_ASSIST_OFF;
	va_start(ap, fmt);
	(void)vsnprintf(k->reason, sizeof(k->reason), fmt, ap);
	va_end(ap);
	for (i = 0; i < _PROGRAM_MAX; i++)
		if (!k->programs[i].reason[0])
			(void)hf_strlcpy(k->programs[i].reason, k->reason,
					 sizeof(k->programs[i].reason));
}

static void judge(struct hf_kernel *k)
{
	const struct program *missing = NULL;
	int i, on = 0, off = 0;

	for (i = 0; i < _PROGRAM_MAX; i++) {
		if (k->programs[i].pub.attached) {
			on++;
			continue;
		}
		off++;
		if (!missing)
			missing = &k->programs[i];
	}
	if (!on) {
		explain_off(k, "no program could be attached: %s", missing->reason);
		return;
	}
	k->assist = off ? HF_KERNEL_ASSIST_PARTIAL : HF_KERNEL_ASSIST_EBPF;
	if (off)
		(void)hf_strf(k->reason, sizeof(k->reason),
			      "%d of %d programs are off, first %s: %s", off, _PROGRAM_MAX,
			      missing->pub.name, missing->reason);
}

static void log_result(const struct hf_kernel *k)
{
	int i;

	if (k->assist == HF_KERNEL_ASSIST_OFF) {
		hf_notice("Kernel assist is off: %s", k->reason);
		return;
	}
	for (i = 0; i < _PROGRAM_MAX; i++)
		if (!k->programs[i].pub.attached)
			hf_notice("Program '%s' is off: %s", k->programs[i].pub.name,
				  k->programs[i].reason);
	hf_info("Kernel assist is %s%s%s", assist_names[k->assist],
		k->reopened ? ", programs kept from an earlier watchdog" : "",
		k->pinned ? "" : ", not pinned: events are lost while the watchdog is down");
}

static void set_up(struct hf_kernel *k, const struct hf_kernel_options *o)
{
	const char *root = o->pin_root ? o->pin_root : HF_KERNEL_PIN_ROOT;
	struct hf_policy policy;
	bool mounted = false;
	struct btf *btf;
	int r;

	if (o->policy)
		policy = *o->policy;
	else
		hf_kernel_default_policy(&policy);

	btf = btf__load_vmlinux_btf();
	if (!btf) {
		explain_off(k, "this kernel has no type information (/sys/kernel/btf/vmlinux): %s",
			    strerror(errno));
		return;
	}
	r = probe_kernel(k, btf);
	btf__free(btf);
	if (r < 0) {
		explain_off(k, "%s", strerror(-r));
		return;
	}

	r = hf_pins_init(&k->pins, root, o->instance, schema_hash(k));
	if (r < 0) {
		explain_off(k, "instance name '%s': %s", o->instance, strerror(-r));
		return;
	}
	r = hf_pins_ensure_bpffs(root, &mounted);
	k->pinned = r == 0;
	if (mounted)
		hf_notice("Mounted a bpf file system on '/sys/fs/bpf': nobody had");
	if (r < 0)
		hf_warn_r(r, "Cannot pin below '%s'", root);

	if (k->pinned && hf_pins_exist(&k->pins)) {
		r = reopen(k);
		if (r == 0) {
			k->reopened = true;
			r = hf_kernel_set_policy(k, &policy);
		}
		if (r < 0) {
			hf_warn_r(r, "Cannot re-open pins in '%s', loading anew", k->pins.final);
			forget_progress(k);
			k->reopened = false;
			(void)hf_pins_remove_all(&k->pins);
		}
	}
	if (!k->reopened) {
		r = load_fresh(k, &policy);
		if (r < 0) {
			explain_off(
				k, "%s%s", strerror(-r),
				r == -EPERM
					? ": needs CAP_BPF and CAP_PERFMON, and a kernel not locked down"
					: refused_why);
			return;
		}
	}
	if (k->pinned) {
		r = hf_pins_remove_others(&k->pins);
		if (r < 0)
			hf_warn_r(r, "Cannot remove old pins in '%s'", k->pins.instance);
		else if (r > 0)
			hf_info("Removed %d older set(s) of pins", r);
	}
	judge(k);
}

int hf_kernel_open(const struct hf_kernel_options *options, struct hf_kernel **ret)
{
	struct hf_kernel *k;
	int i;

	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->magic = HF_KERNEL_MAGIC;
	k->ring_bytes[HF_RING_URGENT] =
		options->urgent_bytes ? options->urgent_bytes : HF_KERNEL_URGENT_BYTES;
	k->ring_bytes[HF_RING_BULK] =
		options->bulk_bytes ? options->bulk_bytes : HF_KERNEL_BULK_BYTES;
	for (i = 0; i < _MAP_MAX; i++)
		k->map_fd[i] = -1;
	for (i = 0; i < _PROGRAM_MAX; i++) {
		k->programs[i].pub.name = program_table[i].name;
		k->programs[i].pub.reason = k->programs[i].reason;
		k->programs[i].fd = k->programs[i].link_fd = -1;
	}
	(void)libbpf_set_print(print_libbpf);
	i = libbpf_num_possible_cpus();
	k->cpus = i > 0 ? (uint32_t)i : 1;

	if (options->mode == HF_KERNEL_OFF)
		explain_off(k, "switched off by configuration");
	else
		set_up(k, options);
	/* The loader's peak is many times what stays (I3). */
	(void)malloc_trim(0);
	log_result(k);
	*ret = k;
	return 0;
}

struct hf_kernel *hf_kernel_free(struct hf_kernel *k)
{
	if (!k)
		return NULL;
	hf_assert(k->magic == HF_KERNEL_MAGIC);
	close_all(k);
	hf_buf_done(&k->names);
	k->magic = 0;
	free(k);
	return NULL;
}

int hf_kernel_unpin(struct hf_kernel *k)
{
	int i, r = 0;

	if (k->pinned)
		r = hf_pins_remove_all(&k->pins);
	k->pinned = false;
	/* The last descriptor of a link is what detaches it. */
	for (i = 0; i < _PROGRAM_MAX; i++) {
		k->programs[i].link_fd = hf_close(k->programs[i].link_fd);
		k->programs[i].pub.attached = false;
	}
	return r;
}

enum hf_kernel_assist hf_kernel_assist(const struct hf_kernel *k)
{
	return k->assist;
}

const char *hf_kernel_reason(const struct hf_kernel *k)
{
	return k->reason;
}

bool hf_kernel_reopened(const struct hf_kernel *k)
{
	return k->reopened;
}

const struct hf_kernel_program *hf_kernel_program(const struct hf_kernel *k, size_t i)
{
	return i < _PROGRAM_MAX ? &k->programs[i].pub : NULL;
}

/* ---- maps ---------------------------------------------------------------------------------- */

void hf_kernel_default_policy(struct hf_policy *ret)
{
	*ret = (struct hf_policy){
		.kinds = HF_POLICY_KINDS_DEFAULT,
		/* A cgroup may fill an eighth of the bulk ring at once, then 500 events a second. */
		.bucket_burst = 600,
		.bucket_interval_ns = 2 * HF_NS_PER_MS,
		.mark_interval_ns = HF_NS_PER_S,
		.drop_window_ns = HF_NS_PER_S,
	};
}

static int update(const struct hf_kernel *k, enum map_id map, const void *key, const void *value)
{
	if (k->map_fd[map] < 0)
		return -ENOSYS;
	return bpf_map_update_elem(k->map_fd[map], key, value, BPF_ANY) < 0 ? -errno : 0;
}

/* Removing what is not there is done already. */
static int delete (const struct hf_kernel *k, enum map_id map, const void *key)
{
	if (k->map_fd[map] < 0)
		return -ENOSYS;
	return bpf_map_delete_elem(k->map_fd[map], key) < 0 && errno != ENOENT ? -errno : 0;
}

static int set_member(const struct hf_kernel *k, enum map_id map, const void *key, bool on)
{
	uint32_t one = 1;

	return on ? update(k, map, key, &one) : delete (k, map, key);
}

int hf_kernel_set_policy(struct hf_kernel *k, const struct hf_policy *policy)
{
	struct hf_policy p = *policy;
	uint32_t zero = 0;

	p.guardian_tgid = (uint32_t)getpid();
	return update(k, MAP_POLICY, &zero, &p);
}

int hf_kernel_filter_netns(struct hf_kernel *k, uint32_t netns, bool on)
{
	return set_member(k, MAP_FILTER_NETNS, &netns, on);
}

int hf_kernel_filter_cgroup(struct hf_kernel *k, uint64_t cgroup_id, bool on)
{
	return set_member(k, MAP_FILTER_CGROUP, &cgroup_id, on);
}

int hf_kernel_filter_port(struct hf_kernel *k, uint16_t port, bool on)
{
	return set_member(k, MAP_FILTER_PORT, &port, on);
}

int hf_kernel_watch_socket(struct hf_kernel *k, uint64_t cookie, bool on)
{
	return set_member(k, MAP_WATCHED_COOKIE, &cookie, on);
}

static struct hf_process_key process_key(uint32_t tgid, uint64_t start_ns)
{
	return (struct hf_process_key){.tgid = tgid,
				       .start_tick_ns = start_ns - start_ns % HF_PROCESS_TICK_NS};
}

int hf_kernel_watch_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns)
{
	struct hf_process_key key = process_key(tgid, start_ns);

	return set_member(k, MAP_WATCHED_PROCESS, &key, true);
}

int hf_kernel_lookup_exit(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns,
			  struct hf_exit_verdict *ret)
{
	struct hf_process_key key = process_key(tgid, start_ns);
	struct hf_exit_verdict v;

	if (k->map_fd[MAP_EXIT_VERDICT] < 0)
		return -ENOSYS;
	if (bpf_map_lookup_elem(k->map_fd[MAP_EXIT_VERDICT], &key, &v) < 0)
		return -errno;
	*ret = v;
	return 0;
}

int hf_kernel_forget_process(struct hf_kernel *k, uint32_t tgid, uint64_t start_ns)
{
	struct hf_process_key key = process_key(tgid, start_ns);
	int r;

	r = delete (k, MAP_WATCHED_PROCESS, &key);
	if (r < 0)
		return r;
	return delete (k, MAP_EXIT_VERDICT, &key);
}

/* ---- for the agent ------------------------------------------------------------------------- */

int hf_kernel_ring_fd(const struct hf_kernel *k, enum hf_ring_id ring)
{
	hf_assert(ring < _HF_RING_MAX);
	return k->map_fd[MAP_RING_URGENT + (int)ring] < 0 ? -ENOSYS
							  : k->map_fd[MAP_RING_URGENT + (int)ring];
}

int hf_kernel_counters_fd(const struct hf_kernel *k)
{
	return k->map_fd[MAP_COUNTERS] < 0 ? -ENOSYS : k->map_fd[MAP_COUNTERS];
}

static uint64_t missed(const struct program *p)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);

	if (p->fd < 0 || bpf_obj_get_info_by_fd(p->fd, &info, &len) < 0)
		return 0;
	return info.recursion_misses;
}

uint64_t hf_kernel_recursion_misses(const struct hf_kernel *k)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < _PROGRAM_MAX; i++)
		sum += missed(&k->programs[i]);
	return sum;
}

static int describe(const struct hf_kernel *k, struct hf_buf *b)
{
	uint8_t boot_id[16] = {0};
	char hex[2 * sizeof(boot_id) + 1];
	int i, r;

	(void)hf_boot_id(boot_id); /* zeros: the reader compares, nothing more */
	hf_hex_encode(hex, boot_id, sizeof(boot_id));
	r = hf_buf_appendf(b, "abi %u\nassist %s\nboot_id %s\ncpus %u\n", HF_EVENT_ABI,
			   assist_names[k->assist], hex, k->cpus);
	if (!r && k->reason[0])
		r = hf_buf_appendf(b, "reason %s\n", k->reason);
	if (!r && k->assist != HF_KERNEL_ASSIST_OFF)
		r = hf_buf_appendf(b, "ring urgent %u\nring bulk %u\n",
				   k->ring_bytes[HF_RING_URGENT], k->ring_bytes[HF_RING_BULK]);
	for (i = 0; !r && i < _PROGRAM_MAX; i++) {
		const struct program *p = &k->programs[i];
		uint64_t n = missed(p);

		r = hf_buf_appendf(b, "program %s %s%s%s\n", p->pub.name,
				   p->pub.attached ? "on" : "off", p->reason[0] ? " " : "",
				   p->pub.attached ? "" : p->reason);
		if (!r && n)
			r = hf_buf_appendf(b, "missed %s %llu\n", p->pub.name,
					   (unsigned long long)n);
	}
	if (!r && k->names.len)
		r = hf_buf_append(b, k->names.data, k->names.len);
	return r;
}

int hf_kernel_text_fd(const struct hf_kernel *k)
{
	_cleanup_(hf_buf_done) struct hf_buf b = {0};
	_cleanup_close_ int fd = -1;
	int r;

	r = describe(k, &b);
	if (r < 0)
		return r;
	if (b.len > HF_KERNEL_TEXT_MAX)
		return -EMSGSIZE;
	fd = memfd_create("holdfast-kernel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r = hf_write_full(fd, b.data, b.len);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return -errno;
	return TAKE_FD(fd);
}
