/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel allows to the programs we want to run: each row of probe.h is loaded alone,
 * attached, run by a workload, and reported as one line
 *
 *	@@ASK name yes|no hits=N value=V          or          reason: error and verifier's last words
 *
 * followed by user-side questions (rights of a process without capabilities, pins, limits) as
 *
 *	@@FACT name yes|no detail
 *
 * Exit: 0 when the probe itself worked. "no" is an answer, not a failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "probe.h"
#include "probe.skel.h"

enum workload { NONE, TCP, RETRANS, PROC, OOM, ITER };

struct row {
	const char *name;
	const char *maps;
	enum workload work;
};

#define ROW(prog, maps, work) {#prog, maps, work},
static const struct row rows[] = {PROBE_TABLE(ROW)};

static char verifier_log[1 << 20];
static char libbpf_log[4096];

static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	size_t n = strlen(libbpf_log);

	if (level == LIBBPF_WARN && n < sizeof(libbpf_log) - 1)
		vsnprintf(libbpf_log + n, sizeof(libbpf_log) - n, fmt, ap);
	return 0;
}

static int listen_on_loopback(int backlog, struct sockaddr_in *ret_addr)
{
	socklen_t len = sizeof(*ret_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*ret_addr = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	if (fd < 0 || bind(fd, (struct sockaddr *)ret_addr, sizeof(*ret_addr)) ||
	    getsockname(fd, (struct sockaddr *)ret_addr, &len) || listen(fd, backlog)) {
		perror("probe: listen");
		exit(1);
	}
	return fd;
}

/* One connection that is reset by its peer with data unread, and one refused. */
static void work_tcp(void)
{
	struct sockaddr_in addr;
	int listener = listen_on_loopback(8, &addr);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int server;
	char buf[64] = {0};
	__u64 cookie;
	socklen_t len = sizeof(cookie);

	(void)getsockopt(client, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	if (!connect(client, (struct sockaddr *)&addr, sizeof(addr))) {
		server = accept(listener, NULL, NULL);
		(void)!write(client, buf, sizeof(buf));
		(void)!read(server, buf, 16);
		(void)!write(server, buf, 16);
		/* 48 bytes are unread: this close sends a reset. */
		close(server);
		(void)!read(client, buf, sizeof(buf));
		(void)!read(client, buf, sizeof(buf));
	}
	close(client);
	close(listener);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)!connect(client, (struct sockaddr *)&addr, sizeof(addr));
	close(client);
}

/* A listener whose queue is full drops the SYN; the client sends it again after a second. */
static void work_retrans(void)
{
	struct sockaddr_in addr;
	int listener = listen_on_loopback(0, &addr);
	int fd[4];

	for (int i = 0; i < 4; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)!connect(fd[i], (struct sockaddr *)&addr, sizeof(addr));
	}
	usleep(1500 * 1000);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	close(listener);
}

static void work_proc(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/proc/self/exe", "probe", "--exit-3", NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* The task is freed after a grace period. */
	usleep(20 * 1000);
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void work_oom(void)
{
	static const char dir[] = "/sys/fs/cgroup/probe-oom";
	char path[128];
	pid_t pid;

	(void)put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	(void)mkdir(dir, 0755);
	snprintf(path, sizeof(path), "%s/memory.max", dir);
	if (!put(path, "8M"))
		return;
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	pid = fork();
	if (pid == 0) {
		if (!put(path, "0"))
			_exit(1);
		for (int i = 0; i < 64; i++)
			memset(malloc(1 << 20), 1, 1 << 20);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	(void)rmdir(dir);
}

static void work_iter(struct bpf_link *link)
{
	struct sockaddr_in addr;
	int listener = listen_on_loopback(1, &addr);
	int fd = bpf_iter_create(bpf_link__fd(link));
	char buf[256];

	while (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
		;
	if (fd >= 0)
		close(fd);
	close(listener);
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += n)
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
			return true;
	return false;
}

/* The line before the verifier's statistics is the one that says why. */
static void last_words(char *out, size_t size)
{
	static const char *const noise[] = {
		"processed ", "verification time", "stack depth", "mark_precise", "from ", "insn "};
	const char *from = verifier_log[0] ? verifier_log : libbpf_log;
	char *copy = strdup(from), *save = NULL, *line;

	snprintf(out, size, "-");
	for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		bool skip = false;

		for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
			skip |= strncmp(line, noise[i], strlen(noise[i])) == 0;
		if (!skip && *line)
			snprintf(out, size, "%s", line);
	}
	free(copy);
}

static void try_row(const struct row *row)
{
	struct probe *skel = probe__open();
	struct bpf_program *prog, *wanted = NULL;
	struct bpf_link *link = NULL;
	struct bpf_map *map;
	char why[200];
	int r;

	if (!skel) {
		perror("probe: open");
		exit(1);
	}
	verifier_log[0] = libbpf_log[0] = '\0';
	bpf_object__for_each_program(prog, skel->obj)
	{
		bool on = strcmp(bpf_program__name(prog), row->name) == 0;

		bpf_program__set_autoload(prog, on);
		if (on)
			wanted = prog;
	}
	bpf_object__for_each_map(map, skel->obj) if (!bpf_map__is_internal(map))
		bpf_map__set_autocreate(map, has_word(row->maps, bpf_map__name(map)));
	bpf_program__set_log_buf(wanted, verifier_log, sizeof(verifier_log));

	r = probe__load(skel);
	if (r < 0) {
		last_words(why, sizeof(why));
		printf("@@ASK %s no load: %s: %s\n", row->name, strerror(-r), why);
		goto out;
	}
	link = bpf_program__attach(wanted);
	if (!link) {
		r = -errno;
		verifier_log[0] = '\0';
		last_words(why, sizeof(why));
		printf("@@ASK %s no attach: %s: %s\n", row->name, strerror(-r), why);
		goto out;
	}
	switch (row->work) {
	case TCP:
		work_tcp();
		break;
	case RETRANS:
		work_retrans();
		break;
	case PROC:
		work_proc();
		break;
	case OOM:
		work_oom();
		break;
	case ITER:
		work_iter(link);
		break;
	case NONE:
		break;
	}
	printf("@@ASK %s yes hits=%llu value=%lld\n", row->name,
	       (unsigned long long)skel->bss->hits, (long long)skel->bss->value);
out:
	fflush(stdout);
	bpf_link__destroy(link);
	probe__destroy(skel);
}

/* ---- user-side questions --------------------------------------------------------------------- */
static void fact(const char *name, int r, const char *fmt, ...)
{
	va_list ap;

	printf("@@FACT %s %s ", name, r >= 0 ? "yes" : "no");
	if (r < 0)
		printf("%s ", strerror(-r));
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void set_caps(__u64 caps)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{(__u32)caps, (__u32)caps, 0},
		{(__u32)(caps >> 32), (__u32)(caps >> 32), 0},
	};

	if (syscall(SYS_capset, &head, data))
		_exit(99);
}

/* Runs `f` in a child that is uid 65534 with these capabilities; its return value, or -errno. */
static int as_nobody(__u64 caps, int (*f)(void *), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int r;

		prctl(PR_SET_KEEPCAPS, 1);
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(99);
		set_caps(caps);
		r = f(arg);
		_exit(r < 0 ? -r : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	if (!WIFEXITED(status))
		return -EFAULT;
	return -WEXITSTATUS(status);
}

static int map_ring(void *arg)
{
	int fd = *(int *)arg, ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};
	void *consumer, *producer;

	consumer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	producer = mmap(NULL, 4096 + 2 * 65536, PROT_READ, MAP_SHARED, fd, 4096);
	if (consumer == MAP_FAILED || producer == MAP_FAILED)
		return -errno;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) || epoll_wait(ep, &ev, 1, 1000) != 1)
		return errno ? -errno : -ETIMEDOUT;
	*(volatile unsigned long *)consumer = *(volatile unsigned long *)producer;
	return 0;
}

static int map_array(void *arg)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, *(int *)arg, 0);

	return p == MAP_FAILED ? -errno : 0;
}

static int lookup(void *arg)
{
	__u64 key = 1, value[2];

	return bpf_map_lookup_elem(*(int *)arg, &key, value);
}

static int update(void *arg)
{
	__u64 key = 1, value[2] = {1, 2};

	return bpf_map_update_elem(*(int *)arg, &key, value, BPF_ANY);
}

static int load_one(void *arg)
{
	struct probe *skel = probe__open();
	struct bpf_program *prog;
	struct bpf_map *map;
	int r;

	if (!skel)
		return -errno;
	/* Given explicitly: libbpf raises the limit only once, and its parent copy already has. */
	if (setrlimit(RLIMIT_MEMLOCK, arg))
		return -errno;
	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, prog == skel->progs.m_ringbuf_reserve);
	bpf_object__for_each_map(map, skel->obj) if (!bpf_map__is_internal(map))
		bpf_map__set_autocreate(map, map == skel->maps.ring);
	r = probe__load(skel);
	if (!r && !bpf_program__attach(skel->progs.m_ringbuf_reserve))
		r = -errno;
	if (r)
		fprintf(stderr, "%s", libbpf_log);
	return r;
}

static void print_signature(const struct btf *btf, const char *tracepoint)
{
	const struct btf_type *t;
	char name[128], list[512] = "";
	int id;

	snprintf(name, sizeof(name), "btf_trace_%s", tracepoint);
	id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);
	if (id < 0) {
		fact(name, -ENOENT, "no such tracepoint");
		return;
	}
	t = btf__type_by_id(btf, btf__type_by_id(btf, (__u32)id)->type);
	t = btf__type_by_id(btf, t->type);
	for (int i = 1; i < btf_vlen(t); i++) {
		const struct btf_type *p = btf__type_by_id(btf, btf_params(t)[i].type);
		const char *star = "";
		size_t n = strlen(list);

		if (btf_is_ptr(p)) {
			star = "*";
			p = btf__type_by_id(btf, p->type);
		}
		while (btf_is_mod(p))
			p = btf__type_by_id(btf, p->type);
		snprintf(list + n, sizeof(list) - n, "%s%s%s", i > 1 ? ", " : "",
			 btf__name_by_offset(btf, p->name_off), star);
	}
	fact(name, 0, "args=%d (%s)", btf_vlen(t) - 1, list);
}

static int members(const struct btf *btf, const char *name)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_ENUM);

	return id < 0 ? -ENOENT : btf_vlen(btf__type_by_id(btf, (__u32)id));
}

static void facts(void)
{
	static const char *const tracepoints[] = {"inet_sock_set_state",
						  "tcp_send_reset",
						  "tcp_receive_reset",
						  "inet_sk_error_report",
						  "tcp_rcv_space_adjust",
						  "tcp_retransmit_skb",
						  "kfree_skb",
						  "sched_process_exit",
						  "sched_process_exec",
						  "sched_process_fork",
						  "signal_generate",
						  "mark_victim"};
	const __u64 bpf_caps = 1ull << CAP_BPF | 1ull << CAP_PERFMON;
	struct btf *btf = btf__load_vmlinux_btf();
	LIBBPF_OPTS(bpf_map_create_opts, mmapable, .map_flags = BPF_F_MMAPABLE);
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);
	struct bpf_link *link;
	struct probe *skel;
	struct bpf_map *map;
	struct bpf_program *prog;
	int hash, array, ring, sks, sock, r;
	__u64 value[2] = {5, 6};
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY}, tight = {65536, 65536};

	(void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
	for (size_t i = 0; i < sizeof(tracepoints) / sizeof(tracepoints[0]); i++)
		print_signature(btf, tracepoints[i]);
	r = members(btf, "skb_drop_reason");
	fact("enum skb_drop_reason", r, "members=%d", r);
	r = members(btf, "sk_rst_reason");
	fact("enum sk_rst_reason", r, "members=%d", r);
	btf__free(btf);

	/* A skeleton with the ring and its writer, attached: what a process without rights may do. */
	skel = probe__open();
	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, prog == skel->progs.m_ringbuf_reserve);
	bpf_object__for_each_map(map, skel->obj) if (!bpf_map__is_internal(map))
		bpf_map__set_autocreate(map, map == skel->maps.ring);
	r = probe__load(skel);
	link = r ? NULL : bpf_program__attach(skel->progs.m_ringbuf_reserve);
	if (link) {
		work_tcp();
		ring = bpf_map__fd(skel->maps.ring);
		fact("no-capability: mmap ring, epoll, consume", as_nobody(0, map_ring, &ring), "");
		r = bpf_link__pin(link, "/sys/fs/bpf/probe-link");
		fact("pin a tp_btf link", r, "");
		if (!r)
			(void)bpf_link__unpin(link);
		r = bpf_obj_get_info_by_fd(bpf_program__fd(skel->progs.m_ringbuf_reserve), &info,
					   &len);
		fact("bpf_prog_info recursion_misses",
		     len >= offsetof(struct bpf_prog_info, recursion_misses) + 8 ? r : -ENOENT,
		     "info_len=%u", len);
	} else {
		fact("ring with its writer attached", r ? r : -errno, "");
	}

	hash = bpf_map_create(BPF_MAP_TYPE_HASH, "h", 8, 16, 16, NULL);
	array = bpf_map_create(BPF_MAP_TYPE_ARRAY, "a", 4, 16, 16, &mmapable);
	(void)update(&hash);
	fact("no-capability: bpf() lookup on inherited map", as_nobody(0, lookup, &hash), "");
	fact("no-capability: bpf() update on inherited map", as_nobody(0, update, &hash), "");
	fact("CAP_BPF only: bpf() lookup on inherited map",
	     as_nobody(1ull << CAP_BPF, lookup, &hash), "");
	fact("no-capability: mmap of an array", as_nobody(0, map_array, &array), "");
	fact("CAP_BPF+PERFMON: load and attach", as_nobody(bpf_caps, load_one, &unlimited), "");
	fact("the same with RLIMIT_MEMLOCK 64 KiB", as_nobody(bpf_caps, load_one, &tight), "");
	fact("CAP_BPF+PERFMON+SYS_ADMIN: load and attach",
	     as_nobody(bpf_caps | 1ull << CAP_SYS_ADMIN, load_one, &unlimited), "");

	bpf_link__destroy(link);
	probe__destroy(skel);

	skel = probe__open();
	bpf_object__for_each_program(prog, skel->obj) bpf_program__set_autoload(prog, false);
	bpf_object__for_each_map(map, skel->obj) if (!bpf_map__is_internal(map))
		bpf_map__set_autocreate(map, map == skel->maps.sks);
	if (!probe__load(skel)) {
		sks = bpf_map__fd(skel->maps.sks);
		sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		fact("user update of sk_storage by socket fd",
		     bpf_map_update_elem(sks, &sock, value, BPF_ANY), "");
		fact("user lookup of sk_storage by socket fd",
		     bpf_map_lookup_elem(sks, &sock, value), "");
		close(sock);
	}
	probe__destroy(skel);

	/* libbpf knows no way to ask for tracing programs: -EOPNOTSUPP. Only a load tells. */
	r = libbpf_probe_bpf_helper(BPF_PROG_TYPE_TRACING, BPF_FUNC_sk_storage_get, NULL);
	fact("libbpf can probe a helper of tracing programs", r < 0 ? r : 0, "answer=%d", r);
	r = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL);
	fact("libbpf: map ringbuf", r == 1 ? 0 : -ENOENT, "answer=%d", r);
	r = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_TASK_STORAGE, NULL);
	fact("libbpf: map task_storage", r == 1 ? 0 : -ENOENT, "answer=%d", r);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--exit-3") == 0)
		return 3;
	signal(SIGPIPE, SIG_IGN);
	libbpf_set_print(print_libbpf);
	if (argc == 1)
		facts();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (argc == 1 || strncmp(rows[i].name, argv[1], strlen(argv[1])) == 0)
			try_row(&rows[i]);
	return 0;
}
