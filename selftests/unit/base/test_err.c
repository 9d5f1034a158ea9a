/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as sentences, and the end of a process with a bug. */
#include "selftests/unit/test_util.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "base/err.h"

static void no_error_struct_is_fine(void **state)
{
	(void)state;
	assert_int_equal(hf_err_set(NULL, -ENOENT, "x"), -ENOENT);
	assert_int_equal(hf_err_wrap(NULL, "x"), 0);
}

static void wraps_from_the_outside_in(void **state)
{
	struct hf_err err = {};

	(void)state;
	assert_int_equal(hf_err_set(&err, -ENOENT, "open '%s': %s", "x", strerror(ENOENT)),
			 -ENOENT);
	assert_int_equal(hf_err_wrap(&err, "load %s", "policy"), -ENOENT);
	assert_string_equal(err.msg, "load policy: open 'x': No such file or directory");
	assert_int_equal(err.code, -ENOENT);
}

static void too_long_keeps_the_outer_context(void **state)
{
	struct hf_err err = {};
	char longer[2 * HF_ERR_MSG_MAX];

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(hf_err_set(&err, -EIO, "%s", longer), -EIO);
	assert_int_equal(strlen(err.msg), HF_ERR_MSG_MAX - 1);
	assert_int_equal(hf_err_wrap(&err, "outer"), -EIO);
	assert_int_equal(strlen(err.msg), HF_ERR_MSG_MAX - 1);
	assert_memory_equal(err.msg, "outer: xxx", 10);
	assert_int_equal(hf_err_wrap(&err, "%s", longer), -EIO);
	assert_int_equal(strlen(err.msg), HF_ERR_MSG_MAX - 1);
}

/* Runs fn in a child; returns its wait status and what it wrote to stderr. */
static int in_child(void (*fn)(void), char *text, size_t size)
{
	int pipefd[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	pid = fork();
	assert_ok(pid);
	if (pid == 0) {
		(void)signal(SIGABRT, SIG_DFL); /* cmocka catches it */
		(void)dup2(pipefd[1], STDERR_FILENO);
		fn();
		_exit(0);
	}
	(void)hf_close(pipefd[1]);
	n = hf_read_full(pipefd[0], text, size - 1);
	assert_ok(n);
	text[n] = '\0';
	(void)hf_close(pipefd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define MAGIC 0x1234

struct object {
	unsigned magic;
};

static void cast_of_a_stranger(void)
{
	struct object o = {.magic = MAGIC + 1};

	(void)HF_CAST(&o, struct object, MAGIC);
}

static void holds(void)
{
	struct object o = {.magic = MAGIC};

	hf_assert(HF_CAST((void *)&o, struct object, MAGIC) == &o);
}

static void an_assertion_aborts_and_says_where(void **state)
{
	char text[1024];
	int status = in_child(cast_of_a_stranger, text, sizeof(text));

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, "assertion failed: _o && _o->magic == (0x1234) ("));
	assert_non_null(strstr(text, "test_err.c:"));
	assert_non_null(strstr(text, ", cast_of_a_stranger)\n"));
	assert_int_equal(in_child(holds, text, sizeof(text)), 0);
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_error_struct_is_fine),
		cmocka_unit_test(wraps_from_the_outside_in),
		cmocka_unit_test(too_long_keeps_the_outer_context),
		cmocka_unit_test(an_assertion_aborts_and_says_where),
	};

	return HF_RUN_TESTS(tests);
}
