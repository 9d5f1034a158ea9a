/* SPDX-License-Identifier: Apache-2.0 */
/* The paths of an instance: installed ones are absolute, a directory's are relative to it. */
#include "holdfast/paths.h"

#include <sys/stat.h>

#include "../test_util.h"

static void installed_instance_is_main_and_absolute(void **state)
{
	struct hf_paths p;

	(void)state;
	assert_ok(hf_paths_init(NULL, &p));
	assert_true(p.installed);
	assert_string_equal(p.instance, "main");
	assert_string_equal(p.config, "/etc/holdfast/config.yml");
	assert_string_equal(p.agent_state, "/var/lib/holdfast/agent");
	assert_string_equal(p.supervise_sock, "/run/holdfast/supervise.sock");
	assert_string_equal(p.watchdog_url, "ipc:///run/holdfast/watchdog.sock");
}

static void directory_instance_changes_into_it_and_is_relative(void **state)
{
	struct hf_test_dir *d = *state;
	_cleanup_free_ char *before = getcwd(NULL, 0);
	_cleanup_free_ char *inside = NULL;
	struct hf_paths p;

	assert_ok(hf_paths_init(d->path, &p));
	inside = getcwd(NULL, 0);
	assert_string_equal(inside, d->path);
	assert_false(p.installed);
	assert_string_equal(p.config, "config.yml");
	assert_string_equal(p.state_dir, "state");
	assert_string_equal(p.watchdog_state, "state/watchdog");
	assert_string_equal(p.run_dir, "run");
	assert_string_equal(p.agent_url, "ipc://run/agent.sock");
	assert_int_equal(chdir(before), 0);
}

static void same_directory_is_same_instance_and_another_is_not(void **state)
{
	struct hf_test_dir *d = *state;
	_cleanup_free_ char *before = getcwd(NULL, 0);
	struct hf_paths a, b, c;

	assert_int_equal(mkdirat(d->fd, "x", 0700), 0);
	assert_ok(hf_paths_init(d->path, &a));
	assert_ok(hf_paths_init("x", &c));
	assert_ok(hf_paths_init("..", &b));
	assert_string_equal(a.instance, b.instance);
	assert_string_not_equal(a.instance, c.instance);
	assert_int_equal(strlen(a.instance), strlen("dev-0123456789abcdef"));
	assert_int_equal(chdir(before), 0);
}

static void missing_directory_is_an_error_and_ret_untouched(void **state)
{
	struct hf_test_dir *d = *state;
	struct hf_paths p = {.instance = "untouched"};
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/none", d->path);
	assert_err(hf_paths_init(path, &p), -ENOENT);
	assert_string_equal(p.instance, "untouched");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(installed_instance_is_main_and_absolute),
		cmocka_unit_test_setup_teardown(directory_instance_changes_into_it_and_is_relative,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(same_directory_is_same_instance_and_another_is_not,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test_setup_teardown(missing_directory_is_an_error_and_ret_untouched,
						hf_test_dir_setup, hf_test_dir_teardown),
	};
	return HF_RUN_TESTS(tests);
}
