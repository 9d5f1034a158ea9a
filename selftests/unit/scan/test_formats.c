/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of others that a scan reads: each with its garbage first. */
#include "../test_util.h"
#include "userspace/scan/baseline.h"
#include "userspace/scan/bpflist.h"
#include "userspace/scan/dpkg.h"
#include "userspace/scan/filecap.h"
#include "userspace/scan/findings.h"
#include "userspace/scan/listeners.h"
#include "userspace/scan/modules.h"
#include "userspace/scan/unitfile.h"
#include "userspace/scan/walk.h"

static void md5_lines_are_a_digest_two_spaces_and_a_relative_path(void **state)
{
	static const char *const garbage[] = {
		"",
		"d41d8cd98f00b204e9800998ecf8427e",
		"d41d8cd98f00b204e9800998ecf8427e  ",
		"d41d8cd98f00b204e9800998ecf8427e x",
		"d41d8cd98f00b204e9800998ecf8427e  /usr/bin/x",
		"D41D8CD98F00B204E9800998ECF8427E  usr/bin/x",
		"d41d8cd98f00b204e9800998ecf8427  usr/bin/x",
	};
	char md5[HF_MD5_HEX + 1], path[64], small[8];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(garbage); i++)
		assert_false(hf_dpkg_md5_line(garbage[i], md5, path, sizeof(path)));
	assert_true(hf_dpkg_md5_line("d41d8cd98f00b204e9800998ecf8427e  usr/bin/a b", md5, path,
				     sizeof(path)));
	assert_string_equal(md5, "d41d8cd98f00b204e9800998ecf8427e");
	assert_string_equal(path, "/usr/bin/a b");
	assert_false(hf_dpkg_md5_line("d41d8cd98f00b204e9800998ecf8427e  usr/bin/x", md5, small,
				      sizeof(small)));
}

static void status_tells_what_is_wholly_installed(void **state)
{
	const char *p = "\n\nno package here\n\n"
			"Package: good\nStatus: install ok installed\nVersion: 1\n\n"
			"Package: half\nStatus: install ok half-configured\n\n"
			"Package: rest\nStatus: deinstall ok config-files\n\n"
			"Status: install ok installed\n\n"
			"Package: last\nStatus: hold ok installed";
	struct hf_dpkg_package k;

	(void)state;
	assert_true(hf_dpkg_status_next(&p, &k));
	assert_string_equal(k.name, "good");
	assert_true(k.installed && !k.gone);
	assert_true(hf_dpkg_status_next(&p, &k));
	assert_string_equal(k.name, "half");
	assert_true(!k.installed && !k.gone);
	assert_true(hf_dpkg_status_next(&p, &k));
	assert_true(!k.installed && k.gone);
	assert_true(hf_dpkg_status_next(&p, &k));
	assert_string_equal(k.name, "last");
	assert_true(k.installed);
	assert_false(hf_dpkg_status_next(&p, &k));
}

static void diverted_files_are_looked_for_where_they_went(void **state)
{
	char from[] = "/bin/sh", to[] = "/bin/sh.distrib", who[] = "dash", rest[] = "/lonely";
	char *lines[] = {from, to, who, rest};

	(void)state;
	assert_string_equal(hf_dpkg_diverted(lines, 4, "/bin/sh", "bash"), "/bin/sh.distrib");
	assert_string_equal(hf_dpkg_diverted(lines, 4, "/bin/sh", "dash:amd64"), "/bin/sh");
	assert_string_equal(hf_dpkg_diverted(lines, 4, "/lonely", "x"), "/lonely");
	assert_string_equal(hf_dpkg_diverted(NULL, 0, "/bin/sh", "x"), "/bin/sh");
}

static void file_capabilities_of_all_three_versions(void **state)
{
	/* cap_net_raw (13) permitted and effective; version 3 belongs to root of a namespace. */
	static const unsigned char v2[20] = {1, 0, 0, 2, 0, 0x20}, v1[12] = {0, 0, 0, 1, 0, 0x20},
				   v3[24] = {1, 0, 0, 3, 0, 0x20, [20] = 0xe8, 3};
	struct hf_filecap c;
	char text[128];

	(void)state;
	assert_err(hf_filecap_parse(v2, 0, &c), -EBADMSG);
	assert_err(hf_filecap_parse(v2, 19, &c), -EBADMSG);
	assert_err(hf_filecap_parse(v3, 20, &c), -EBADMSG);
	assert_err(hf_filecap_parse("\0\0\0\x09"
				    "aaaaaaaaaaaaaaaa",
				    20, &c),
		   -EBADMSG);
	assert_ok(hf_filecap_parse(v1, sizeof(v1), &c));
	assert_false(c.effective);
	assert_ok(hf_filecap_parse(v3, sizeof(v3), &c));
	assert_int_equal(c.rootid, 1000);
	assert_ok(hf_filecap_parse(v2, sizeof(v2), &c));
	assert_true(c.effective);
	hf_filecap_text(&c, text, sizeof(text));
	assert_string_equal(text, "cap_net_raw+ep");
	assert_false(hf_filecap_is_root(&c));
	c.permitted |= 1u << 21 | UINT64_C(1) << 63;
	hf_filecap_text(&c, text, sizeof(text));
	assert_string_equal(text, "cap_net_raw,cap_sys_admin,63+ep");
	assert_true(hf_filecap_is_root(&c));
	hf_filecap_text(&c, text, 14); /* cut, but whole in memory */
}

static void sockets_that_listen_are_told_from_those_that_do_not(void **state)
{
	static const char head[] = "  sl  local_address rem_address   st tx_queue rx_queue tr";
	static const char listens[] =
		"   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000   "
		"     0 12345 1 0000000000000000 100 0 0 10 0";
	static const char talks[] =
		"   1: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000   "
		"     0 12345 1";
	static const char v6[] =
		"   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A "
		"00000000:00000000 00:00000000 00000000     0        0 777 1";
	struct hf_listener l;

	(void)state;
	assert_false(hf_listener_parse(head, "tcp", &l));
	assert_false(hf_listener_parse("", "tcp", &l));
	assert_false(hf_listener_parse("   1: 01007F:1F90", "tcp", &l));
	assert_false(hf_listener_parse(talks, "tcp", &l));
	assert_false(hf_listener_parse(listens, "udp", &l));
	assert_true(hf_listener_parse(listens, "tcp", &l));
	assert_int_equal(l.port, 8080);
	assert_int_equal(l.uid, 1000);
	assert_int_equal(l.inode, 12345);
	assert_true(hf_listener_is_loopback(&l));
	assert_true(hf_listener_parse(v6, "tcp6", &l));
	assert_int_equal(l.port, 22);
	assert_false(hf_listener_is_loopback(&l));
}

static void the_last_unit_of_a_cgroup_is_the_process_s(void **state)
{
	static const struct {
		const char *cgroup, *unit;
	} rows[] = {
		{"", ""},
		{"0::/\n", ""},
		{"0::/system.slice/nginx.service\n", "nginx.service"},
		{"1:name=systemd:/a.service\n0::/user.slice/user@1000.service/app.slice/x.scope\n",
		 "x.scope"},
	};
	char unit[HF_UNIT_MAX];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		hf_process_unit(rows[i].cgroup, unit);
		assert_string_equal(unit, rows[i].unit);
	}
}

static void module_lines_and_their_flags(void **state)
{
	char name[HF_MODULE_NAME_MAX], taint[16];

	(void)state;
	assert_false(hf_module_parse("", name, taint));
	assert_false(hf_module_parse("lonely", name, taint));
	assert_true(hf_module_parse("a 1 0 - Live 0x0 (OE", name, taint));
	assert_string_equal(taint, "");
	assert_true(
		hf_module_parse("wireguard 94208 0 - Live 0x0000000000000000 (OE)", name, taint));
	assert_string_equal(name, "wireguard");
	assert_string_equal(taint, "OE");
	assert_true(hf_module_parse("ext4 94208 2 jbd2, Live 0x0000000000000000", name, taint));
	assert_string_equal(taint, "");
}

static void unit_lines_that_name_a_file(void **state)
{
	static const struct {
		const char *line, *path;
	} rows[] = {
		{"ExecStart=/usr/bin/x --flag", "/usr/bin/x"},
		{"ExecStartPre=-+/usr/bin/y", "/usr/bin/y"},
		{"ExecStart=@/usr/bin/z argv0", "/usr/bin/z"},
		{"EnvironmentFile=-/etc/default/x", "/etc/default/x"},
		{"ExecStart=\"/opt/a\" b", "/opt/a"},
		{"ExecStart=sh -c true", NULL},
		{"ExecStart=/usr/bin/%i", NULL},
		{"# ExecStart=/usr/bin/x", NULL},
		{"Exec", NULL},
		{"Description=/etc", NULL},
	};
	char path[64], small[4];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		assert_int_equal(hf_unit_path(rows[i].line, path, sizeof(path)), !!rows[i].path);
		if (rows[i].path)
			assert_string_equal(path, rows[i].path);
	}
	assert_false(hf_unit_path("ExecStart=/usr/bin/x", small, sizeof(small)));
}

static void bpf_list_and_fdinfo(void **state)
{
	struct hf_bpf_program p;

	(void)state;
	assert_false(hf_bpf_program_parse("", &p));
	assert_false(hf_bpf_program_parse("x\ttracing\tn\t0\t1", &p));
	assert_false(hf_bpf_program_parse("0\ttracing\tn\t0\t1", &p));
	assert_false(hf_bpf_program_parse("7\ttracing\tn", &p));
	assert_true(hf_bpf_program_parse("7\tsocket filter\tmy prog\t1000\t1", &p));
	assert_int_equal(p.id, 7);
	assert_string_equal(p.type, "socket filter");
	assert_string_equal(p.name, "my prog");
	assert_true(p.ours);
	assert_int_equal(hf_bpf_fdinfo_id("pos:\t0\nprog_type:\t26\nprog_id:\t42\n"), 42);
	assert_int_equal(hf_bpf_fdinfo_id("pos:\t0\n"), 0);
}

static void paths_sort_like_a_walk(void **state)
{
	(void)state;
	assert_true(hf_path_compare("/a", "/a") == 0);
	assert_true(hf_path_compare("/a", "/a/b") < 0);
	assert_true(hf_path_compare("/a/z", "/a!") < 0); /* strcmp says the opposite */
	assert_true(hf_path_compare("/a/b", "/a.d") < 0);
	assert_true(hf_path_compare("/b", "/a/z") > 0);
	assert_true(hf_path_below("/etc/x", "/etc") && hf_path_below("/etc", "/etc"));
	assert_false(hf_path_below("/etcetera", "/etc"));
	assert_true(hf_path_below("/x", "/"));
}

static void baseline_lines_survive_any_path(void **state)
{
	static const char *const paths[] = {"/etc/passwd", "/a b\\c\nd", "/\xff\xfe", "/\x01"};
	struct hf_baseline_entry e = {.mode = 0100644, .size = 7}, back;
	char *line = malloc(HF_BASELINE_LINE_MAX);

	(void)state;
	assert_non_null(line);
	memset(e.digest, 'a', 64);
	for (size_t i = 0; i < HF_ARRAY_SIZE(paths); i++) {
		(void)hf_strlcpy(e.path, paths[i], sizeof(e.path));
		hf_baseline_format(&e, line);
		assert_int_equal(line[strlen(line) - 1], '\n');
		line[strlen(line) - 1] = 0;
		assert_null(strchr(line, '\n'));
		assert_ok(hf_baseline_parse(line, &back));
		assert_string_equal(back.path, paths[i]);
		assert_int_equal(back.mode, e.mode);
		assert_string_equal(back.digest, e.digest);
	}
	free(line);
	assert_err(hf_baseline_parse("", &back), -EBADMSG);
	assert_err(hf_baseline_parse("100644 0 0 0 - relative", &back), -EBADMSG);
	assert_err(hf_baseline_parse("100644 0 0 0 abc /x", &back), -EBADMSG);
	assert_err(hf_baseline_parse("100644 0 0 0 - /x\\9", &back), -EBADMSG);
	assert_err(hf_baseline_parse("100644 0 0 0 - /x\\000y", &back), -EBADMSG);
	assert_err(hf_baseline_parse("100644 0 0 0 - /x\\777", &back), -EBADMSG);
}

static void json_strings_hold_what_is_no_text(void **state)
{
	static const struct {
		const char *in, *out;
		bool text;
	} rows[] = {
		{"", "\"\"", true},
		{"a\"b\\c", "\"a\\\"b\\\\c\"", true},
		{"\n\x01\x7f", "\"\\u000a\\u0001\\u007f\"", true},
		{"gr\xc3\xbc", "\"gr\xc3\xbc\"", true},
		{"\xff/\xc3", "\"\\\\xff/\\\\xc3\"", false},
		{"\xed\xa0\x80", "\"\\\\xed\\\\xa0\\\\x80\"", false}, /* a surrogate */
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		struct hf_buf b = {};

		assert_int_equal(hf_findings_json_string(&b, rows[i].in), rows[i].text);
		assert_ok(hf_buf_append(&b, "", 1));
		assert_string_equal((char *)b.data, rows[i].out);
		hf_buf_done(&b);
	}
}

static void add(struct hf_findings *f, enum hf_severity severity, const char *path)
{
	hf_findings_add(f, &(struct hf_finding){.severity = severity,
						.id = "x",
						.fix = "",
						.path = (char *)path,
						.evidence = (char *)""});
}

static void a_flood_of_findings_is_counted_and_keeps_the_worst(void **state)
{
	struct hf_findings f = {};

	(void)state;
	for (unsigned i = 0; i < HF_FINDINGS_PER_CHECK + 10; i++)
		add(&f, HF_SEVERITY_LOW, "/low");
	add(&f, HF_SEVERITY_CRITICAL, "/worst");
	assert_int_equal(f.n, HF_FINDINGS_PER_CHECK);
	assert_int_equal(f.dropped, 11);
	assert_int_equal(f.total[HF_SEVERITY_LOW], HF_FINDINGS_PER_CHECK + 10);
	hf_findings_sort(&f);
	assert_string_equal(f.items[0].path, "/worst");
	hf_findings_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(md5_lines_are_a_digest_two_spaces_and_a_relative_path),
		cmocka_unit_test(status_tells_what_is_wholly_installed),
		cmocka_unit_test(diverted_files_are_looked_for_where_they_went),
		cmocka_unit_test(file_capabilities_of_all_three_versions),
		cmocka_unit_test(sockets_that_listen_are_told_from_those_that_do_not),
		cmocka_unit_test(the_last_unit_of_a_cgroup_is_the_process_s),
		cmocka_unit_test(module_lines_and_their_flags),
		cmocka_unit_test(unit_lines_that_name_a_file),
		cmocka_unit_test(bpf_list_and_fdinfo),
		cmocka_unit_test(paths_sort_like_a_walk),
		cmocka_unit_test(baseline_lines_survive_any_path),
		cmocka_unit_test(json_strings_hold_what_is_no_text),
		cmocka_unit_test(a_flood_of_findings_is_counted_and_keeps_the_worst),
	};
	return HF_RUN_TESTS(tests);
}
