/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration loader with a table of its own: every message to the letter, garbage first. */
#include "selftests/unit/test_util.h"

#include "base/config.h"

struct inner {
	uint64_t heartbeat_s;
	uint64_t connect_ms;
	uint64_t plain;
};

struct sample {
	char *name;
	struct inner channel;
	uint64_t spool;
	bool enabled;
	unsigned mode;
	struct hf_config_list kinds;
	struct hf_config_list pins;
	char *token;
	char *url;
};

static const char *const modes[] = {"auto", "off", NULL};
static const char *const kinds[] = {"start", "stop", "scan", NULL};

static const char *check_url(const char *text)
{
	return hf_startswith(text, "https://") ? NULL : "an https:// URL";
}

static const char *check_pin(const char *text)
{
	return hf_startswith(text, "sha256/") ? NULL : "a pin as sha256/BASE64";
}

static int check_sample(const void *cfg, struct hf_err *err)
{
	const struct sample *s = cfg;

	if (s->channel.connect_ms >= s->channel.heartbeat_s * 1000)
		return hf_err_set(err, -EINVAL,
				  "channel.connect_ms must be less than channel.heartbeat_s");
	return 0;
}

#define AT(member, type) HF_CONFIG_AT(struct sample, member, type)

static const struct hf_config_entry entries[] = {
	{.key = "name",
	 .type = HF_CONFIG_STRING,
	 .offset = AT(name, char *),
	 .min = 1,
	 .max = 8,
	 .def = "prod",
	 .prose = "What it is called.",
	 .restart = true},
	{.key = "channel.heartbeat_s",
	 .type = HF_CONFIG_DURATION,
	 .offset = AT(channel.heartbeat_s, uint64_t),
	 .min = 5,
	 .max = 300,
	 .def = "20",
	 .unit = "s",
	 .prose = "How often.",
	 .env = "HF_TEST_HEARTBEAT"},
	{.key = "channel.connect_ms",
	 .type = HF_CONFIG_DURATION,
	 .offset = AT(channel.connect_ms, uint64_t),
	 .min = 1,
	 .def = "250",
	 .unit = "ms",
	 .prose = "How long."},
	{.key = "channel.plain",
	 .type = HF_CONFIG_UINT,
	 .offset = AT(channel.plain, uint64_t),
	 .def = "0",
	 .max = 9,
	 .prose = "A number."},
	{.key = "spool",
	 .type = HF_CONFIG_SIZE,
	 .offset = AT(spool, uint64_t),
	 .min = 4096,
	 .max = UINT64_C(1) << 40,
	 .def = "64MiB",
	 .prose = "How much."},
	{.key = "enabled",
	 .type = HF_CONFIG_BOOL,
	 .offset = AT(enabled, bool),
	 .def = "true",
	 .prose = "Whether."},
	{.key = "mode",
	 .type = HF_CONFIG_ENUM,
	 .offset = AT(mode, unsigned),
	 .def = "auto",
	 .names = modes,
	 .prose = "Which."},
	{.key = "kinds",
	 .type = HF_CONFIG_LIST,
	 .offset = AT(kinds, struct hf_config_list),
	 .def = "start,stop",
	 .names = kinds,
	 .min = 1,
	 .max = 3,
	 .prose = "Which ones."},
	{.key = "pins",
	 .type = HF_CONFIG_LIST,
	 .offset = AT(pins, struct hf_config_list),
	 .def = "",
	 .check = check_pin,
	 .prose = "Pins."},
	{.key = "token",
	 .type = HF_CONFIG_STRING,
	 .offset = AT(token, char *),
	 .max = 4,
	 .def = "",
	 .prose = "A secret.",
	 .secret = true},
	{.key = "portal.url",
	 .type = HF_CONFIG_STRING,
	 .offset = AT(url, char *),
	 .def = "",
	 .check = check_url,
	 .prose = "Where."},
};

static const struct hf_config_table table = {
	.entries = entries,
	.n = HF_ARRAY_SIZE(entries),
	.struct_size = sizeof(struct sample),
	.check = check_sample,
};

static char warnings[4096];

static void collect(void *userdata, const char *line)
{
	size_t len = strlen(warnings);

	assert_ptr_equal(userdata, warnings);
	(void)snprintf(warnings + len, sizeof(warnings) - len, "%s\n", line);
}

static int load(const char *text, struct sample *s, struct hf_err *err)
{
	warnings[0] = '\0';
	return hf_config_load_text(&table, "config.yml", text, strlen(text), s, collect, warnings,
				   err);
}

static void assert_defaults(const struct sample *s)
{
	assert_string_equal(s->name, "prod");
	assert_int_equal(s->channel.heartbeat_s, 20);
	assert_int_equal(s->channel.connect_ms, 250);
	assert_int_equal(s->spool, 64 << 20);
	assert_true(s->enabled);
	assert_int_equal(s->mode, 0);
	assert_int_equal(s->kinds.n, 2);
	assert_string_equal(s->kinds.items[1], "stop");
	assert_int_equal(s->pins.n, 0);
	assert_string_equal(s->url, "");
}

static void every_refusal_says_file_line_expected_and_got(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		/* form */
		{"5", "config.yml:1: the file: expected a mapping, got '5'"},
		{"- a\n- b\n", "config.yml:1: the file: expected a mapping, got a list"},
		{"a: [\n", "config.yml:2: not valid YAML: did not find expected node content"},
		{"a: 1\n\tb: 2\n",
		 "config.yml:2: not valid YAML: found a tab character that violates indentation"},
		{"a: 1\nb: \"x\n", "config.yml:3: not valid YAML: found unexpected end of stream"},
		{"name: a\n\n\xff\n", "config.yml:3: not valid YAML: invalid leading UTF-8 octet"},
		{"name: a\n\x01\n",
		 "config.yml:2: not valid YAML: control characters are not allowed"},
		{"name: a\n---\nname: b\n", "config.yml:2: a second document is not allowed"},
		{"x: &a 1\nname: *a\n", "config.yml:2: aliases are not allowed"},
		{"x: &a [*a]\n", "config.yml:1: aliases are not allowed"},
		{"? [a]\n: 1\n", "config.yml:1: expected a key, got something else"},
		{"\"na\\0me\": 1\n", "config.yml:1: expected a key, got something else"},
		{"x: [[[[[[1]]]]]]\n", "config.yml:1: nested deeper than 6 levels"},
		{"channel: 5\n", "config.yml:1: channel: expected a mapping, got '5'"},
		{"channel: [a]\n", "config.yml:1: channel: expected a mapping, got a list"},
		/* twice */
		{"name: a\nmode: off\nname: b\n", "config.yml:3: name: the key is there twice"},
		{"channel:\n  plain: 1\nchannel:\n  plain: 2\n",
		 "config.yml:3: channel: the key is there twice"},
		{"channel: {plain: 1}\nchannel.plain: 1\n",
		 "config.yml:2: channel.plain: the key is there twice"},
		/* numbers */
		{"\n# x\nchannel:\n\n\n\n  heartbeat_s: abc\n",
		 "config.yml:7: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got 'abc'"},
		{"channel: {heartbeat_s: 4}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got '4'"},
		{"channel: {heartbeat_s: 301}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got '301'"},
		{"channel: {heartbeat_s: 6m}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got '6m'"},
		{"channel: {heartbeat_s: 5500ms}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got '5500ms'"},
		{"channel: {heartbeat_s: -5}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got '-5'"},
		{"channel: {heartbeat_s: 18446744073709551616}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got '18446744073709551616'"},
		{"channel:\n  heartbeat_s:\n",
		 "config.yml:2: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got nothing"},
		{"channel: {heartbeat_s: [5]}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got a list"},
		{"channel: {heartbeat_s: {a: 5}}\n",
		 "config.yml:1: channel.heartbeat_s: expected a number of seconds from 5 to 300, "
		 "got a mapping"},
		{"channel: {connect_ms: 0}\n",
		 "config.yml:1: channel.connect_ms: expected a number of milliseconds, at least 1, "
		 "got '0'"},
		{"channel: {plain: 10}\n",
		 "config.yml:1: channel.plain: expected a number from 0 to 9, got '10'"},
		{"spool: 64MB\n",
		 "config.yml:1: spool: expected a number of bytes (or KiB, MiB, GiB) from 4096 to "
		 "1099511627776, got '64MB'"},
		{"spool: 99999999999G\n",
		 "config.yml:1: spool: expected a number of bytes (or KiB, MiB, GiB) from 4096 to "
		 "1099511627776, got '99999999999G'"},
		/* words */
		{"enabled: 1\n", "config.yml:1: enabled: expected true or false, got '1'"},
		{"mode: on\n", "config.yml:1: mode: expected one of auto, off, got 'on'"},
		{"name: ''\n", "config.yml:1: name: expected text of 1 to 8 bytes, got ''"},
		{"name:\n", "config.yml:1: name: expected text of 1 to 8 bytes, got nothing"},
		{"name: 123456789\n",
		 "config.yml:1: name: expected text of 1 to 8 bytes, got '123456789'"},
		{"name: \"a\\0b\"\n",
		 "config.yml:1: name: expected text of 1 to 8 bytes, got 'a?b'"},
		{"name: \"a\\e[1m\"\n",
		 "config.yml:1: name: expected text of 1 to 8 bytes, got 'a?[1m'"},
		{"mode: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
		 "config.yml:1: mode: expected one of auto, off, got "
		 "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"},
		{"portal:\n  url: ftp://x\n",
		 "config.yml:2: portal.url: expected an https:// URL, got 'ftp://x'"},
		{"token: secret\n",
		 "config.yml:1: token: expected text of at most 4 bytes, no control characters, "
		 "got something else (not shown)"},
		/* lists */
		{"kinds: start\n",
		 "config.yml:1: kinds: expected a list of 1 to 3 items, got 'start'"},
		{"kinds:\n", "config.yml:1: kinds: expected a list of 1 to 3 items, got nothing"},
		{"kinds: []\n", "config.yml:1: kinds: fewer than 1 items"},
		{"kinds: [start, stop, scan,\n  start]\n",
		 "config.yml:2: kinds: more than 3 items"},
		{"kinds:\n- start\n- fly\n",
		 "config.yml:3: kinds: expected one of start, stop, scan, got 'fly'"},
		{"kinds:\n- start\n- [stop]\n",
		 "config.yml:3: kinds: expected one of start, stop, scan, got a list"},
		{"pins: [sha256/x,\n 'x']\n",
		 "config.yml:2: pins: expected a pin as sha256/BASE64, got 'x'"},
		{"pins: ['']\n",
		 "config.yml:1: pins: expected text of 1 to 4096 bytes, no control characters, got "
		 "''"},
		/* together */
		{"channel: {connect_ms: 20000}\n",
		 "config.yml:1: channel.connect_ms must be less than channel.heartbeat_s"},
	};
	struct sample s = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load("", &s, &err));
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		char *before = s.name;

		assert_err(load(rows[i].text, &s, &err), -EINVAL);
		assert_string_equal(err.msg, rows[i].message);
		assert_int_equal(err.code, -EINVAL);
		/* The old struct is not even moved. */
		assert_ptr_equal(s.name, before);
		assert_defaults(&s);
	}
	hf_config_done(&table, &s);
}

static void unknown_keys_warn_with_line_and_suggestion(void **state)
{
	struct sample s = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load("nam: x\n"
		       "portal:\n"
		       "    urll: https://x\n"
		       "    nothing_like_it: {a: [1, {b: 2}]}\n"
		       "chanel: {heartbeat_s: 7}\n"
		       "heartbeat_s: 7\n"
		       "ab: 1\n"
		       "\"\\e[1mx\": 1\n"
		       "mode: off\n",
		       &s, &err));
	assert_string_equal(
		warnings,
		"config.yml:1: unknown key 'nam', ignoring (did you mean 'name'?)\n"
		"config.yml:3: unknown key 'portal.urll', ignoring (did you mean 'portal.url'?)\n"
		"config.yml:4: unknown key 'portal.nothing_like_it', ignoring\n"
		"config.yml:5: unknown key 'chanel', ignoring (did you mean 'channel'?)\n"
		"config.yml:6: unknown key 'heartbeat_s', ignoring (did you mean "
		"'channel.heartbeat_s'?)\n"
		"config.yml:7: unknown key 'ab', ignoring\n"
		"config.yml:8: unknown key '?[1mx', ignoring\n");
	assert_int_equal(s.mode, 1);
	assert_int_equal(s.channel.heartbeat_s, 20);
	hf_config_done(&table, &s);
}

static void warnings_are_capped_and_counted(void **state)
{
	struct sample s = {};
	struct hf_err err = {};
	char text[4096] = "", *p = text;
	unsigned lines = 0;

	(void)state;
	for (int i = 0; i < 30; i++)
		p += sprintf(p, "unknown_key_%d: 1\n", i);
	assert_ok(load(text, &s, &err));
	for (p = warnings; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, HF_CONFIG_WARNINGS_MAX + 1);
	assert_true(hf_endswith(warnings, "\nconfig.yml: 10 more unknown keys, ignoring\n"));
	hf_config_done(&table, &s);
}

static void sizes_are_capped(void **state)
{
	struct sample s = {};
	struct hf_err err = {};
	char *big = malloc(HF_CONFIG_FILE_MAX + 1), *p = big;

	(void)state;
	assert_non_null(big);
	memset(big, '#', HF_CONFIG_FILE_MAX + 1);
	assert_err(hf_config_load_text(&table, "c", big, HF_CONFIG_FILE_MAX + 1, &s, NULL, NULL,
				       &err),
		   -EFBIG);
	assert_string_equal(err.msg, "c: larger than 262144 bytes");
	assert_ok(hf_config_load_text(&table, "c", big, HF_CONFIG_FILE_MAX, &s, NULL, NULL, &err));
	p = stpcpy(p, "x:\n");
	for (int i = 0; i < 5000; i++)
		p = stpcpy(p, "- 1\n");
	assert_err(hf_config_load_text(&table, "c", big, (size_t)(p - big), &s, NULL, NULL, &err),
		   -EINVAL);
	assert_string_equal(err.msg, "c:4093: more than 4096 keys and values");
	assert_defaults(&s);
	free(big);
	hf_config_done(&table, &s);
}

static void empty_files_are_defaults(void **state)
{
	static const char *const rows[] = {
		"",    "\n\n", "# only a comment\n",     "---\n",
		"~\n", "{}\n", "channel:\nportal: {}\n", "\xef\xbb\xbf# mark\n"};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		struct sample s = {};
		struct hf_err err = {};

		assert_ok(load(rows[i], &s, &err));
		assert_defaults(&s);
		assert_string_equal(warnings, "");
		hf_config_done(&table, &s);
	}
}

static const char full[] = "name: \"a\\\"b\\\\c\"\n"
			   "channel:\n"
			   "  heartbeat_s: 2m\n"
			   "  connect_ms: 3s\n"
			   "channel.plain: 9\n"
			   "spool: 1G\n"
			   "enabled: off\n"
			   "mode: off\n"
			   "kinds:\n"
			   "- scan\n"
			   "- \"start\"\n"
			   "pins: [sha256/a, sha256/b]\n"
			   "token: abcd\n"
			   "portal: {url: 'https://p:4320/x'}\n";

static void values_arrive(void **state)
{
	struct sample s = {};
	struct hf_err err = {};

	(void)state;
	assert_ok(load(full, &s, &err));
	assert_string_equal(warnings, "");
	assert_string_equal(s.name, "a\"b\\c");
	assert_int_equal(s.channel.heartbeat_s, 120);
	assert_int_equal(s.channel.connect_ms, 3000);
	assert_int_equal(s.channel.plain, 9);
	assert_int_equal(s.spool, 1 << 30);
	assert_false(s.enabled);
	assert_int_equal(s.mode, 1);
	assert_int_equal(s.kinds.n, 2);
	assert_string_equal(s.kinds.items[0], "scan");
	assert_string_equal(s.kinds.items[1], "start");
	assert_int_equal(s.pins.n, 2);
	assert_string_equal(s.pins.items[1], "sha256/b");
	assert_string_equal(s.token, "abcd");
	assert_string_equal(s.url, "https://p:4320/x");
	/* A later file without them brings the defaults back. */
	assert_ok(load("pins:\ntoken: ~\n", &s, &err));
	assert_defaults(&s);
	hf_config_done(&table, &s);
	assert_null(s.name);
}

static void environment_overrides_the_file(void **state)
{
	struct sample s = {};
	struct hf_err err = {};

	(void)state;
	assert_int_equal(setenv("HF_TEST_HEARTBEAT", "77", 1), 0);
	assert_ok(load("channel: {heartbeat_s: 30}\n", &s, &err));
	assert_int_equal(s.channel.heartbeat_s, 77);
	assert_int_equal(setenv("HF_TEST_HEARTBEAT", "x\x1b", 1), 0);
	assert_err(load("", &s, &err), -EINVAL);
	assert_string_equal(err.msg, "environment variable HF_TEST_HEARTBEAT: expected a number of "
				     "seconds from 5 to 300, got 'x?'");
	assert_int_equal(s.channel.heartbeat_s, 77);
	assert_int_equal(setenv("HF_TEST_HEARTBEAT", "", 1), 0);
	assert_ok(load("channel: {heartbeat_s: 30}\n", &s, &err));
	assert_int_equal(s.channel.heartbeat_s, 30);
	assert_int_equal(unsetenv("HF_TEST_HEARTBEAT"), 0);
	hf_config_done(&table, &s);
}

static void files_missing_unreadable_and_good(void **state)
{
	const struct hf_test_dir *d = *state;
	struct sample s = {};
	struct hf_err err = {};

	assert_int_equal(hf_config_load(&table, d->fd, "absent.yml", &s, NULL, NULL, &err),
			 HF_CONFIG_MISSING);
	assert_defaults(&s);
	assert_err(hf_config_load(&table, d->fd, ".", &s, NULL, NULL, &err), -EISDIR);
	assert_string_equal(err.msg, ".: Is a directory");
	hf_test_write(d, "c.yml", "name: b\n");
	assert_int_equal(hf_config_load(&table, d->fd, "c.yml", &s, NULL, NULL, &err), 0);
	assert_string_equal(s.name, "b");
	hf_test_write(d, "c.yml", "name: too long a name\n");
	assert_err(hf_config_load(&table, d->fd, "c.yml", &s, NULL, NULL, &err), -EINVAL);
	assert_string_equal(err.msg, "c.yml:1: name: expected text of 1 to 8 bytes, got "
				     "'too long a name'");
	assert_string_equal(s.name, "b");
	hf_config_done(&table, &s);
}

static void printing_masks_secrets_and_reads_back(void **state)
{
	struct sample s = {}, back = {};
	struct hf_err err = {};
	struct hf_buf out = {};

	(void)state;
	assert_ok(load(full, &s, &err));
	assert_ok(hf_config_print(&table, &s, &out));
	assert_ok(hf_buf_append(&out, "", 1));
	assert_null(strstr((char *)out.data, "abcd"));
	assert_true(hf_startswith((char *)out.data,
				  "# What it is called.\n"
				  "# text of 1 to 8 bytes; default prod; applies at restart\n"
				  "name: \"a\\\"b\\\\c\"\n"
				  "\n"
				  "channel:\n"
				  "    # How often.\n"
				  "    # number of seconds from 5 to 300; default 20; applies at "
				  "once; environment HF_TEST_HEARTBEAT\n"
				  "    heartbeat_s: 120\n"
				  "\n"
				  "    # How long.\n"));
	assert_non_null(strstr((char *)out.data, "\n# list of 1 to 3 of start, stop, scan; default "
						 "start,stop; applies at once\n"
						 "kinds: [\"scan\", \"start\"]\n"));
	assert_non_null(strstr((char *)out.data, "\n# text; default none; applies at once; secret, "
						 "not shown\ntoken: \"********\"\n"));
	assert_true(hf_endswith((char *)out.data, "\n\nportal:\n"
						  "    # Where.\n"
						  "    # text; default none; applies at once\n"
						  "    url: \"https://p:4320/x\"\n"));
	/* The mask is too long for the token's range, so that it cannot become one by accident. */
	assert_err(load((char *)out.data, &back, &err), -EINVAL);
	memcpy(strstr((char *)out.data, "\"********\""), "abcd      ", 10);
	assert_ok(load((char *)out.data, &back, &err));
	assert_int_equal(hf_config_diff(&table, &s, &back, NULL, NULL), 0);
	hf_buf_done(&out);
	hf_config_done(&table, &s);
	hf_config_done(&table, &back);
}

static void remember(void *userdata, const struct hf_config_entry *e)
{
	char *text = userdata;

	strcat(text, e->key);
	strcat(text, e->restart ? "! " : " ");
}

static void differences_are_listed(void **state)
{
	struct sample a = {}, b = {};
	struct hf_err err = {};
	char keys[512] = "";

	(void)state;
	assert_ok(load("", &a, &err));
	assert_ok(load(full, &b, &err));
	assert_int_equal(hf_config_diff(&table, &a, &b, remember, keys), 11);
	assert_string_equal(keys, "name! channel.heartbeat_s channel.connect_ms channel.plain "
				  "spool enabled mode kinds pins token portal.url ");
	hf_config_done(&table, &b);
	assert_ok(load("kinds: [start, scan]\n", &b, &err));
	keys[0] = '\0';
	assert_int_equal(hf_config_diff(&table, &a, &b, remember, keys), 1);
	assert_string_equal(keys, "kinds ");
	hf_config_done(&table, &a);
	hf_config_done(&table, &b);
}

static void remember_change(void *userdata, const struct hf_config_entry *e)
{
	struct {
		const struct sample *a, *b;
		struct hf_buf *out;
	} *u = userdata;

	assert_ok(hf_config_print_change(e, u->a, u->b, u->out));
	assert_ok(hf_buf_append(u->out, "\n", 1));
}

static void changes_are_told_from_what_to_what(void **state)
{
	struct sample a = {}, b = {};
	struct hf_err err = {};
	struct hf_buf out = {};
	struct {
		const struct sample *a, *b;
		struct hf_buf *out;
	} u = {&a, &b, &out};

	(void)state;
	assert_ok(load("name: old\n", &a, &err));
	assert_ok(load("name: new\nchannel: {heartbeat_s: 30}\nkinds: [scan, stop]\ntoken: s3c\n"
		       "mode: off\nenabled: false\n",
		       &b, &err));
	(void)hf_config_diff(&table, &a, &b, remember_change, &u);
	assert_ok(hf_buf_append(&out, "", 1));
	assert_string_equal(out.data, "name: \"old\" -> \"new\" (at the next start)\n"
				      "channel.heartbeat_s: 20 -> 30\n"
				      "enabled: true -> false\n"
				      "mode: auto -> off\n"
				      "kinds: +scan -start\n"
				      "token: changed\n");
	hf_config_done(&table, &b);
	assert_ok(load("name: old\nkinds: [stop, start]\n", &b, &err));
	out.len = 0;
	(void)hf_config_diff(&table, &a, &b, remember_change, &u);
	assert_ok(hf_buf_append(&out, "", 1));
	assert_string_equal(out.data, "kinds: another order\n");
	hf_buf_done(&out);
	hf_config_done(&table, &a);
	hf_config_done(&table, &b);
}

static void a_complaint_about_two_keys_has_the_line_of_the_lower_one(void **state)
{
	struct sample s = {};
	struct hf_err err = {};

	(void)state;
	assert_err(load("name: x\nchannel:\n  heartbeat_s: 5\n  connect_ms: 6000\n", &s, &err),
		   -EINVAL);
	assert_non_null(strstr(err.msg, ":4: channel.connect_ms must be less than"));
}

static void the_man_page_lists_all_and_escapes(void **state)
{
	static const struct hf_config_entry one[] = {
		{.key = ".dot-key", .type = HF_CONFIG_BOOL, .def = "true", .prose = "A\\B."},
	};
	static const struct hf_config_table t = {.entries = one, .n = 1, .struct_size = 8};
	struct hf_buf out = {};

	(void)state;
	assert_ok(hf_config_print_man(&t, &out));
	assert_ok(hf_buf_append(&out, "", 1));
	assert_string_equal(out.data, ".TP\n.B \\&.dot\\-key\nA\\eB.\n.br\ntrue or false; default "
				      "true; applies at once\n");
	hf_buf_done(&out);
	assert_ok(hf_config_print_man(&table, &out));
	assert_ok(hf_buf_append(&out, "", 1));
	for (size_t i = 0; i < table.n; i++)
		assert_non_null(strstr((char *)out.data, entries[i].key));
	hf_buf_done(&out);
}

static void bad_tables_are_found(void **state)
{
	static const struct {
		struct hf_config_entry e[3];
		size_t n;
		const char *fault;
	} rows[] = {
		{{{.key = "", .prose = "x", .def = ""}}, 1, ": bad key"},
		{{{.key = "a", .def = ""}}, 1, "a: prose is one line"},
		{{{.key = "a", .prose = "x"}}, 1, "a: no default"},
		{{{.key = "a",
		   .prose = "x",
		   .type = HF_CONFIG_UINT,
		   .min = 2,
		   .max = 1,
		   .def = "1"}},
		 1,
		 "a: min above max"},
		{{{.key = "a", .prose = "x", .type = HF_CONFIG_UINT, .max = 1, .def = "2"}},
		 1,
		 "a: the default is no legal value"},
		{{{.key = "a", .prose = "x", .type = HF_CONFIG_DURATION, .def = "2", .unit = "h"}},
		 1,
		 "a: a duration's unit is s or ms"},
		{{{.key = "a", .prose = "x", .type = HF_CONFIG_ENUM, .def = "2"}},
		 1,
		 "a: an enumeration without names"},
		{{{.key = "a", .prose = "x", .def = ""}, {.key = "a", .prose = "x", .def = ""}},
		 2,
		 "a: the key is there twice"},
		{{{.key = "a", .prose = "x", .def = ""}, {.key = "a.b", .prose = "x", .def = ""}},
		 2,
		 "a.b: a value and a mapping"},
		{{{.key = "a.x", .prose = "x", .def = ""},
		  {.key = "b", .prose = "x", .def = ""},
		  {.key = "a.y", .prose = "x", .def = ""}},
		 3,
		 "a.y: keys of one mapping stand apart"},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		const struct hf_config_table t = {
			.entries = rows[i].e, .n = rows[i].n, .struct_size = 16};
		struct hf_err err = {};

		assert_err(hf_config_table_check(&t, &err), -EINVAL);
		assert_string_equal(err.msg, rows[i].fault);
	}
	assert_ok(hf_config_table_check(&table, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_refusal_says_file_line_expected_and_got),
		cmocka_unit_test(unknown_keys_warn_with_line_and_suggestion),
		cmocka_unit_test(warnings_are_capped_and_counted),
		cmocka_unit_test(sizes_are_capped),
		cmocka_unit_test(empty_files_are_defaults),
		cmocka_unit_test(values_arrive),
		cmocka_unit_test(environment_overrides_the_file),
		cmocka_unit_test_setup_teardown(files_missing_unreadable_and_good,
						hf_test_dir_setup, hf_test_dir_teardown),
		cmocka_unit_test(printing_masks_secrets_and_reads_back),
		cmocka_unit_test(differences_are_listed),
		cmocka_unit_test(changes_are_told_from_what_to_what),
		cmocka_unit_test(a_complaint_about_two_keys_has_the_line_of_the_lower_one),
		cmocka_unit_test(the_man_page_lists_all_and_escapes),
		cmocka_unit_test(bad_tables_are_found),
	};

	return HF_RUN_TESTS(tests);
}
