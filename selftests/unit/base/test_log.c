/* SPDX-License-Identifier: Apache-2.0 */
/* Log messages: their text on both ways out, and where they go. */
#include "selftests/unit/test_util.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "userspace/base/log_format.h"

static void assert_buf(struct hf_buf *b, const void *want, size_t len)
{
	assert_int_equal(b->len, len);
	assert_memory_equal(b->data, want, len);
	hf_buf_done(b);
}

static void tamed_text_is_one_line(void **state)
{
	static const char *const rows[][2] = {
		{"", ""},
		{"plain", "plain"},
		{"two\nlines\t!", "two lines !"},
		{"\x1b[31mred\x7f\r", "?[31mred??"},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"latin \xfc", "latin ?"},
		{"mixed \xc3\xbc \xff", "mixed ?? ?"},
		{"c1 \xc2\x9b[31m", "c1 ??[31m"},
		{"\xc2\xa0", "\xc2\xa0"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		char text[64];

		assert_true(hf_strlcpy(text, rows[i][0], sizeof(text)));
		hf_log_tame(text);
		assert_string_equal(text, rows[i][1]);
	}
}

static void a_line_has_time_name_pid_level_text_and_fields(void **state)
{
	static const char want[] = "2026-01-02T03:04:05.123Z agent[42] warn: lost 'x' y? "
				   "cause=peer_reset note=\"two words\" empty=\"\"\n";
	const struct hf_log_field fields[] = {
		{"HOLDFAST_CAUSE", "peer_reset"},
		{"lower", "no"},
		{"_TRUSTED", "no"},
		{"BAD KEY", "no"},
		{"", "no"},
		{"NOTE", "two words"},
		{"EMPTY", NULL},
		{NULL, NULL},
	};
	struct hf_buf b = {};

	(void)state;
	assert_ok(hf_log_format_line(&b, UINT64_C(1767323045123999999), "agent", 42, HF_LOG_WARN,
				     "lost 'x'\ny\x1b", fields));
	assert_buf(&b, want, sizeof(want) - 1);
}

static void a_long_line_is_cut(void **state)
{
	char text[3 * HF_LOG_TEXT_MAX];
	struct hf_buf b = {};

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_ok(hf_log_format_line(&b, 0, "a", 1, HF_LOG_INFO, text, NULL));
	assert_int_equal(b.len,
			 strlen("1970-01-01T00:00:00.000Z a[1] info: ") + HF_LOG_TEXT_MAX - 1 + 1);
	assert_int_equal(b.data[b.len - 1], '\n');
	hf_buf_done(&b);
}

static void a_journal_datagram_keeps_fields_apart(void **state)
{
	static const char want[] = "PRIORITY=3\nSYSLOG_IDENTIFIER=agent\nMESSAGE=a b\n"
				   "CAUSE=x=y\nSTACK\n\3\0\0\0\0\0\0\0a\nb\n";
	const struct hf_log_field fields[] = {
		{"CAUSE", "x=y"}, {"bad", "no"}, {"GONE", NULL}, {"STACK", "a\nb"}, {NULL, NULL},
	};
	struct hf_buf b = {};

	(void)state;
	assert_ok(hf_log_format_journal(&b, "agent", HF_LOG_ERROR, "a\nb", fields));
	assert_buf(&b, want, sizeof(want) - 1);
}

static void a_line_is_taken_apart_and_nothing_is_taken_on_trust(void **state)
{
	static const struct {
		const char *line;
		enum hf_log_level level;
		const char *text, *cause;
	} rows[] = {
		{"", HF_LOG_WARN, "", NULL},
		{"plain words", HF_LOG_WARN, "plain words", NULL},
		{"==1==ERROR: AddressSanitizer: x", HF_LOG_WARN, "==1==ERROR: AddressSanitizer: x",
		 NULL},
		{"2026-01-02T03:04:05.123Z agent[42] info: hello: you", HF_LOG_INFO, "hello: you",
		 NULL},
		{"2026-01-02T03:04:05.123Z agent[42] error: x cause=peer_reset", HF_LOG_ERROR, "x",
		 "peer_reset"},
		{"2026-01-02T03:04:05.123Z agent[42] warn: x cause=", HF_LOG_WARN,
		 "x cause=", NULL},
		{"2026-01-02T03:04:05.123Z agent[42] warn: x cause=A B", HF_LOG_WARN, "x cause=A B",
		 NULL},
		{"2026-01-02T03:04:05.123Z agent[42] info: x cause=Peer", HF_LOG_INFO,
		 "x cause=Peer", NULL},
		{"2026-01-02T03:04:05.123Z agent[42] info: cause=oom", HF_LOG_INFO, "cause=oom",
		 NULL},
		{"2026-01-02T03:04:05.123Z agent[42] shout: x", HF_LOG_WARN,
		 "2026-01-02T03:04:05.123Z agent[42] shout: x", NULL},
		{"2026-01-02T03:04:05.123Z agent info: x", HF_LOG_WARN,
		 "2026-01-02T03:04:05.123Z agent info: x", NULL},
		{"2 ] info", HF_LOG_WARN, "2 ] info", NULL},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		struct hf_log_line got;
		char line[128];

		assert_true(hf_strlcpy(line, rows[i].line, sizeof(line)));
		hf_log_parse_line(line, &got);
		assert_int_equal(got.level, rows[i].level);
		assert_string_equal(got.text, rows[i].text);
		if (rows[i].cause)
			assert_string_equal(got.cause, rows[i].cause);
		else
			assert_null(got.cause);
	}
}

static void level_names_round_trip(void **state)
{
	(void)state;
	assert_err(hf_log_level_from_name(""), -EINVAL);
	assert_err(hf_log_level_from_name("INFO"), -EINVAL);
	assert_err(hf_log_level_from_name("warning"), -EINVAL);
	assert_int_equal(hf_log_level_from_name("error"), HF_LOG_ERROR);
	assert_int_equal(hf_log_level_from_name("warn"), HF_LOG_WARN);
	assert_int_equal(hf_log_level_from_name("notice"), HF_LOG_NOTICE);
	assert_int_equal(hf_log_level_from_name("info"), HF_LOG_INFO);
	assert_int_equal(hf_log_level_from_name("debug"), HF_LOG_DEBUG);
}

/* stderr as a file of the fixture, between begin and end. */
static int stderr_begin(const struct hf_test_dir *d)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	int fd = openat(d->fd, "stderr", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_ok(fd);
	assert_ok(dup2(fd, STDERR_FILENO));
	(void)hf_close(fd);
	return saved;
}

static char *stderr_end(const struct hf_test_dir *d, int saved)
{
	char *text;

	assert_ok(dup2(saved, STDERR_FILENO));
	(void)hf_close(saved);
	assert_ok(hf_read_file(d->fd, "stderr", 1 << 16, &text, NULL));
	return text;
}

static void stderr_gets_plain_lines_and_errno_stays(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_free_ char *text = NULL;
	char want[128];
	int saved;

	assert_int_equal(setenv("HOLDFAST_LOG", "nonsense", 1), 0);
	assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
	hf_log_init("unit");
	assert_int_equal(hf_log_level(), HF_LOG_INFO);
	saved = stderr_begin(d);
	errno = E2BIG;
	hf_debug("not shown");
	assert_int_equal(hf_warn_r(-ENOENT, "open '%s'", "x"), -ENOENT);
	assert_int_equal(errno, E2BIG);
	hf_log_set_level(HF_LOG_ERROR);
	assert_int_equal(hf_warn_r(-ENOENT, "not shown"), -ENOENT);
	hf_info("not shown");
	hf_log_set_level(HF_LOG_INFO);
	text = stderr_end(d, saved);
	(void)snprintf(want, sizeof(want), "Z unit[%d] warn: open 'x': No such file or directory\n",
		       getpid());
	assert_string_equal(text + strlen("2026-01-02T03:04:05.123"), want);
}

static void environment_sets_the_level(void **state)
{
	(void)state;
	assert_int_equal(setenv("HOLDFAST_LOG", "debug", 1), 0);
	hf_log_init("unit");
	assert_int_equal(hf_log_level(), HF_LOG_DEBUG);
	assert_int_equal(unsetenv("HOLDFAST_LOG"), 0);
	hf_log_set_level(HF_LOG_INFO);
}

static void the_journal_gets_datagrams_and_its_loss_goes_to_stderr(void **state)
{
	const struct hf_test_dir *d = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct hf_log_field fields[] = {{"CAUSE", "reset"}, {NULL, NULL}};
	static const char want[] =
		"PRIORITY=5\nSYSLOG_IDENTIFIER=unit\nMESSAGE=hello 1\nCAUSE=reset\n";
	_cleanup_close_ int journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *quiet = NULL, *loud = NULL;
	char got[256];
	int saved;

	assert_true(hf_strf(addr.sun_path, sizeof(addr.sun_path), "%.90s/j", d->path));
	assert_int_equal(bind(journal, (struct sockaddr *)&addr, sizeof(addr)), 0);
	hf_log_init("unit");
	hf_log_use_journal(addr.sun_path);

	saved = stderr_begin(d);
	hf_log_fields(HF_LOG_NOTICE, fields, "hello %d", 1);
	quiet = stderr_end(d, saved);
	assert_string_equal(quiet, "");
	assert_int_equal(recv(journal, got, sizeof(got), MSG_DONTWAIT), sizeof(want) - 1);
	assert_memory_equal(got, want, sizeof(want) - 1);

	assert_int_equal(unlink(addr.sun_path), 0);
	saved = stderr_begin(d);
	assert_int_equal(hf_log_oom(), -ENOMEM);
	loud = stderr_end(d, saved);
	assert_non_null(strstr(loud, "error: out of memory\n"));
	hf_log_use_journal(NULL);
}

static void anothers_line_becomes_a_message_of_its_own(void **state)
{
	const struct hf_test_dir *d = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct hf_log_field fields[] = {{"HOLDFAST_COMPONENT", "agent"}, {}};
	struct hf_log_origin o = {.name = "the-agent", .pid = getpid(), .fields = fields};
	static const char line[] = "2026-01-02T03:04:05.123Z liar[1] notice: lost cause=peer_reset";
	static const char want[] = "PRIORITY=5\nSYSLOG_IDENTIFIER=the-agent\nMESSAGE=lost\n"
				   "HOLDFAST_COMPONENT=agent\nHOLDFAST_CAUSE=peer_reset\n";
	_cleanup_close_ int journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *plain = NULL;
	char got[256], expected[128];
	int saved;

	assert_true(hf_strf(addr.sun_path, sizeof(addr.sun_path), "%.90s/j", d->path));
	assert_int_equal(bind(journal, (struct sockaddr *)&addr, sizeof(addr)), 0);
	hf_log_init("unit");
	hf_log_use_journal(addr.sun_path);
	o.uid = getuid();
	o.gid = getgid();
	hf_log_pass_on(&o, line, strlen(line));
	assert_int_equal(recv(journal, got, sizeof(got), MSG_DONTWAIT), sizeof(want) - 1);
	assert_memory_equal(got, want, sizeof(want) - 1);
	/* A process that is gone cannot be named as the sender: it is said all the same. */
	o.pid = INT32_MAX;
	hf_log_pass_on(&o, line, strlen(line));
	assert_int_equal(recv(journal, got, sizeof(got), MSG_DONTWAIT), sizeof(want) - 1);

	hf_log_use_journal(NULL);
	saved = stderr_begin(d);
	hf_log_pass_on(&o, line, strlen(line));
	plain = stderr_end(d, saved);
	(void)hf_strf(expected, sizeof(expected), "%s\n", line);
	assert_string_equal(plain, expected);
}

static void journal_stream_of_another_file_is_not_ours(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_free_ char *text = NULL;
	int saved;

	assert_int_equal(setenv("JOURNAL_STREAM", "1:1", 1), 0);
	saved = stderr_begin(d);
	hf_log_init("unit");
	hf_error("here");
	text = stderr_end(d, saved);
	assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
	assert_non_null(strstr(text, "] error: here\n"));
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, hf_test_dir_setup, hf_test_dir_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tamed_text_is_one_line),
		cmocka_unit_test(a_line_has_time_name_pid_level_text_and_fields),
		cmocka_unit_test(a_long_line_is_cut),
		cmocka_unit_test(a_journal_datagram_keeps_fields_apart),
		cmocka_unit_test(a_line_is_taken_apart_and_nothing_is_taken_on_trust),
		cmocka_unit_test(level_names_round_trip),
		WITH_DIR(stderr_gets_plain_lines_and_errno_stays),
		cmocka_unit_test(environment_sets_the_level),
		WITH_DIR(the_journal_gets_datagrams_and_its_loss_goes_to_stderr),
		WITH_DIR(anothers_line_becomes_a_message_of_its_own),
		WITH_DIR(journal_stream_of_another_file_is_not_ours),
	};

	return HF_RUN_TESTS(tests);
}
