/* SPDX-License-Identifier: Apache-2.0 */
/* Each check on a planted tree, or on what this test itself does to the host. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "scan_test.h"
#include "userspace/scan/walk.h"

static void open_proc(struct planted *t)
{
	t->s.proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(t->s.proc >= 0);
}

/* ---- walk ------------------------------------------------------------------------------------- */

static int remember(void *userdata, const struct hf_walk_entry *e)
{
	struct hf_buf *b = userdata;

	return hf_buf_appendf(b, "%s\n", e->path);
}

static void walk_is_sorted_and_follows_no_link(void **state)
{
	struct planted *t = *state;
	struct hf_buf b = {};

	plant(t, "top/b/file", "", 0644);
	plant(t, "top/a", "", 0644);
	plant(t, "top/b.d", "", 0644);
	plant(t, "top/left/out", "", 0644);
	assert_int_equal(symlinkat("/", t->dir->fd, "top/link"), 0);
	add_to(t->s.params.exclude, &t->s.params.exclude_n, "/top/left");
	assert_ok(hf_walk(&t->s, "/top", remember, &b));
	assert_ok(hf_walk(&t->s, "/nothing/here", remember, &b));
	assert_ok(hf_buf_append(&b, "", 1));
	assert_string_equal((char *)b.data,
			    "/top\n/top/a\n/top/b\n/top/b/file\n/top/b.d\n/top/link\n");
	hf_buf_done(&b);
}

static int replace_by_link(void *userdata, const struct hf_walk_entry *e)
{
	struct planted *t = userdata;

	if (!hf_streq(e->path, "/top/victim"))
		return 0;
	/* As an attacker would, between the look and the open. */
	assert_int_equal(unlinkat(t->dir->fd, "top/victim", 0), 0);
	assert_int_equal(symlinkat("/secret", t->dir->fd, "top/victim"), 0);
	assert_err(hf_walk_open(e), -ELOOP);
	assert_int_equal(renameat(t->dir->fd, "another", t->dir->fd, "top/victim"), 0);
	assert_err(hf_walk_open(e), -ESTALE);
	return -EXDEV;
}

static void what_was_replaced_behind_the_walk_is_not_opened(void **state)
{
	struct planted *t = *state;

	plant(t, "secret", "x", 0600);
	plant(t, "another", "two", 0644);
	plant(t, "top/victim", "one", 0644);
	assert_err(hf_walk(&t->s, "/top", replace_by_link, t), -EXDEV);
}

/* ---- setuid ----------------------------------------------------------------------------------- */

static void setuid_files_are_judged_by_place_and_package(void **state)
{
	struct planted *t = *state;

	plant(t, "usr/bin/passwd", "x", 04755);
	plant(t, "usr/bin/own", "x", 04755);
	plant(t, "usr/bin/open", "x", 04757);
	plant(t, "tmp/shell", "x", 04755);
	plant(t, "usr/bin/plain", "x", 0755);
	plant(t, "usr/bin/not-executable", "x", 04644);
	plant(t, "var/lib/dpkg/info/passwd.list", "/.\n/bin/passwd\n", 0644);
	assert_ok(run_check(t, "setuid"));
	assert_found(t, "setuid.packaged", "/usr/bin/passwd", HF_SEVERITY_INFO);
	assert_found(t, "setuid.world_writable", "/usr/bin/open", HF_SEVERITY_CRITICAL);
	assert_int_equal(t->s.findings.n, 4);
	if (geteuid() == 0) {
		assert_found(t, "setuid.unpackaged", "/usr/bin/own", HF_SEVERITY_HIGH);
		assert_found(t, "setuid.open_place", "/tmp/shell", HF_SEVERITY_HIGH);
	}
}

static void file_capabilities_are_found(void **state)
{
	static const unsigned char sys_admin[20] = {1, 0, 0, 2, 0, 0, 0x20};
	struct planted *t = *state;
	char path[400];

	plant(t, "usr/bin/capable", "x", 0755);
	(void)hf_strf(path, sizeof(path), "%s/usr/bin/capable", t->dir->path);
	if (setxattr(path, "security.capability", sys_admin, sizeof(sys_admin), 0) < 0)
		skip(); /* needs CAP_SETFCAP and a file system with xattrs */
	assert_ok(run_check(t, "setuid"));
	assert_found(t, "setuid.file", "/usr/bin/capable", HF_SEVERITY_LOW);
	assert_non_null(strstr(t->s.findings.items[0].evidence, "cap_sys_admin+ep"));
}

/* ---- writable --------------------------------------------------------------------------------- */

static void writable_paths_are_found_in_path_and_units(void **state)
{
	struct planted *t = *state;

	plant(t, "usr/bin/good", "x", 0755);
	plant(t, "usr/bin/bad", "x", 0777);
	plant(t, "opt/tools/x", "x", 0755);
	plant(t, "etc/environment", "PATH=\"/usr/bin:/opt/tools:.:\"\n", 0644);
	assert_int_equal(fchmodat(t->dir->fd, "opt/tools", 0777, 0), 0);
	plant(t, "etc/systemd/system/a.service",
	      "[Service]\nExecStart=/srv/run/daemon -x\nEnvironmentFile=-/etc/default/a\n", 0644);
	plant(t, "srv/run/daemon", "x", 0755);
	assert_int_equal(fchmodat(t->dir->fd, "srv/run", 0777, 0), 0);
	plant(t, "etc/default/a", "", 0666);
	plant(t, "etc/systemd/system/open.service", "", 0666);
	assert_ok(run_check(t, "writable"));
	assert_found(t, "writable.program", "/usr/bin/bad", HF_SEVERITY_HIGH);
	assert_found(t, "writable.used_by_root", "/opt/tools", HF_SEVERITY_HIGH);
	assert_found(t, "writable.relative_path", ".", HF_SEVERITY_HIGH);
	assert_found(t, "writable.used_by_root", "/etc/default/a", HF_SEVERITY_HIGH);
	assert_found(t, "writable.used_by_root", "/etc/systemd/system/open.service",
		     HF_SEVERITY_HIGH);
	assert_found(t, "writable.directory_above", "/srv/run", HF_SEVERITY_HIGH);
	assert_null(found(t, "writable.program", "/usr/bin/good"));
	/* Sticky is how /tmp is open without danger. */
	assert_int_equal(fchmodat(t->dir->fd, "srv/run", 01777, 0), 0);
	assert_ok(run_check(t, "writable"));
	assert_null(found(t, "writable.directory_above", "/srv/run"));
}

/* ---- packages --------------------------------------------------------------------------------- */

static void package_files_are_compared_with_their_digests(void **state)
{
	struct planted *t = *state;

	plant(t, "usr/bin/good", "abc", 0755);
	plant(t, "usr/bin/changed", "abd", 0755);
	plant(t, "usr/share/x/changed", "abd", 0644);
	plant(t, "usr/bin/diverted.orig", "abc", 0755);
	plant(t, "usr/bin/diverted", "another package's", 0755);
	assert_int_equal(symlinkat("good", t->dir->fd, "usr/bin/link"), 0);
	plant(t, "var/lib/dpkg/status",
	      "Package: p\nStatus: install ok installed\n\nPackage: half\nStatus: install ok "
	      "unpacked\n",
	      0644);
	plant(t, "var/lib/dpkg/diversions", "/usr/bin/diverted\n/usr/bin/diverted.orig\nother\n",
	      0644);
	plant(t, "var/lib/dpkg/info/p:amd64.md5sums",
	      "900150983cd24fb0d6963f7d28e17f72  usr/bin/good\n"
	      "900150983cd24fb0d6963f7d28e17f72  usr/bin/changed\n"
	      "900150983cd24fb0d6963f7d28e17f72  usr/share/x/changed\n"
	      "900150983cd24fb0d6963f7d28e17f72  usr/bin/diverted\n"
	      "900150983cd24fb0d6963f7d28e17f72  usr/bin/link\n"
	      "900150983cd24fb0d6963f7d28e17f72  usr/bin/missing\n"
	      "900150983cd24fb0d6963f7d28e17f72  usr/share/doc/p/copyright\n"
	      "garbage\n",
	      0644);
	plant(t, "var/lib/dpkg/info/half.md5sums",
	      "900150983cd24fb0d6963f7d28e17f72  usr/bin/not-there-yet\n", 0644);
	assert_ok(run_check(t, "packages"));
	assert_found(t, "packages.changed", "/usr/bin/changed", HF_SEVERITY_HIGH);
	assert_found(t, "packages.changed", "/usr/share/x/changed", HF_SEVERITY_MEDIUM);
	assert_found(t, "packages.missing", "/usr/bin/missing", HF_SEVERITY_MEDIUM);
	assert_found(t, "packages.not_a_file", "/usr/bin/link", HF_SEVERITY_MEDIUM);
	assert_found(t, "packages.unfinished", "half", HF_SEVERITY_LOW);
	assert_found(t, "packages.documentation_missing", "/usr/share/doc/p/copyright",
		     HF_SEVERITY_INFO);
	assert_int_equal(t->s.findings.n, 6);
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_DONE);
}

static void without_a_package_database_nothing_looks_checked(void **state)
{
	struct planted *t = *state;

	assert_ok(run_check(t, "packages"));
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_NOT_CHECKED);
	assert_string_equal(state_of(t, "packages")->note, "there is no database of packages");
}

/* ---- baseline --------------------------------------------------------------------------------- */

/* What the last run made becomes what the next compares with. */
static void keep_baseline(struct planted *t)
{
	(void)hf_close(t->s.baseline_in);
	t->s.baseline_in = t->s.baseline_out;
	t->s.baseline_out = memfd_create("out", MFD_CLOEXEC);
	t->s.params.have_baseline = true;
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

static void make_baseline(struct planted *t)
{
	plant(t, "etc/passwd", "root", 0644);
	plant(t, "etc/motd", "hello", 0644);
	plant(t, "etc/gone", "x", 0644);
	plant(t, "usr/bin/tool", "abd", 0755);
	plant(t, "usr/bin/open", "x", 0755);
	assert_int_equal(symlinkat("motd", t->dir->fd, "etc/link"), 0);
	add_to(t->s.params.watched, &t->s.params.watched_n, "/usr/bin");
	add_to(t->s.params.watched, &t->s.params.watched_n, "/etc");
	t->s.params.keep_baseline = true;
	assert_ok(run_check(t, "baseline"));
	assert_string_equal(t->s.baseline_word, "created");
	assert_int_equal(t->s.findings.n, 0);
	assert_true(size_of(t->s.baseline_out) > 0);
	keep_baseline(t);
}

static void unchanged_files_are_not_told_and_the_baseline_is_not_rewritten(void **state)
{
	struct planted *t = *state;

	make_baseline(t);
	assert_ok(run_check(t, "baseline"));
	assert_string_equal(t->s.baseline_word, "compared");
	assert_int_equal(t->s.findings.n, 0);
	assert_int_equal(size_of(t->s.baseline_out), 0);
	assert_int_equal(state_of(t, "baseline")->result, HF_CHECK_DONE);
}

static void every_kind_of_difference_is_told(void **state)
{
	struct planted *t = *state;

	make_baseline(t);
	plant(t, "etc/passwd", "r00t", 0644);
	plant(t, "etc/motd", "hullo", 0644);
	assert_int_equal(unlinkat(t->dir->fd, "etc/gone", 0), 0);
	plant(t, "usr/bin/open", "x", 04757);
	plant(t, "usr/bin/new", "x", 0755);
	plant(t, "etc/cron.d/new", "x", 0644);
	assert_int_equal(unlinkat(t->dir->fd, "etc/link", 0), 0);
	assert_int_equal(symlinkat("/tmp/x", t->dir->fd, "etc/link"), 0);
	assert_ok(run_check(t, "baseline"));
	assert_found(t, "baseline.changed", "/etc/passwd", HF_SEVERITY_HIGH);
	assert_found(t, "baseline.changed", "/etc/motd", HF_SEVERITY_MEDIUM);
	assert_found(t, "baseline.missing", "/etc/gone", HF_SEVERITY_LOW);
	assert_found(t, "baseline.permissions", "/usr/bin/open", HF_SEVERITY_HIGH);
	assert_found(t, "baseline.new", "/usr/bin/new", HF_SEVERITY_MEDIUM);
	assert_found(t, "baseline.new", "/etc/cron.d/new", HF_SEVERITY_HIGH);
	assert_found(t, "baseline.new", "/etc/cron.d", HF_SEVERITY_HIGH);
	assert_found(t, "baseline.changed", "/etc/link", HF_SEVERITY_MEDIUM);
	assert_int_equal(t->s.findings.n, 8);
	/* Accepted: told once more, and then no more. */
	t->s.params.accept = true;
	assert_ok(run_check(t, "baseline"));
	assert_string_equal(t->s.baseline_word, "renewed");
	assert_int_equal(t->s.findings.n, 8);
	keep_baseline(t);
	t->s.params.accept = false;
	assert_ok(run_check(t, "baseline"));
	assert_int_equal(t->s.findings.n, 0);
}

static void what_a_package_installed_is_an_upgrade(void **state)
{
	struct planted *t = *state;

	make_baseline(t);
	plant(t, "usr/bin/tool", "abc", 0755);
	plant(t, "var/lib/dpkg/info/p.list", "/usr/bin/tool\n", 0644);
	plant(t, "var/lib/dpkg/info/p.md5sums", "900150983cd24fb0d6963f7d28e17f72  usr/bin/tool\n",
	      0644);
	assert_ok(run_check(t, "baseline"));
	assert_found(t, "baseline.upgraded", "/usr/bin/tool", HF_SEVERITY_LOW);
	assert_int_equal(t->s.findings.n, 1);
}

static void a_part_of_the_paths_neither_reports_the_rest_nor_makes_a_baseline(void **state)
{
	struct planted *t = *state;

	make_baseline(t);
	plant(t, "etc/motd", "hullo", 0644);
	assert_int_equal(unlinkat(t->dir->fd, "usr/bin/open", 0), 0);
	add_to(t->s.params.paths, &t->s.params.paths_n, "/usr");
	t->s.params.accept = true;
	assert_ok(run_check(t, "baseline"));
	assert_found(t, "baseline.missing", "/usr/bin/open", HF_SEVERITY_MEDIUM);
	assert_int_equal(t->s.findings.n, 1);
	assert_int_equal(size_of(t->s.baseline_out), 0);
}

static void damaged_baseline_is_said_and_only_replaced_on_request(void **state)
{
	struct planted *t = *state;

	make_baseline(t);
	assert_int_equal(ftruncate(t->s.baseline_in, size_of(t->s.baseline_in) - 3), 0);
	assert_ok(run_check(t, "baseline"));
	assert_int_equal(state_of(t, "baseline")->result, HF_CHECK_NOT_CHECKED);
	assert_non_null(strstr(state_of(t, "baseline")->note, "damaged"));
	assert_int_equal(size_of(t->s.baseline_out), 0);
}

static void cancelled_scan_leaves_no_baseline(void **state)
{
	struct planted *t = *state;

	plant(t, "etc/motd", "hello", 0644);
	add_to(t->s.params.watched, &t->s.params.watched_n, "/etc");
	t->s.params.keep_baseline = true;
	t->cancelled = 1;
	assert_err(run_check(t, "baseline"), -ECANCELED);
	assert_int_equal(size_of(t->s.baseline_out), 0);
	assert_int_equal(state_of(t, "baseline")->result, HF_CHECK_CANCELLED);
}

/* ---- kernel and processes --------------------------------------------------------------------------- */

static void modules_are_judged_by_their_flags(void **state)
{
	struct planted *t = *state;

	plant(t, "proc/modules",
	      "ext4 1 0 - Live 0x0\nnvidia 1 0 - Live 0x0 (POE)\nevil 1 0 - Live 0x0 (FE)\n"
	      "zfs 1 0 - Live 0x0 (PO)\n",
	      0444);
	plant(t, "proc/sys/kernel/tainted", "2\n", 0444);
	t->s.proc = openat(t->dir->fd, "proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(run_check(t, "modules"));
	assert_found(t, "modules.forced", "evil", HF_SEVERITY_HIGH);
	assert_found(t, "modules.unsigned", "nvidia", HF_SEVERITY_MEDIUM);
	assert_found(t, "modules.out_of_tree", "zfs", HF_SEVERITY_LOW);
	assert_found(t, "modules.kernel_tainted", "/proc/sys/kernel/tainted", HF_SEVERITY_MEDIUM);
	assert_int_equal(t->s.findings.n, 4);
}

static void loaded_programs_come_from_the_list(void **state)
{
	static const char list[] = "7\ttracing\tours\t0\t1\n9\tkprobe\ttheirs\t1000\t0\nrubbish\n";
	struct planted *t = *state;

	assert_ok(run_check(t, "bpf"));
	assert_int_equal(state_of(t, "bpf")->result, HF_CHECK_NOT_CHECKED);
	t->s.bpf_list = memfd_create("bpf", MFD_CLOEXEC);
	assert_ok(hf_write_full(t->s.bpf_list, list, strlen(list)));
	t->s.params.have_bpf = true;
	open_proc(t);
	assert_ok(run_check(t, "bpf"));
	assert_found(t, "bpf.holdfast", "bpf:7 ours", HF_SEVERITY_INFO);
	assert_found(t, "bpf.loaded", "bpf:9 theirs", HF_SEVERITY_MEDIUM);
	assert_int_equal(t->s.findings.n, 2);
}

/* A copy of sleep(1) that runs from the tree. */
static pid_t start_copy(struct planted *t, char path[static 400])
{
	int from = open("/bin/sleep", O_RDONLY | O_CLOEXEC), to, null;
	char buf[65536];
	ssize_t n;
	pid_t pid;
	int fds[2];

	(void)hf_strf(path, 400, "%s/copy", t->dir->path);
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	assert_true(from >= 0 && to >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		assert_ok(hf_write_full(to, buf, (size_t)n));
	(void)hf_close(from);
	(void)hf_close(to);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		(void)dup2(null, 1);
		(void)execl(path, "copy", "1000", (char *)NULL);
		_exit(127);
	}
	(void)hf_close(fds[1]);
	assert_int_equal(read(fds[0], buf, 1), 0); /* exec closed it */
	(void)hf_close(fds[0]);
	return pid;
}

static void running_programs_without_their_file_are_found(void **state)
{
	struct planted *t = *state;
	char path[400], pid_text[32];
	pid_t pid = start_copy(t, path);
	const struct hf_finding *f;

	open_proc(t);
	assert_ok(run_check(t, "executables"));
	assert_null(found(t, "executables.deleted", path));
	assert_int_equal(unlink(path), 0);
	assert_ok(run_check(t, "executables"));
	assert_found(t, "executables.deleted", path, HF_SEVERITY_HIGH);
	f = found(t, "executables.deleted", path);
	(void)hf_strf(pid_text, sizeof(pid_text), "pid %d (copy", pid);
	assert_non_null(strstr(f->evidence, pid_text));
	/* A new file at the old name is an upgrade. */
	plant(t, "copy", "x", 0755);
	assert_ok(run_check(t, "executables"));
	assert_found(t, "executables.replaced", path, HF_SEVERITY_LOW);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void listening_sockets_have_an_owner(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	struct planted *t = *state;
	const struct hf_finding *f;
	char where[64], pid[32];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	open_proc(t);
	assert_ok(run_check(t, "listeners"));
	(void)hf_strf(where, sizeof(where), "tcp 127.0.0.1:%u", ntohs(a.sin_port));
	f = found(t, "listeners.open", where);
	assert_non_null(f);
	assert_int_equal(f->severity, HF_SEVERITY_INFO);
	(void)hf_strf(pid, sizeof(pid), "pid %d (", getpid());
	assert_non_null(strstr(f->evidence, pid));
	(void)hf_close(fd);
}

/* ---- the whole -------------------------------------------------------------------------------------- */

static void result_is_cut_at_its_size_and_says_so(void **state)
{
	struct planted *t = *state;
	struct hf_buf out = {};

	for (int i = 0; i < 300; i++) {
		char path[64];

		(void)hf_strf(path, sizeof(path), "tmp/setuid-%03d", i);
		plant(t, path, "x", 04755);
	}
	assert_ok(run_check(t, "setuid"));
	assert_int_equal(t->s.findings.n, 300);
	assert_ok(hf_scan_result(&t->s, 40000, &out));
	assert_true(out.len <= 40000);
	assert_ok(hf_buf_append(&out, "", 1));
	assert_null(strstr((char *)out.data, "\"left_out\":0"));
	assert_non_null(strstr((char *)out.data, "\"severities\":{"));
	assert_non_null(strstr((char *)out.data, "}}\n"));
	hf_buf_done(&out);
}

static void parameters_that_are_not_ours_are_refused(void **state)
{
	static const char *const garbage[] = {
		"checks nonsense", "path relative", "path /a/../b", "watch /x/",
		"cpu 0",           "cpu 101",       "unknown 1",    "path",
	};
	char text[] = "checks setuid,bpf\npath /srv\nwatch /etc\ncpu 7\naccept 1\nbaseline have\n"
		      "bpf no right\n";
	struct hf_scan_params p = {};
	char why[128];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(garbage); i++) {
		char copy[64];

		(void)hf_strlcpy(copy, garbage[i], sizeof(copy));
		assert_err(hf_scan_params_parse(copy, &p, why), -EINVAL);
	}
	assert_ok(hf_scan_params_parse(text, &p, why));
	assert_int_equal(p.checks, UINT64_C(1) << check_number("setuid") |
					   UINT64_C(1) << check_number("bpf"));
	assert_string_equal(p.paths[0], "/srv");
	assert_string_equal(p.watched[0], "/etc");
	assert_int_equal(p.cpu_percent, 7);
	assert_true(p.accept && p.have_baseline && p.keep_baseline && !p.have_bpf);
	assert_string_equal(p.no_bpf, "no right");
	hf_scan_params_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLANTED(walk_is_sorted_and_follows_no_link),
		PLANTED(what_was_replaced_behind_the_walk_is_not_opened),
		PLANTED(setuid_files_are_judged_by_place_and_package),
		PLANTED(file_capabilities_are_found),
		PLANTED(writable_paths_are_found_in_path_and_units),
		PLANTED(package_files_are_compared_with_their_digests),
		PLANTED(without_a_package_database_nothing_looks_checked),
		PLANTED(unchanged_files_are_not_told_and_the_baseline_is_not_rewritten),
		PLANTED(every_kind_of_difference_is_told),
		PLANTED(what_a_package_installed_is_an_upgrade),
		PLANTED(a_part_of_the_paths_neither_reports_the_rest_nor_makes_a_baseline),
		PLANTED(damaged_baseline_is_said_and_only_replaced_on_request),
		PLANTED(cancelled_scan_leaves_no_baseline),
		PLANTED(modules_are_judged_by_their_flags),
		PLANTED(loaded_programs_come_from_the_list),
		PLANTED(running_programs_without_their_file_are_found),
		PLANTED(listening_sockets_have_an_owner),
		PLANTED(result_is_cut_at_its_size_and_says_so),
		PLANTED(parameters_that_are_not_ours_are_refused),
	};
	return HF_RUN_TESTS(tests);
}
