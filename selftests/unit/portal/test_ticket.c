/* SPDX-License-Identifier: Apache-2.0 */
/* Ticket keys outlive a restart, and nothing else. */
#include "selftests/unit/test_util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "tools/portal/ticket.h"

#define DAY_NS (24 * 3600 * HF_NS_PER_S)

struct fixture {
	char dir[64], ca[96];
	int fd;
	uint64_t now_ns;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)hf_strf(f->dir, sizeof(f->dir), "/tmp/hf-ticket-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->fd >= 0);
	(void)hf_strf(f->ca, sizeof(f->ca), "%s/ca.pem", f->dir);
	assert_ok(hf_write_file_atomic(AT_FDCWD, f->ca, "one", 3, 0644));
	f->now_ns = hf_now_realtime_ns();
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	(void)unlinkat(f->fd, HF_TICKET_FILE, 0); /* not every test makes one */
	assert_int_equal(unlink(f->ca), 0);
	assert_int_equal(rmdir(f->dir), 0);
	f->fd = hf_close(f->fd);
	free(f);
	return 0;
}

static void keys_of(struct fixture *f, uint64_t now_ns, uint8_t *keys)
{
	struct hf_err err = {};

	assert_ok(hf_ticket_keys(f->fd, f->ca, now_ns, keys, &err));
}

static bool same(struct fixture *f, uint64_t now_ns, const uint8_t *before)
{
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];

	keys_of(f, now_ns, keys);
	return memcmp(keys, before, sizeof(keys)) == 0;
}

static void they_stay_for_a_week_and_are_then_others(void **state)
{
	struct fixture *f = *state;
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];

	keys_of(f, f->now_ns, keys);
	assert_int_not_equal(memcmp(keys, keys + 32, 32), 0);
	assert_true(same(f, f->now_ns + DAY_NS, keys));
	assert_true(same(f, f->now_ns + 6 * DAY_NS, keys));
	assert_false(same(f, f->now_ns + 8 * DAY_NS, keys));
}

static void another_client_ca_makes_them_worthless(void **state)
{
	struct fixture *f = *state;
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];

	keys_of(f, f->now_ns, keys);
	assert_ok(hf_write_file_atomic(AT_FDCWD, f->ca, "two", 3, 0644));
	assert_false(same(f, f->now_ns, keys));
	assert_ok(hf_write_file_atomic(AT_FDCWD, f->ca, "one", 3, 0644));
	assert_true(same(f, f->now_ns, keys));
}

static void a_file_that_others_can_read_or_that_is_cut_is_replaced(void **state)
{
	struct fixture *f = *state;
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];
	struct stat st;

	keys_of(f, f->now_ns, keys);
	assert_int_equal(fstatat(f->fd, HF_TICKET_FILE, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fchmodat(f->fd, HF_TICKET_FILE, 0644, 0), 0);
	assert_false(same(f, f->now_ns, keys));
	keys_of(f, f->now_ns, keys);
	assert_ok(hf_write_file_atomic(f->fd, HF_TICKET_FILE, "short", 5, 0600));
	assert_false(same(f, f->now_ns, keys));
}

static void a_clock_before_the_file_does_not_make_it_eternal(void **state)
{
	struct fixture *f = *state;
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];

	keys_of(f, f->now_ns, keys);
	assert_false(same(f, f->now_ns - 30 * DAY_NS, keys));
}

static void without_the_ca_it_says_which_file(void **state)
{
	struct fixture *f = *state;
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];
	struct hf_err err = {};

	assert_int_equal(hf_ticket_keys(f->fd, "/nonexistent/ca.pem", f->now_ns, keys, &err),
			 -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent/ca.pem"));
}

#define IN_A_DIRECTORY(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_DIRECTORY(they_stay_for_a_week_and_are_then_others),
		IN_A_DIRECTORY(another_client_ca_makes_them_worthless),
		IN_A_DIRECTORY(a_file_that_others_can_read_or_that_is_cut_is_replaced),
		IN_A_DIRECTORY(a_clock_before_the_file_does_not_make_it_eternal),
		IN_A_DIRECTORY(without_the_ca_it_says_which_file),
	};

	return HF_RUN_TESTS(tests);
}
