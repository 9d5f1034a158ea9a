/* SPDX-License-Identifier: Apache-2.0 */
/* The component's end of supervise.sock against a watchdog played by the test. */
#include "userspace/agent/supervise.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "../test_util.h"
#include "base/clock.h"
#include "base/str.h"

/* Generous: the loop answers within microseconds, a busy builder within seconds. */
#define DEADLINE_NS (10 * HF_NS_PER_S)

struct seen {
	unsigned welcomes, kernels, lost, denied_request;
	int denied_error;
	enum hf_sup_assist assist;
	int info_fd;
	uint32_t exit_pid;
	char stop[HF_SUP_TEXT_MAX];
};

struct fixture {
	struct hf_test_dir *dir;
	sd_event *event;
	struct hf_supervise *s;
	struct seen seen;
	char path[300];
	int listener, peer;
};

static void on_welcome(const struct hf_sup_welcome *w, void *arg)
{
	struct seen *seen = arg;

	assert_int_equal(w->watchdog_pid, 77);
	seen->welcomes++;
}

static void on_kernel(enum hf_sup_assist assist, int fds[static _HF_SUP_FD_MAX], void *arg)
{
	struct seen *seen = arg;

	seen->kernels++;
	seen->assist = assist;
	seen->info_fd = TAKE_FD(fds[HF_SUP_FD_INFO]);
}

static void on_last_exit(const struct hf_sup_last_exit *e, void *arg)
{
	((struct seen *)arg)->exit_pid = e->pid;
}

static void on_stop(const char *reason, void *arg)
{
	struct seen *seen = arg;

	(void)hf_strlcpy(seen->stop, reason, sizeof(seen->stop));
}

static void on_denied(enum hf_sup_type request, int error, void *arg)
{
	struct seen *seen = arg;

	seen->denied_request = request;
	seen->denied_error = error;
}

static void on_lost(void *arg)
{
	((struct seen *)arg)->lost++;
}

static const struct hf_supervise_callbacks callbacks = {
	.welcome = on_welcome,
	.kernel = on_kernel,
	.last_exit = on_last_exit,
	.stop = on_stop,
	.denied = on_denied,
	.lost = on_lost,
};

static void listen_at(struct fixture *f)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	(void)unlink(f->path);
	assert_true(hf_strlcpy(addr.sun_path, f->path, sizeof(addr.sun_path)));
	f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(f->listener >= 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(f->listener, 4), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f || hf_test_dir_setup((void **)&f->dir) < 0)
		return -1;
	f->listener = f->peer = f->seen.info_fd = -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/supervise.sock", f->dir->path);
	assert_ok(sd_event_new(&f->event));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	f->s = hf_supervise_free(f->s);
	sd_event_unref(f->event);
	(void)hf_close(f->listener);
	(void)hf_close(f->peer);
	(void)hf_close(f->seen.info_fd);
	r = hf_test_dir_teardown((void **)&f->dir);
	free(f);
	return r;
}

static void start(struct fixture *f)
{
	assert_ok(hf_supervise_new(f->event, f->path, "agent", "1.2.3", true, &callbacks, &f->seen,
				   &f->s));
}

/* Runs the component's loop until `cond` holds. */
#define RUN_UNTIL(f, cond)                                              \
	do {                                                            \
		uint64_t end_ns_ = hf_now_monotonic_ns() + DEADLINE_NS; \
		while (!(cond)) {                                       \
			assert_true(hf_now_monotonic_ns() < end_ns_);   \
			assert_ok(sd_event_run((f)->event, 10 * 1000)); \
		}                                                       \
	} while (0)

static bool accepted(struct fixture *f)
{
	f->peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return f->peer >= 0;
}

/* One packet from the component, -EAGAIN when there is none. */
static int take(struct fixture *f, void *buf)
{
	ssize_t n = recv(f->peer, buf, HF_SUP_PACKET_MAX, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	assert_ok(hf_sup_check(buf, (size_t)n));
	return ((struct hf_sup_hdr *)buf)->type;
}

/* Skips PROGRESS, which comes whenever a second has passed. */
static void expect(struct fixture *f, enum hf_sup_type type, void *buf)
{
	int got = -EAGAIN;

	RUN_UNTIL(f, (got = take(f, buf)) != -EAGAIN && got != HF_SUP_PROGRESS);
	assert_string_equal(hf_sup_type_name((unsigned)got), hf_sup_type_name(type));
}

static struct hf_sup_hdr header(enum hf_sup_type type)
{
	return (struct hf_sup_hdr){HF_SUP_PROTOCOL, (uint16_t)type, (uint32_t)hf_sup_size(type)};
}

static void say(struct fixture *f, const void *msg)
{
	const struct hf_sup_hdr *h = msg;

	assert_int_equal(send(f->peer, msg, h->length, MSG_NOSIGNAL), h->length);
}

static void welcome(struct fixture *f, uint32_t expect_ms)
{
	struct hf_sup_welcome w = {
		.hdr = header(HF_SUP_WELCOME),
		.expect_ms = expect_ms,
		.deadline_ms = 3000,
		.watchdog_pid = 77,
	};
	unsigned before = f->seen.welcomes;

	say(f, &w);
	RUN_UNTIL(f, f->seen.welcomes == before + 1);
}

static void greet(struct fixture *f, uint32_t expect_ms, struct hf_sup_hello *ret)
{
	RUN_UNTIL(f, accepted(f));
	expect(f, HF_SUP_HELLO, ret);
	welcome(f, expect_ms);
}

static _Alignas(8) unsigned char buf[HF_SUP_PACKET_MAX];

static void hello_names_component_and_version(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_hello *hello = (void *)buf;

	listen_at(f);
	start(f);
	greet(f, 1000, hello);
	assert_string_equal(hello->component, "agent");
	assert_string_equal(hello->version, "1.2.3");
	assert_int_equal(hello->wants_kernel, 1);
	assert_int_equal(hello->readopted, 0);
	assert_true(hf_supervise_connected(f->s));
}

static void facts_told_before_the_welcome_arrive_after_it(void **state)
{
	struct fixture *f = *state;

	start(f); /* nobody listens yet */
	hf_supervise_ready(f->s);
	hf_supervise_status(f->s, "connecting to %s", "portal");
	assert_ok(hf_supervise_watch_socket(f->s, 4711));
	assert_false(hf_supervise_connected(f->s));
	listen_at(f);
	greet(f, 1000, (void *)buf);
	expect(f, HF_SUP_READY, buf);
	expect(f, HF_SUP_STATUS, buf);
	assert_string_equal(((struct hf_sup_text *)buf)->text, "connecting to portal");
	expect(f, HF_SUP_WATCH_SOCKET, buf);
	assert_int_equal(((struct hf_sup_cookie *)buf)->cookie, 4711);
}

static void replaced_watchdog_gets_all_facts_again(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_hello *hello = (void *)buf;

	listen_at(f);
	start(f);
	hf_supervise_ready(f->s);
	greet(f, 1000, hello);
	assert_ok(hf_supervise_watch_socket(f->s, 1));
	assert_ok(hf_supervise_watch_socket(f->s, 2));
	assert_ok(hf_supervise_watch_socket(f->s, 2));
	hf_supervise_unwatch_socket(f->s, 1);
	f->peer = hf_close(f->peer);
	RUN_UNTIL(f, f->seen.lost == 1);
	assert_false(hf_supervise_connected(f->s));
	greet(f, 1000, hello);
	assert_int_equal(hello->readopted, 1);
	expect(f, HF_SUP_READY, buf);
	expect(f, HF_SUP_WATCH_SOCKET, buf);
	assert_int_equal(((struct hf_sup_cookie *)buf)->cookie, 2);
	/* and nothing but progress follows */
	hf_supervise_stopping(f->s, "end of test");
	expect(f, HF_SUP_STOPPING, buf);
}

static void progress_counts_the_loop_and_only_idle_workers(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_progress *p = (void *)buf;
	uint64_t loop, idle;
	int busy, lazy;

	listen_at(f);
	start(f);
	busy = hf_supervise_add_worker(f->s);
	lazy = hf_supervise_add_worker(f->s);
	assert_int_equal(busy, 1);
	assert_int_equal(lazy, 2);
	hf_supervise_progress(f->s, (unsigned)busy, 500);
	greet(f, 20, (void *)buf);
	RUN_UNTIL(f, take(f, buf) == HF_SUP_PROGRESS);
	assert_int_equal(p->workers, 3);
	assert_int_equal(p->healthy, 1);
	assert_int_equal(p->counter[1], 500);
	loop = p->counter[0];
	idle = p->counter[2];
	for (int i = 0; i < 3; i++)
		RUN_UNTIL(f, take(f, buf) == HF_SUP_PROGRESS);
	assert_true(p->counter[0] > loop);
	assert_int_equal(p->counter[1], 500); /* busy and stuck: it must show */
	assert_true(p->counter[2] >= idle + 3);
	hf_supervise_idle(f->s, 1, true);
	hf_supervise_healthy(f->s, false);
	RUN_UNTIL(f, take(f, buf) == HF_SUP_PROGRESS && p->counter[1] > 500);
	assert_int_equal(p->healthy, 0);
}

static void kernel_descriptors_reach_the_owner_and_the_rest_is_closed(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_kernel k = {
		.hdr = header(HF_SUP_KERNEL), .assist = HF_SUP_ASSIST_EBPF, .fds = _HF_SUP_FD_MAX};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(_HF_SUP_FD_MAX * sizeof(int))] = {};
	struct iovec iov = {&k, sizeof(k)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fds[_HF_SUP_FD_MAX], before;

	listen_at(f);
	start(f);
	greet(f, 1000, (void *)buf);
	for (int i = 0; i < _HF_SUP_FD_MAX; i++)
		fds[i] = f->dir->fd;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	before = hf_count_open_fds();
	assert_int_equal(sendmsg(f->peer, &msg, 0), sizeof(k));
	RUN_UNTIL(f, f->seen.kernels == 1);
	assert_int_equal(f->seen.assist, HF_SUP_ASSIST_EBPF);
	assert_true(f->seen.info_fd >= 0);
	assert_int_equal(hf_count_open_fds(), before + 1);
}

static void last_exit_stop_and_denied_reach_the_owner(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_last_exit e = {.hdr = header(HF_SUP_LAST_EXIT), .pid = 4242};
	struct hf_sup_denied d = {
		.hdr = header(HF_SUP_DENIED), .request = HF_SUP_WATCH_SOCKET, .error = -E2BIG};
	struct hf_sup_text stop = {.hdr = header(HF_SUP_STOP), .text = "asked by root"};

	listen_at(f);
	start(f);
	greet(f, 1000, (void *)buf);
	say(f, &e);
	say(f, &d);
	say(f, &stop);
	RUN_UNTIL(f, f->seen.stop[0]);
	assert_int_equal(f->seen.exit_pid, 4242);
	assert_int_equal(f->seen.denied_request, HF_SUP_WATCH_SOCKET);
	assert_int_equal(f->seen.denied_error, E2BIG);
	assert_string_equal(f->seen.stop, "asked by root");
}

static void garbage_ends_the_connection_and_it_dials_again(void **state)
{
	struct fixture *f = *state;
	struct hf_sup_welcome w = {.hdr = header(HF_SUP_WELCOME), .watchdog_pid = 77};
	struct hf_sup_hdr ready = header(HF_SUP_READY);
	struct hf_sup_text endless = {.hdr = header(HF_SUP_STOP)};
	struct {
		const void *data;
		size_t len;
	} garbage[] = {
		{"x", 1},
		{&w, sizeof(w) - 1},
		{&ready, sizeof(ready)}, /* its own kind of message */
		{&w, sizeof(w)},         /* welcome twice */
		{&endless, sizeof(endless)},
	};

	memset(endless.text, 'x', sizeof(endless.text));
	listen_at(f);
	start(f);
	for (size_t i = 0; i < HF_ARRAY_SIZE(garbage); i++) {
		greet(f, 1000, (void *)buf);
		assert_int_equal(send(f->peer, garbage[i].data, garbage[i].len, 0), garbage[i].len);
		RUN_UNTIL(f, f->seen.lost == i + 1);
		f->peer = hf_close(f->peer);
	}
	assert_string_equal(f->seen.stop, "");
}

static void status_is_cut_at_a_whole_character(void **state)
{
	struct fixture *f = *state;
	char text[HF_SUP_TEXT_MAX + 8];

	memset(text, 'a', HF_SUP_TEXT_MAX - 2);
	(void)snprintf(text + HF_SUP_TEXT_MAX - 2, 10, "\xc3\xa4zz");
	listen_at(f);
	start(f);
	greet(f, 1000, (void *)buf);
	hf_supervise_status(f->s, "%s", text);
	expect(f, HF_SUP_STATUS, buf); /* take() checks the packet */
	assert_int_equal(strlen(((struct hf_sup_text *)buf)->text), HF_SUP_TEXT_MAX - 2);
}

static void watches_are_bounded(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (uint64_t i = 1; i <= HF_SUPERVISE_WATCHES_MAX; i++)
		assert_ok(hf_supervise_watch_socket(f->s, i));
	assert_err(hf_supervise_watch_socket(f->s, 99), -ENOSPC);
	hf_supervise_unwatch_socket(f->s, 12345);
	hf_supervise_unwatch_socket(f->s, 3);
	assert_ok(hf_supervise_watch_socket(f->s, 99));
}

static void bad_arguments_are_refused(void **state)
{
	struct fixture *f = *state;
	char deep[200];

	memset(deep, 'd', sizeof(deep));
	deep[sizeof(deep) - 1] = 0;
	assert_err(hf_supervise_new(f->event, deep, "agent", "1", false, NULL, NULL, &f->s),
		   -ENAMETOOLONG);
	assert_err(hf_supervise_new(f->event, f->path, "", "1", false, NULL, NULL, &f->s), -EINVAL);
	assert_err(hf_supervise_new(f->event, f->path, deep, "1", false, NULL, NULL, &f->s),
		   -EINVAL);
	assert_null(f->s);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(hello_names_component_and_version),
		CASE(facts_told_before_the_welcome_arrive_after_it),
		CASE(replaced_watchdog_gets_all_facts_again),
		CASE(progress_counts_the_loop_and_only_idle_workers),
		CASE(kernel_descriptors_reach_the_owner_and_the_rest_is_closed),
		CASE(last_exit_stop_and_denied_reach_the_owner),
		CASE(garbage_ends_the_connection_and_it_dials_again),
		CASE(status_is_cut_at_a_whole_character),
		CASE(watches_are_bounded),
		CASE(bad_arguments_are_refused),
	};
	return HF_RUN_TESTS(tests);
}
