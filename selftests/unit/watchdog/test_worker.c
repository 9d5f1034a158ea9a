/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers that behave and workers that do not. This program is its own worker: started with
 * --worker it does what its parameters say.
 */
#include "watchdog/worker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../test_util.h"
#include "base/clock.h"
#include "base/str.h"
#include "watchdog/cgroup.h"
#include "watchdog/proc.h"

#define USER        "60543" /* needs no account */
#define DEADLINE_MS 60000
#define RESULT_MAX  65536

/* ---- the worker's side ------------------------------------------------------------------------ */

static volatile sig_atomic_t terminated;

static void on_term(int sig)
{
	(void)sig;
	terminated = 1;
}

static void write_result(const char *text)
{
	if (hf_write_full(HF_WORKER_FD_RESULT, text, strlen(text)) < 0)
		_exit(9);
}

static void done(enum hf_worker_outcome outcome, const char *text)
{
	_exit(hf_worker_send_done(HF_WORKER_FD_PROGRESS, outcome, text) < 0 ? 8 : 0);
}

/* Its rights, as the kernel sees them, and what it was given. */
static void tell_rights(void)
{
	char status[8192], out[4096] = "", net[256];
	ssize_t n;
	int fd = open("/proc/self/status", O_RDONLY);

	n = hf_read_full(fd, status, sizeof(status) - 1);
	status[n > 0 ? n : 0] = 0;
	for (char *line = strtok(status, "\n"); line; line = strtok(NULL, "\n"))
		if (hf_startswith(line, "Cap") || hf_startswith(line, "Uid:") ||
		    hf_startswith(line, "NoNewPrivs:")) {
			strncat(out, line, sizeof(out) - strlen(out) - 2);
			strcat(out, "\n");
		}
	(void)close(fd);
	fd = open("/proc/self/net/dev", O_RDONLY);
	n = 0;
	for (char c; read(fd, &c, 1) == 1;)
		n += c == '\n';
	(void)close(fd);
	(void)hf_strf(net, sizeof(net), "interfaces %zd fds %d input %d\n", n - 2,
		      hf_count_open_fds(), fcntl(HF_WORKER_FD_INPUT, F_GETFD) >= 0);
	strcat(out, net);
	write_result(out);
	done(HF_WORKER_SUCCEEDED, "");
}

static void leave_children(void)
{
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			if (i == 2)
				(void)signal(SIGTERM, SIG_IGN);
			for (;;)
				(void)pause();
		}
	done(HF_WORKER_SUCCEEDED, "left three");
}

static _Noreturn void be_worker(void)
{
	char params[256];
	ssize_t n = hf_read_full(HF_WORKER_FD_PARAMS, params, sizeof(params) - 1);
	struct hf_worker_frame frame = {.protocol = 77};

	params[n > 0 ? n : 0] = 0;
	if (hf_streq(params, "good")) {
		for (uint32_t i = 1; i <= 3; i++)
			(void)hf_worker_send_progress(HF_WORKER_FD_PROGRESS, i * 30, i, "step");
		write_result("the result");
		done(HF_WORKER_SUCCEEDED, "");
	} else if (hf_streq(params, "rights")) {
		tell_rights();
	} else if (hf_streq(params, "fail")) {
		done(HF_WORKER_FAILED, "it did not work");
	} else if (hf_streq(params, "crash")) {
		(void)!write(STDERR_FILENO, "first\nlast words\n", 17);
		(void)raise(SIGKILL);
	} else if (hf_streq(params, "quit")) {
		_exit(3);
	} else if (hf_streq(params, "flood")) {
		for (uint64_t i = 0;; i++)
			if (hf_worker_send_progress(HF_WORKER_FD_PROGRESS, 1, i, "more") < 0)
				_exit(7);
	} else if (hf_streq(params, "garbage")) {
		(void)send(HF_WORKER_FD_PROGRESS, &frame, sizeof(frame), 0);
		for (;;)
			(void)pause();
	} else if (hf_streq(params, "busy hang")) {
		/* Talks, but gets nothing done. */
		for (;;) {
			(void)hf_worker_send_progress(HF_WORKER_FD_PROGRESS, 5, 1, "at it");
			(void)usleep(20000);
		}
	} else if (hf_streq(params, "children")) {
		leave_children();
	} else if (hf_streq(params, "obey")) {
		(void)signal(SIGTERM, on_term);
		(void)hf_worker_send_progress(HF_WORKER_FD_PROGRESS, 1, 1, "ready");
		while (!terminated)
			(void)usleep(2000);
		write_result("half of it");
		done(HF_WORKER_CANCELLED, "as asked");
	} else if (hf_streq(params, "die on TERM")) {
		(void)hf_worker_send_progress(HF_WORKER_FD_PROGRESS, 1, 1, "ready");
	} else if (hf_streq(params, "big")) {
		char block[4096] = {1};

		(void)signal(SIGXFSZ, SIG_IGN);
		for (int i = 0; i < 64; i++)
			if (hf_write_full(HF_WORKER_FD_RESULT, block, sizeof(block)) < 0)
				done(HF_WORKER_FAILED, "no room");
		done(HF_WORKER_SUCCEEDED, "");
	}
	for (;;)
		(void)pause();
}

/* ---- the fixture ------------------------------------------------------------------------------- */

struct fixture {
	struct hf_test_dir *dir;
	struct hf_watchdog w;
	bool done;
	unsigned progress, last_percent;
	char last_text[HF_WORKER_TEXT_MAX];
	enum hf_worker_outcome outcome;
	char reason[HF_WORKER_TEXT_MAX];
	int result;
	struct hf_worker *k;
	bool cancel_at_progress;
};

static char own_name[64];

static const struct hf_worker_spec spec = {
	.name = "test",
	.program = own_name,
	.account = USER,
	.account_key = "test.user",
	.capabilities = 1u << 2 | 1u << 19, /* DAC_READ_SEARCH, SYS_PTRACE */
	.memory_bytes = 64 << 20,
	.result_bytes = RESULT_MAX,
	.file_bytes = RESULT_MAX,
	.idle_limit_ns = 40 * HF_NS_PER_S,
	.hard_limit_ns = 50 * HF_NS_PER_S,
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[512], *slash;
	const char *why;
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (!f || n < 0 || geteuid() != 0) {
		free(f);
		*state = NULL;
		return geteuid() != 0 ? 0 : -1;
	}
	path[n] = 0;
	slash = strrchr(path, '/');
	(void)hf_strlcpy(own_name, slash + 1, sizeof(own_name));
	*slash = 0;
	if (hf_test_dir_setup((void **)&f->dir) < 0)
		return -1;
	f->result = -1;
	f->w.bin_dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->w.state_dir = f->dir->fd;
	(void)hf_strf(path, sizeof(path), "unit-%d", getpid());
	f->w.cgroup_base = getenv("HF_TEST_NO_CGROUP") ? -1 : hf_cgroup_open_base(path, &why);
	assert_ok(sd_event_new(&f->w.event));
	assert_ok(hf_workers_new(&f->w, &spec, 1, &f->w.workers));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char name[64];

	if (!f)
		return 0;
	f->w.workers = hf_workers_free(f->w.workers);
	(void)sd_event_unref(f->w.event);
	(void)hf_close(f->result);
	(void)hf_close(f->w.bin_dir);
	(void)hf_close(f->w.cgroup_base);
	(void)hf_strf(name, sizeof(name), "unit-%d", getpid());
	hf_cgroup_remove_base(name);
	(void)hf_test_dir_teardown((void **)&f->dir);
	free(f);
	return 0;
}

static struct fixture *fixture(void **state)
{
	if (!*state)
		skip(); /* only root can become somebody else */
	return *state;
}

static void on_progress(void *userdata, uint32_t percent, const char *text)
{
	struct fixture *f = userdata;

	f->progress++;
	f->last_percent = percent;
	(void)hf_strlcpy(f->last_text, text, sizeof(f->last_text));
	if (f->cancel_at_progress)
		hf_worker_cancel(f->k);
}

static void on_done(void *userdata, enum hf_worker_outcome outcome, int result, const char *reason)
{
	struct fixture *f = userdata;

	assert_false(f->done);
	f->done = true;
	f->outcome = outcome;
	f->result = result;
	(void)hf_strlcpy(f->reason, reason, sizeof(f->reason));
}

static struct hf_worker_request request(struct fixture *f, const char *params)
{
	return (struct hf_worker_request){
		.name = "test",
		.params = params,
		.on_progress = on_progress,
		.on_done = on_done,
		.userdata = f,
	};
}

static void wait_done(struct fixture *f)
{
	uint64_t end_ns = hf_now_monotonic_ns() + DEADLINE_MS * HF_NS_PER_MS;

	while (!f->done && hf_now_monotonic_ns() < end_ns)
		assert_ok(sd_event_run(f->w.event, 100000));
	assert_true(f->done);
	assert_false(hf_worker_runs(f->w.workers, "test"));
}

static void run(struct fixture *f, struct hf_worker_request q)
{
	struct hf_err err = {};

	if (hf_worker_start(f->w.workers, &q, &f->k, &err) < 0)
		fail_msg("start: %s", err.msg);
	assert_false(f->done);
	wait_done(f);
}

static void result_is(struct fixture *f, const char *text)
{
	char buf[4096];
	ssize_t n;

	assert_true(f->result >= 0);
	n = hf_read_full(f->result, buf, sizeof(buf) - 1);
	assert_ok(n);
	buf[n] = 0;
	assert_string_equal(buf, text);
}

/* ---- facts --------------------------------------------------------------------------------------- */

static void good_worker_tells_its_progress_and_leaves_a_sealed_result(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "good"));
	assert_int_equal(f->outcome, HF_WORKER_SUCCEEDED);
	assert_string_equal(f->reason, "");
	assert_int_equal(f->progress, 3);
	assert_int_equal(f->last_percent, 90);
	assert_string_equal(f->last_text, "step");
	result_is(f, "the result");
	assert_int_equal(pwrite(f->result, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
}

static void worker_has_the_rights_of_its_line_and_no_other(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "rights");
	int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char text[4096] = "";
	ssize_t n;

	q.inputs = &input;
	q.inputs_n = 1;
	run(f, q);
	(void)hf_close(input);
	assert_int_equal(f->outcome, HF_WORKER_SUCCEEDED);
	n = hf_read_full(f->result, text, sizeof(text) - 1);
	assert_ok(n);
	assert_non_null(strstr(text, "Uid:\t60543\t60543\t60543\t60543\n"));
	assert_non_null(strstr(text, "CapPrm:\t0000000000080004\n"));
	assert_non_null(strstr(text, "CapEff:\t0000000000080004\n"));
	assert_non_null(strstr(text, "CapBnd:\t0000000000080004\n"));
	assert_non_null(strstr(text, "NoNewPrivs:\t1\n"));
	/* its own loopback; 0 to 5, and the directory that is being counted */
	assert_non_null(strstr(text, "interfaces 1 fds 6 input 1\n"));
}

static void failure_keeps_the_workers_own_reason(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "fail"));
	assert_int_equal(f->outcome, HF_WORKER_FAILED);
	assert_string_equal(f->reason, "it did not work");
	assert_int_equal(f->result, -1);
}

static void crash_is_told_with_its_last_words(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "crash"));
	assert_int_equal(f->outcome, HF_WORKER_FAILED);
	assert_string_equal(f->reason, "ended by signal 9 (Killed): last words");
}

static void exit_without_a_word_is_a_failure(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "quit"));
	assert_int_equal(f->outcome, HF_WORKER_FAILED);
	assert_string_equal(f->reason, "ended with code 3 before it was done");
}

static void flood_ends_the_worker(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "flood"));
	assert_int_equal(f->outcome, HF_WORKER_FAILED);
	assert_string_equal(f->reason, "sent more frames than a worker may");
}

static void garbage_ends_the_worker(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "garbage"));
	assert_int_equal(f->outcome, HF_WORKER_FAILED);
	assert_string_equal(f->reason, "sent what is not a frame");
}

static void silence_ends_at_the_idle_limit(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "hang");

	q.idle_limit_ns = 50 * HF_NS_PER_MS;
	run(f, q);
	assert_int_equal(f->outcome, HF_WORKER_TIMED_OUT);
	assert_non_null(strstr(f->reason, "no progress for 50 ms"));
}

static void words_without_work_do_not_extend_the_idle_limit(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "busy hang");

	q.idle_limit_ns = 300 * HF_NS_PER_MS;
	run(f, q);
	assert_int_equal(f->outcome, HF_WORKER_TIMED_OUT);
	assert_string_equal(f->reason, "no progress for 300 ms: at it");
}

static void hard_limit_ends_even_what_progresses(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "hang");

	q.hard_limit_ns = 60 * HF_NS_PER_MS;
	run(f, q);
	assert_int_equal(f->outcome, HF_WORKER_TIMED_OUT);
	assert_non_null(strstr(f->reason, "not done after 60 ms"));
}

static bool somebody_is_left(void)
{
	return hf_proc_kill_session(0, 60543, true) > 0;
}

static void children_that_were_left_are_gone_when_the_end_is_told(void **state)
{
	struct fixture *f = fixture(state);

	run(f, request(f, "children"));
	assert_int_equal(f->outcome, HF_WORKER_SUCCEEDED);
	assert_false(somebody_is_left());
}

static void children_are_found_by_session_without_cgroups(void **state)
{
	struct fixture *f = fixture(state);

	f->w.cgroup_base = hf_close(f->w.cgroup_base);
	run(f, request(f, "children"));
	assert_int_equal(f->outcome, HF_WORKER_SUCCEEDED);
	assert_false(somebody_is_left());
}

static void cancelled_worker_says_so_itself(void **state)
{
	struct fixture *f = fixture(state);

	f->cancel_at_progress = true;
	run(f, request(f, "obey"));
	assert_int_equal(f->outcome, HF_WORKER_CANCELLED);
	assert_string_equal(f->reason, "as asked");
	assert_int_equal(f->result, -1);
}

static void worker_that_dies_of_the_cancel_is_cancelled(void **state)
{
	struct fixture *f = fixture(state);

	f->cancel_at_progress = true;
	run(f, request(f, "die on TERM"));
	assert_int_equal(f->outcome, HF_WORKER_CANCELLED);
}

static void result_is_capped(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "big");

	run(f, q);
	assert_int_equal(f->outcome, HF_WORKER_FAILED);
	assert_string_equal(f->reason, "no room");
}

static void second_start_is_refused_while_one_runs(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "obey");
	struct hf_worker *second = NULL;
	struct hf_err err = {};

	assert_ok(hf_worker_start(f->w.workers, &q, &f->k, &err));
	assert_err(hf_worker_start(f->w.workers, &q, &second, &err), -EBUSY);
	assert_string_equal(err.msg, "a test is running already");
	assert_null(second);
	q.name = "other";
	assert_err(hf_worker_start(f->w.workers, &q, &second, &err), -ENOENT);
	hf_worker_cancel(f->k);
	hf_worker_cancel(f->k);
	wait_done(f);
	assert_int_equal(f->outcome, HF_WORKER_CANCELLED);
}

static void missing_program_and_unknown_user_are_named(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "good");
	struct hf_worker_spec s = spec;
	struct hf_worker *k = NULL;
	struct hf_err err = {};

	s.program = "no-such-program";
	hf_workers_reconfigure(f->w.workers, &s);
	assert_err(hf_worker_start(f->w.workers, &q, &k, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "no-such-program"));
	s.program = own_name;
	(void)hf_strlcpy(s.account, "no-such-user", sizeof(s.account));
	hf_workers_reconfigure(f->w.workers, &s);
	assert_err(hf_worker_start(f->w.workers, &q, &k, &err), -ENOENT);
	assert_string_equal(err.msg, "there is no user 'no-such-user' (test.user)");
	assert_false(f->done);
}

static void the_end_of_the_table_ends_its_workers(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "hang");
	struct hf_err err = {};

	assert_ok(hf_worker_start(f->w.workers, &q, &f->k, &err));
	f->w.workers = hf_workers_free(f->w.workers);
	assert_true(f->done);
	assert_int_equal(f->outcome, HF_WORKER_CANCELLED);
	assert_false(somebody_is_left());
}

/* The watchdog itself is killed: what it had started ends with it. */
static void worker_does_not_outlive_the_watchdog(void **state)
{
	struct fixture *f = fixture(state);
	struct hf_worker_request q = request(f, "hang");
	struct hf_err err = {};
	int fds[2], status;
	pid_t watchdog, worker = 0;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	watchdog = fork();
	if (watchdog == 0) {
		/* A loop belongs to the process that made it. */
		if (sd_event_new(&f->w.event) >= 0 &&
		    hf_workers_new(&f->w, &spec, 1, &f->w.workers) == 0 &&
		    hf_worker_start(f->w.workers, &q, &f->k, &err) == 0)
			worker = hf_worker_pid(f->k);
		(void)!write(fds[1], &worker, sizeof(worker));
		for (;;)
			(void)pause();
	}
	assert_int_equal(hf_read_full(fds[0], &worker, sizeof(worker)), sizeof(worker));
	assert_true(worker > 0);
	assert_int_equal(kill(watchdog, SIGKILL), 0);
	assert_int_equal(waitpid(watchdog, &status, 0), watchdog);
	/* We are not its parent: it is gone when nothing of its user is alive. */
	for (uint64_t end_ns = hf_now_monotonic_ns() + DEADLINE_MS * HF_NS_PER_MS;;) {
		struct hf_proc_stat st;

		if (hf_proc_stat((uint32_t)worker, &st) < 0 || st.state == 'Z')
			break;
		assert_true(hf_now_monotonic_ns() < end_ns);
		(void)usleep(5000);
	}
	(void)hf_close(fds[0]);
	(void)hf_close(fds[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(good_worker_tells_its_progress_and_leaves_a_sealed_result),
		TEST(worker_has_the_rights_of_its_line_and_no_other),
		TEST(failure_keeps_the_workers_own_reason),
		TEST(crash_is_told_with_its_last_words),
		TEST(exit_without_a_word_is_a_failure),
		TEST(flood_ends_the_worker),
		TEST(garbage_ends_the_worker),
		TEST(silence_ends_at_the_idle_limit),
		TEST(words_without_work_do_not_extend_the_idle_limit),
		TEST(hard_limit_ends_even_what_progresses),
		TEST(children_that_were_left_are_gone_when_the_end_is_told),
		TEST(children_are_found_by_session_without_cgroups),
		TEST(cancelled_worker_says_so_itself),
		TEST(worker_that_dies_of_the_cancel_is_cancelled),
		TEST(result_is_capped),
		TEST(second_start_is_refused_while_one_runs),
		TEST(missing_program_and_unknown_user_are_named),
		TEST(the_end_of_the_table_ends_its_workers),
		TEST(worker_does_not_outlive_the_watchdog),
	};

	if (argc > 1 && hf_streq(argv[1], "--worker"))
		be_worker();
	return HF_RUN_TESTS(tests);
}
