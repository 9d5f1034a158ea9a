/* SPDX-License-Identifier: Apache-2.0 */
/* Confinement: what is killed, refused and allowed, and what of the file tree can be written. */
#include "watchdog/confine.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../test_util.h"
#include "base/str.h"

static const char the_path[] = "";

static struct hf_confine prepare(bool network)
{
	struct hf_confine c;

	hf_confine_make(network, &c);
	hf_confine_add_writable(&c, "state/agent");
	hf_confine_add_writable(&c, "run");
	return c;
}

/* Runs fn in a sealed child; how it ended. */
static int sealed(const struct hf_confine *c, int (*fn)(const void *arg), const void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    hf_confine_seal(c, 1024, the_path) < 0)
			_exit(99);
		_exit(fn(arg));
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

struct call {
	long nr;
	long arg[3];
};

/* 0, or the errno. */
static int do_call(const void *arg)
{
	const struct call *c = arg;

	return syscall(c->nr, c->arg[0], c->arg[1], c->arg[2], 0, 0) < 0 ? errno : 0;
}

static void what_only_an_attacker_calls_kills(void **state)
{
	static const struct call calls[] = {
		{SYS_execve, {0}},
		{SYS_execveat, {5}},
		{SYS_execveat, {1024, 0}}, /* the descriptor, but not the address */
		{SYS_execveat, {5, (long)the_path}},
		{SYS_mount, {0}},
		{SYS_umount2, {0}},
		{SYS_pivot_root, {0}},
		{SYS_unshare, {CLONE_NEWUSER}},
		{SYS_setns, {-1}},
		{SYS_clone, {CLONE_NEWUSER | SIGCHLD}},
		{SYS_clone, {CLONE_NEWNS | SIGCHLD}},
		{SYS_bpf, {0}},
		{SYS_perf_event_open, {0}},
		{SYS_io_uring_setup, {1}},
		{SYS_init_module, {0}},
		{SYS_finit_module, {-1}},
		{SYS_kexec_load, {0}},
		{SYS_keyctl, {0}},
		{SYS_process_vm_readv, {1}},
		{SYS_pidfd_getfd, {-1}},
		{SYS_open_by_handle_at, {-1}},
		{SYS_clock_settime, {-1}},
		{SYS_reboot, {0}},
#ifndef __SANITIZE_ADDRESS__
		{SYS_ptrace, {0}},
#endif
	};
	struct hf_confine c = prepare(true);

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(calls); i++) {
		int status = sealed(&c, do_call, &calls[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("call %ld (case %zu): status %#x", calls[i].nr, i, status);
	}
}

static void the_rest_is_refused_and_newer_calls_do_not_exist(void **state)
{
	static const struct {
		struct call call;
		int error;
	} table[] = {
		{{SYS_setuid, {0}}, EPERM},
		{{SYS_setgroups, {0}}, EPERM},
		{{SYS_fchownat, {-1}}, EPERM},
		{{SYS_mknodat, {-1}}, EPERM},
		{{SYS_capset, {0}}, EPERM},
		{{SYS_clone3, {0}}, ENOSYS},
		{{451, {0}}, ENOSYS},
		{{600, {0}}, ENOSYS},
		{{0x40000000 | SYS_bpf, {0}}, ENOSYS}, /* x32 */
		{{SYS_getppid, {0}}, 0},
		{{SYS_close, {-1}}, EBADF},
	};
	struct hf_confine c = prepare(true);

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		int status = sealed(&c, do_call, &table[i].call);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != table[i].error)
			fail_msg("call %ld: status %#x instead of %s", table[i].call.nr, status,
				 strerror(table[i].error));
	}
}

static void sockets_are_of_the_families_that_were_granted(void **state)
{
	static const struct {
		int family, type, with, without;
	} table[] = {
		{AF_UNIX, SOCK_STREAM, 0, 0},
		{AF_INET, SOCK_STREAM, 0, EAFNOSUPPORT},
		{AF_INET6, SOCK_DGRAM, 0, EAFNOSUPPORT},
		{AF_NETLINK, SOCK_RAW, 0, EAFNOSUPPORT},
		{AF_PACKET, SOCK_RAW, EAFNOSUPPORT, EAFNOSUPPORT},
		{AF_ALG, SOCK_SEQPACKET, EAFNOSUPPORT, EAFNOSUPPORT},
		{AF_VSOCK, SOCK_STREAM, EAFNOSUPPORT, EAFNOSUPPORT},
	};
	struct hf_confine with = prepare(true), without = prepare(false);

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		struct call call = {SYS_socket, {table[i].family, table[i].type, 0}};

		assert_int_equal(sealed(&with, do_call, &call), table[i].with << 8);
		assert_int_equal(sealed(&without, do_call, &call), table[i].without << 8);
	}
}

static void *thread_body(void *arg)
{
	return arg;
}

/* libc asks for clone3() first and must take the answer. */
static int start_thread(const void *arg)
{
	pthread_t t;
	int r;

	(void)arg;
	r = pthread_create(&t, NULL, thread_body, NULL);
	return r ? r : pthread_join(t, NULL);
}

static int fork_child(const void *arg)
{
	pid_t pid = fork();
	int status;

	(void)arg;
	if (pid == 0)
		_exit(7);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 7 << 8 ? 0 : 1;
}

static void threads_and_children_can_be_had(void **state)
{
	struct hf_confine c = prepare(true);

	(void)state;
	assert_int_equal(sealed(&c, start_thread, NULL), 0);
	assert_int_equal(sealed(&c, fork_child, NULL), 0);
}

#ifdef __x86_64__
static int call_as_i386(const void *arg)
{
	long result = 20; /* getpid there */

	(void)arg;
	__asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
	return 0;
}
#endif

static void calls_of_another_machine_kill(void **state)
{
#ifdef __x86_64__
	struct hf_confine c = prepare(true);

	/* By the filter, or by a kernel that has no such calls. */
	assert_true(WIFSIGNALED(sealed(&c, call_as_i386, NULL)));
#endif
	(void)state;
}

/* ---- the view ------------------------------------------------------------------------------------ */

static const struct {
	const char *line;
	int r;
	const char *path;
	unsigned long flags;
	bool remote;
} lines[] = {
	{"", -EINVAL, NULL, 0, false},
	{"36", -EINVAL, NULL, 0, false},
	{"36 35 98:0 /mnt1 /mnt2", -EINVAL, NULL, 0, false},
	{"36 35 98:0 /mnt1 /mnt2 rw", -EINVAL, NULL, 0, false},
	{"36 35 98:0 /mnt1 /mnt2 rw -", -EINVAL, NULL, 0, false},
	{"36 35 98:0 /mnt1 relative rw - ext4 /dev/x rw", -EINVAL, NULL, 0, false},
	{"36 35 98:0 / / rw,relatime shared:1 - ext4 /dev/x rw", 0, "/", 0, false},
	{"36 35 98:0 / /a ro,nosuid,nodev,noexec,noatime - tmpfs x rw", 0, "/a",
	 MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
	{"36 35 98:0 / /b\\040c\\134\\011 rw,nodevice master:1 shared:2 - ext4 x rw", 0, "/b c\\\t",
	 0, false},
	{"36 35 0:9 / /n rw - nfs4 server:/ rw", 0, "/n", 0, true},
	{"36 35 0:9 / /f rw - fuse.sshfs x rw", 0, "/f", 0, true},
	/* cut off in the options of the file system */
	{"36 35 0:9 / /o rw - overlay", 0, "/o", 0, false},
};

static void mount_lines_are_taken_apart(void **state)
{
	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(lines); i++) {
		struct hf_mount_line m;
		char copy[256];

		assert_true(hf_strlcpy(copy, lines[i].line, sizeof(copy)));
		assert_int_equal(hf_mount_line_parse(copy, &m), lines[i].r);
		if (lines[i].r < 0)
			continue;
		assert_string_equal(m.path, lines[i].path);
		assert_int_equal(m.flags, lines[i].flags);
		assert_int_equal(m.remote, lines[i].remote);
	}
}

/* 0, or the errno of making a file there. */
static int try_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	(void)hf_close(fd);
	return 0;
}

/* What root could write within the view, as a bit mask of three places. */
static int written_in_view(int (*view)(const struct hf_confine *c), const char *dir)
{
	struct hf_confine c = prepare(true);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (chdir(dir) < 0 || view(&c) < 0)
			_exit(99);
		_exit((try_write("state/agent/x") == 0) | (try_write("run/x") == 0) << 1 |
		      (try_write("state/x") == EROFS) << 2 | (try_write("/tmp/x") == EROFS) << 3 |
		      (try_write("/dev/null") == 0) << 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void only_its_own_directories_are_writable(void **state)
{
	const struct hf_test_dir *d = *state;
	char outside[300];

	if (geteuid() != 0)
		skip(); /* only root has mounts to change */
	assert_ok(hf_mkdir_p(d->fd, "state/agent", 0755));
	assert_ok(hf_mkdir_p(d->fd, "run", 0755));
	assert_int_equal(written_in_view(hf_confine_view, d->path), 0x1f);
	assert_int_equal(written_in_view(hf_confine_view_one_by_one, d->path), 0x1f);
	/* And ours is as it was. */
	(void)hf_strf(outside, sizeof(outside), "%s/state/x", d->path);
	assert_int_equal(try_write(outside), 0);
}

/* In a tree of mounts of its own, shared as on a host: 0 if the view lets go of what is unmounted. */
static int unmount_reaches_the_view(const char *dir)
{
	struct hf_confine c = prepare(true);
	int up[2], down[2], status;
	char byte = 0;
	pid_t pid;

	if (chdir(dir) < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	    mount("hf-test", "disk", "tmpfs", 0, NULL) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0 || pipe2(up, O_CLOEXEC) < 0 ||
	    pipe2(down, O_CLOEXEC) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		byte = hf_confine_view(&c) == 0 && try_write("disk/x") == EROFS;
		if (write(up[1], &byte, 1) != 1 || read(down[0], &byte, 1) != 1)
			_exit(3);
		/* No file system there any more: the directory under it, of the same tree. */
		_exit(try_write("disk/below") == EROFS && access("disk/marker", F_OK) == 0 ? 0 : 4);
	}
	if (read(up[0], &byte, 1) != 1 || byte != 1 || umount2("disk", 0) < 0 ||
	    close(open("disk/marker", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) < 0 ||
	    write(down[1], &byte, 1) != 1)
		return 5;
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 6;
}

static void what_the_host_unmounts_is_not_kept_busy(void **state)
{
	const struct hf_test_dir *d = *state;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	assert_ok(hf_mkdir_p(d->fd, "state/agent", 0755));
	assert_ok(hf_mkdir_p(d->fd, "run", 0755));
	assert_ok(hf_mkdir_p(d->fd, "disk", 0755));
	pid = fork();
	if (pid == 0)
		_exit(unmount_reaches_the_view(d->path));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void status_names_what_is_missing(void **state)
{
	struct hf_confined c = {.filter = true, .view = true};
	char text[192];

	(void)state;
	hf_confine_describe(&c, text, sizeof(text));
	assert_string_equal(text, "system call filter, read-only view");
	c = (struct hf_confined){.filter = true, .view_error = -EPERM};
	hf_confine_describe(&c, text, sizeof(text));
	assert_string_equal(text,
			    "system call filter, no read-only view (Operation not permitted)");
	c = (struct hf_confined){.filter_error = -ENOSYS};
	hf_confine_describe(&c, text, sizeof(text));
	assert_string_equal(text,
			    "no system call filter (Function not implemented), no read-only view");
	/* Of ourselves: nothing more than we have. */
	assert_ok(hf_confine_observe((uint32_t)getpid(), &c));
	assert_false(c.filter || c.view);
	assert_err(hf_confine_observe(0, &c), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_only_an_attacker_calls_kills),
		cmocka_unit_test(the_rest_is_refused_and_newer_calls_do_not_exist),
		cmocka_unit_test(sockets_are_of_the_families_that_were_granted),
		cmocka_unit_test(threads_and_children_can_be_had),
		cmocka_unit_test(calls_of_another_machine_kill),
		cmocka_unit_test(mount_lines_are_taken_apart),
		cmocka_unit_test_setup_teardown(only_its_own_directories_are_writable,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(what_the_host_unmounts_is_not_kept_busy,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test(status_names_what_is_missing),
	};
	return HF_RUN_TESTS(tests);
}
