/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a process: what fails is named, and nothing ever runs as root. */
#include "watchdog/spawn.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/wait.h>

#include "../test_util.h"
#include "base/clock.h"
#include "base/str.h"
#include "watchdog/confine.h"

#define USER 60540 /* needs no account */

static struct hf_spawn request(int exe, char *const *argv, int out)
{
	static char *const env[] = {NULL};

	return (struct hf_spawn){
		.exe_fd = exe,
		.name = argv[0],
		.argv = argv,
		.envp = env,
		.uid = USER,
		.gid = USER,
		.stderr_fd = out,
		.cgroup_dir = -1,
	};
}

static int open_program(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void program_runs_with_nothing_and_its_output_is_ours(void **state)
{
	/* Prints its capabilities, its user and its open descriptors. */
	char script[] = "exec 2>&1; grep -E '^(Uid|Groups|CapBnd|CapAmb|NoNewPrivs|SigBlk|SigIgn)' "
			"/proc/self/status; ls /proc/self/fd | tr '\\n' ' '";
	char arg0[] = "sh", arg1[] = "-c";
	char *argv[] = {arg0, arg1, script, NULL};
	int exe = open_program("/bin/sh"), fds[2], status;
	struct hf_spawned p;
	struct hf_spawn s;
	const char *step;
	char out[2048];
	ssize_t n;

	(void)state;
	if (geteuid() != 0) {
		(void)hf_close(exe);
		skip(); /* only root can become somebody else */
	}
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s = request(exe, argv, fds[1]);
	assert_ok(hf_spawn(&s, &p, &step));
	assert_true(p.pid > 0 && p.pidfd >= 0);
	assert_true(p.exec_ns <= hf_now_boottime_ns());
	(void)hf_close(fds[1]);
	n = hf_read_full(fds[0], out, sizeof(out) - 1);
	assert_ok(n);
	out[n] = 0;
	assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
	assert_int_equal(status, 0);
	assert_non_null(strstr(out, "Uid:\t60540\t60540\t60540\t60540\n"));
	assert_non_null(strstr(out, "CapBnd:\t0000000000000000\n"));
	assert_non_null(strstr(out, "CapAmb:\t0000000000000000\n"));
	assert_non_null(strstr(out, "NoNewPrivs:\t1\n"));
	assert_non_null(strstr(out, "SigBlk:\t0000000000000000\n"));
	assert_non_null(strstr(out, "SigIgn:\t0000000000000000\n"));
	/* 0, 1, 2, and the directory that ls itself reads */
	assert_non_null(strstr(out, "\n0 1 2 3 "));
	assert_null(strstr(out, "3 4"));
	(void)hf_close(fds[0]);
	(void)hf_close(p.pidfd);
	(void)hf_close(exe);
}

/* Runs a line of shell, confined in dir; what it printed. */
static int run_confined(const struct hf_test_dir *d, uint64_t capabilities, const char *line,
			char *out, size_t size)
{
	char arg0[] = "sh", arg1[] = "-c", script[1024];
	char *argv[] = {arg0, arg1, script, NULL};
	int exe = open_program("/bin/sh"), fds[2], status, cwd;
	struct hf_confine confine;
	struct hf_spawned p;
	struct hf_spawn s;
	const char *step;
	ssize_t n;

	(void)hf_strf(script, sizeof(script), "exec 2>&1; %s", line);
	cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(cwd >= 0);
	assert_int_equal(fchdir(d->fd), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	hf_confine_make(true, &confine);
	hf_confine_add_writable(&confine, "state/agent");
	s = request(exe, argv, fds[1]);
	s.worker.capabilities = capabilities;
	s.confine = &confine;
	assert_ok(hf_spawn(&s, &p, &step));
	assert_int_equal(fchdir(cwd), 0);
	assert_int_equal(p.view_error, 0);
	assert_int_equal(p.filter_error, 0);
	(void)hf_close(cwd);
	(void)hf_close(fds[1]);
	n = hf_read_full(fds[0], out, size - 1);
	assert_ok(n);
	out[n] = 0;
	assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
	(void)hf_close(fds[0]);
	(void)hf_close(p.pidfd);
	(void)hf_close(exe);
	return status;
}

static void make_instance(const struct hf_test_dir *d)
{
	assert_int_equal(chmod(d->path, 0755), 0);
	assert_ok(hf_mkdir_p(d->fd, "state/agent", 0755));
	assert_ok(hf_mkdir_p(d->fd, "run", 0755));
	assert_int_equal(fchownat(d->fd, "state/agent", USER, USER, 0), 0);
	assert_ok(hf_mkdir_p(d->fd, "open", 0755));
	assert_int_equal(fchmodat(d->fd, "open", 0777, 0), 0);
}

static void confined_program_writes_its_own_directories_only(void **state)
{
	const struct hf_test_dir *d = *state;
	char out[4096];

	if (geteuid() != 0)
		skip();
	make_instance(d);
	assert_int_equal(run_confined(d, 0,
				      "echo a >state/agent/f && echo wrote; "
				      "(echo b >open/f) || echo refused; "
				      "while read -r l; do echo \"$l\"; done </proc/self/status",
				      out, sizeof(out)),
			 0);
	assert_non_null(strstr(out, "wrote\n"));
	assert_non_null(strstr(out, "Read-only file system"));
	assert_non_null(strstr(out, "refused\n"));
	assert_non_null(strstr(out, "Seccomp:\t2\n"));
	assert_non_null(strstr(out, "NoNewPrivs:\t1\n"));
	assert_non_null(strstr(out, "CapBnd:\t0000000000000000\n"));
	assert_non_null(strstr(out, "CapEff:\t0000000000000000\n"));
}

static void confined_program_becomes_no_other(void **state)
{
	const struct hf_test_dir *d = *state;
	char out[4096];
	int status;

	if (geteuid() != 0)
		skip();
	make_instance(d);
	status = run_confined(d, 0, "echo before; exec /bin/true; echo after", out, sizeof(out));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
	assert_string_equal(out, "before\n");
}

static void capabilities_that_are_kept_and_no_others(void **state)
{
	const struct hf_test_dir *d = *state;
	char out[4096];

	if (geteuid() != 0)
		skip();
	make_instance(d);
	/* DAC_READ_SEARCH and SYS_PTRACE: it reads what only root may. */
	assert_ok(hf_mkdir_p(d->fd, "secret", 0700));
	assert_int_equal(run_confined(d, 1 << CAP_DAC_READ_SEARCH | 1 << CAP_SYS_PTRACE,
				      "cd secret && echo inside; (echo b >open/f) || echo refused; "
				      "while read -r l; do echo \"$l\"; done </proc/self/status",
				      out, sizeof(out)),
			 0);
	assert_non_null(strstr(out, "inside\n"));
	assert_non_null(strstr(out, "refused\n"));
	assert_non_null(strstr(out, "Uid:\t60540\t60540\t60540\t60540\n"));
	assert_non_null(strstr(out, "CapEff:\t0000000000080004\n"));
	assert_non_null(strstr(out, "CapBnd:\t0000000000080004\n"));
}

static void root_is_refused_before_anything_happens(void **state)
{
	char arg0[] = "true";
	char *argv[] = {arg0, NULL};
	int exe = open_program("/bin/true");
	struct hf_spawn s = request(exe, argv, STDERR_FILENO);
	struct hf_spawned p = {.pid = 77};
	const char *step;

	(void)state;
	s.uid = 0;
	assert_err(hf_spawn(&s, &p, &step), -EINVAL);
	s.uid = USER;
	s.gid = 0;
	assert_err(hf_spawn(&s, &p, &step), -EINVAL);
	assert_int_equal(p.pid, 77);
	(void)hf_close(exe);
}

static void failing_exec_is_named_and_leaves_no_child(void **state)
{
	char arg0[] = "passwd";
	char *argv[] = {arg0, NULL};
	int exe = open_program("/etc/passwd");
	struct hf_spawn s = request(exe, argv, STDERR_FILENO);
	struct hf_spawned p;
	const char *step;

	(void)state;
	if (geteuid() != 0) {
		(void)hf_close(exe);
		skip();
	}
	assert_err(hf_spawn(&s, &p, &step), -EACCES);
	assert_string_equal(step, "exec");
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	(void)hf_close(exe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(program_runs_with_nothing_and_its_output_is_ours),
		cmocka_unit_test_setup_teardown(confined_program_writes_its_own_directories_only,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(confined_program_becomes_no_other,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(capabilities_that_are_kept_and_no_others,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test(root_is_refused_before_anything_happens),
		cmocka_unit_test(failing_exec_is_named_and_leaves_no_child),
	};
	return HF_RUN_TESTS(tests);
}
