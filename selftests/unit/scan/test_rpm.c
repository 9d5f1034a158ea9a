/* SPDX-License-Identifier: Apache-2.0 */
/* Packages of rpm: a package is built, entered in a database below a tree, and its files planted. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scan_test.h"
#include "userspace/scan/rpm.h"

/* Files of the package, with what they hold. Its digests are SHA-256 unless the test says else. */
static const char spec[] =
	"Name: planted\nVersion: 1\nRelease: 2\nSummary: s\nLicense: none\nBuildArch: noarch\n"
	"%description\nd\n"
	"%install\n"
	"cd %{buildroot}\n"
	"mkdir -p usr/bin usr/share/x etc var/log usr/share/doc/planted\n"
	"for f in usr/bin/good usr/bin/changed usr/bin/missing usr/bin/linked usr/share/x/changed"
	" etc/p.conf etc/gone.conf etc/may-miss usr/bin/unverified usr/share/doc/planted/readme;"
	" do printf abc > $f; done\n"
	"ln -s good usr/bin/alias\n"
	"%files\n"
	"/usr/bin/good\n/usr/bin/changed\n/usr/bin/missing\n/usr/bin/linked\n/usr/bin/alias\n"
	"/usr/share/x/changed\n%config /etc/p.conf\n%config(noreplace) /etc/gone.conf\n"
	"%config(missingok) /etc/may-miss\n%verify(not filedigest) /usr/bin/unverified\n"
	"%doc /usr/share/doc/planted/readme\n%ghost /var/log/ghost\n";

static char tree[512];

/* As its descriptors: librpm keeps what it and sqlite have of a database that it could not read. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:librpm\nleak:libsqlite3\n";
}

static bool have(const char *program)
{
	return access(program, X_OK) == 0;
}

/* Whole command lines, of nothing but the tree's own name. False: it failed. */
static bool run(const char *fmt, const char *argument)
{
	char command[4096], shell[] = "sh", option[] = "-c";
	char *argv[] = {shell, option, command, NULL};
	extern char **environ;
	int status = -1;
	pid_t pid;

	(void)snprintf(command, sizeof(command),
		       "tree='%s'; arg='%s'; { %s; } >$tree/log 2>&1 || { cat $tree/log; exit 1; }",
		       tree, argument, fmt);
	if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid)
		return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* librpm leaves a database open that it could not read; a scan ends soon after, a test does not. */
static int close_and_teardown(void **state)
{
	char link[64], path[512];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, sizeof(path) - 1);
		path[n > 0 ? n : 0] = 0;
		if (strstr(path, "/var/lib/rpm/rpmdb.sqlite"))
			(void)close(fd);
	}
	return planted_teardown(state);
}

#define BROKEN(f) cmocka_unit_test_setup_teardown(f, planted_setup, close_and_teardown)

static bool have_rpm(struct planted *t)
{
	char link[64];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", t->dir->fd);
	n = readlink(link, tree, sizeof(tree) - 1);
	assert_true(n > 0);
	tree[n] = 0;
	if (have("/usr/bin/rpmbuild") && have("/usr/bin/rpm"))
		return true;
	print_message("there is no rpm or rpmbuild to make a package with\n");
	return false;
}

/* A package whose digests are of this kind, and a database of this form that holds it. */
static void install(struct planted *t, const char *algorithm, const char *backend)
{
	plant(t, "b/planted.spec", spec, 0644);
	assert_true(run("rpmbuild -bb --define \"_topdir $tree/b\" --define \"_tmppath $tree/b\""
			" --define \"_dbpath $tree/b/db\" --define \"_build_id_links none\""
			" --define \"_binary_filedigest_algorithm $arg\" $tree/b/planted.spec",
			algorithm));
	assert_true(run("mkdir -p $tree/var/lib/rpm && rpm --define \"_db_backend $arg\""
			" --dbpath $tree/var/lib/rpm --justdb --nodeps --noscripts"
			" -i $tree/b/RPMS/noarch/planted-1-2.noarch.rpm",
			backend));
}

static void plant_files(struct planted *t)
{
	plant(t, "usr/bin/good", "abc", 0755);
	plant(t, "usr/bin/alias", "abc", 0755);
	plant(t, "usr/bin/changed", "abd", 0755);
	plant(t, "usr/bin/unverified", "abd", 0755);
	plant(t, "usr/share/x/changed", "abd", 0644);
	plant(t, "etc/p.conf", "abd", 0644);
	assert_int_equal(symlinkat("good", t->dir->fd, "usr/bin/linked"), 0);
}

static void assert_the_findings(struct planted *t)
{
	const struct hf_finding *f;

	assert_ok(run_check(t, "packages"));
	assert_string_equal(state_of(t, "packages")->note, "");
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_DONE);
	assert_found(t, "packages.changed", "/usr/bin/changed", HF_SEVERITY_HIGH);
	assert_found(t, "packages.changed", "/usr/share/x/changed", HF_SEVERITY_MEDIUM);
	assert_found(t, "packages.config_changed", "/etc/p.conf", HF_SEVERITY_LOW);
	assert_found(t, "packages.missing", "/usr/bin/missing", HF_SEVERITY_MEDIUM);
	assert_found(t, "packages.missing", "/etc/gone.conf", HF_SEVERITY_LOW);
	assert_found(t, "packages.not_a_file", "/usr/bin/linked", HF_SEVERITY_MEDIUM);
	assert_found(t, "packages.documentation_missing", "/usr/share/doc/planted/readme",
		     HF_SEVERITY_INFO);
	assert_int_equal(t->s.findings.n, 7);
	assert_int_equal(state_of(t, "packages")->looked_at, 10);
	f = found(t, "packages.changed", "/usr/bin/changed");
	assert_non_null(strstr(f->evidence, "planted-1-2.noarch"));
}

static void files_of_rpm_packages_are_compared_with_their_digests(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	install(t, "8", "sqlite");
	plant_files(t);
	assert_the_findings(t);
	/* SHA-256 of "abd" beside that of "abc". */
	assert_non_null(
		strstr(found(t, "packages.changed", "/usr/bin/changed")->evidence,
		       "sha256 a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"));
	assert_non_null(strstr(found(t, "packages.changed", "/usr/bin/changed")->evidence,
			       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
	/* Only where it was asked to look. */
	add_to(t->s.params.paths, &t->s.params.paths_n, "/usr/share");
	assert_ok(run_check(t, "packages"));
	assert_int_equal(t->s.findings.n, 2);
}

static void every_digest_a_package_may_have_is_compared(void **state)
{
	static const struct {
		const char *number, *name;
	} kinds[] = {{"1", "md5 "}, {"9", "sha384 "}, {"10", "sha512 "}};
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	plant_files(t);
	for (size_t i = 0; i < HF_ARRAY_SIZE(kinds); i++) {
		assert_true(run("rm -rf $tree/b $tree/var/lib/rpm", ""));
		install(t, kinds[i].number, "sqlite");
		assert_the_findings(t);
		assert_true(hf_startswith(
			found(t, "packages.changed", "/usr/bin/changed")->evidence, kinds[i].name));
	}
}

static void a_database_of_a_form_librpm_has_not_never_looks_checked(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	plant(t, "var/lib/rpm/Packages.db", "what this is nobody knows\n", 0644);
	assert_ok(run_check(t, "packages"));
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_NOT_CHECKED);
	assert_non_null(strstr(state_of(t, "packages")->note, "/var/lib/rpm/Packages.db"));
}

static void an_empty_database_is_told_from_one_without_findings(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	assert_true(run("mkdir -p $tree/var/lib/rpm && rpmdb --define '_db_backend sqlite'"
			" --dbpath $tree/var/lib/rpm --initdb",
			""));
	assert_ok(run_check(t, "packages"));
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_NOT_CHECKED);
	assert_string_equal(state_of(t, "packages")->note,
			    "librpm finds no package in /var/lib/rpm/rpmdb.sqlite");
	/* What a host of dpkg's has that has rpm as a tool. */
	plant(t, "var/lib/dpkg/status", "Package: p\nStatus: install ok installed\n", 0644);
	plant(t, "var/lib/dpkg/info/p.md5sums", "\n", 0644);
	assert_ok(run_check(t, "packages"));
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_DONE);
}

static void a_database_is_not_written_to(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	install(t, "8", "sqlite");
	plant_files(t);
	assert_true(run("cd $tree/var/lib/rpm && find . -type f ! -name '*-shm' -exec sha256sum {}"
			" + >$tree/before",
			""));
	assert_the_findings(t);
	assert_true(run("cd $tree/var/lib/rpm && sha256sum -c $tree/before", ""));
}

static void a_broken_database_never_looks_checked(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	plant(t, "var/lib/rpm/rpmdb.sqlite", "this is no database, whatever it is called\n", 0644);
	assert_ok(run_check(t, "packages"));
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_NOT_CHECKED);
	assert_true(strlen(state_of(t, "packages")->note) > 0);
	assert_int_equal(t->s.findings.n, 0);
	/* Beside dpkg's, which was compared, the rest is partial. */
	plant(t, "var/lib/dpkg/status", "Package: p\nStatus: install ok installed\n", 0644);
	plant(t, "var/lib/dpkg/info/p.md5sums", "900150983cd24fb0d6963f7d28e17f72  usr/bin/gone\n",
	      0644);
	assert_ok(run_check(t, "packages"));
	assert_found(t, "packages.missing", "/usr/bin/gone", HF_SEVERITY_MEDIUM);
	assert_int_equal(state_of(t, "packages")->result, HF_CHECK_PARTIAL);
}

static void a_database_cut_short_never_looks_checked(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	install(t, "8", "sqlite");
	plant_files(t);
	assert_true(run("cd $tree/var/lib/rpm && rm -f rpmdb.sqlite-*"
			" && truncate -s 20000 rpmdb.sqlite",
			""));
	assert_ok(run_check(t, "packages"));
	assert_int_not_equal(state_of(t, "packages")->result, HF_CHECK_DONE);
}

static void a_database_broken_inside_never_looks_checked(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	install(t, "8", "sqlite");
	plant_files(t);
	/* All but the first page, which says what the rest is. */
	assert_true(run("cd $tree/var/lib/rpm && rm -f rpmdb.sqlite-* && size=$(stat -c %s"
			" rpmdb.sqlite) && truncate -s 4096 rpmdb.sqlite && truncate -s $size"
			" rpmdb.sqlite",
			""));
	assert_ok(run_check(t, "packages"));
	assert_int_not_equal(state_of(t, "packages")->result, HF_CHECK_DONE);
}

static void a_cancelled_scan_leaves_in_the_middle(void **state)
{
	struct planted *t = *state;

	if (!have_rpm(t))
		skip();
	install(t, "8", "sqlite");
	t->cancelled = 1;
	assert_int_equal(run_check(t, "packages"), -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLANTED(files_of_rpm_packages_are_compared_with_their_digests),
		PLANTED(every_digest_a_package_may_have_is_compared),
		PLANTED(a_database_of_a_form_librpm_has_not_never_looks_checked),
		PLANTED(an_empty_database_is_told_from_one_without_findings),
		PLANTED(a_database_is_not_written_to),
		BROKEN(a_broken_database_never_looks_checked),
		BROKEN(a_database_cut_short_never_looks_checked),
		BROKEN(a_database_broken_inside_never_looks_checked),
		PLANTED(a_cancelled_scan_leaves_in_the_middle),
	};

	return HF_RUN_TESTS(tests);
}
