/* SPDX-License-Identifier: Apache-2.0 */
/* The release store on a real directory, and on a disk that loses power at every call. */
#include "selftests/unit/release/fake_disk.h"
#include "selftests/unit/release/keys_fixture.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "watchdog/release_store.h"

#define SEEDS 8

/* Three verified bundles of `agent`, made once; each has a file of its own text. */
static struct {
	int fd;
	struct hf_bundle *b;
} bundles[3];

static const char *const versions[] = {"1.0.0", "1.1.0", "1.2.0"};

static void make_bundle(unsigned i, int dir)
{
	struct hf_manifest m = {.product = "holdfast",
				.component = "agent",
				.os = "linux",
				.arch = "x86_64",
				.distro = "any",
				.libc = "any",
				.environment = "any",
				.min_from_version = "0.0.0",
				.created_s = MADE,
				.expires_s = MADE + DAY * 99};
	struct hf_keylist keys = test_list();
	struct hf_release_host host = {.product = "holdfast", .os = "linux", .arch = "x86_64"};
	struct hf_release_state state = {.component = "agent"};
	struct hf_release_question q = {
		.keys = &keys, .host = &host, .state = &state, .now_s = MADE + DAY};
	struct hf_secret_key k = test_key(KEY_A);
	_cleanup_close_ int plain = memfd_create("plain", MFD_CLOEXEC);

	(void)hf_strlcpy(m.version, versions[i], sizeof(m.version));
	bundles[i].fd = memfd_create("bundle", MFD_CLOEXEC);
	assert_ok(hf_bundle_build(&m, dir, plain, NULL));
	free(m.files);
	assert_ok(hf_bundle_sign(plain, &k, bundles[i].fd, NULL));
	assert_ok(hf_bundle_open(bundles[i].fd, &bundles[i].b, NULL));
	assert_int_equal(hf_bundle_verify(bundles[i].b, &q, NULL), HF_RELEASE_OK);
}

static int make_bundles(void **state)
{
	struct hf_test_dir *d;
	char text[700];

	(void)state;
	if (hf_test_dir_setup((void **)&d) < 0)
		return -1;
	assert_ok(hf_mkdir_p(d->fd, "bin", 0755));
	for (unsigned i = 0; i < 3; i++) {
		memset(text, 'a' + (char)i, sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		hf_test_write(d, "bin/agent", text);
		hf_test_write(d, "README", versions[i]);
		assert_int_equal(fchmodat(d->fd, "bin/agent", 0755, 0), 0);
		make_bundle(i, d->fd);
	}
	return hf_test_dir_teardown((void **)&d);
}

static int free_bundles(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		bundles[i].b = hf_bundle_free(bundles[i].b);
		bundles[i].fd = hf_close(bundles[i].fd);
	}
	return 0;
}

static int event(struct hf_release_store *s, enum hf_release_event e)
{
	const struct hf_release_input in = {
		.event = e, .reason = HF_RELEASE_WHY_CRASHES, .boot_id = {7}};

	return hf_release_store_event(s, &in);
}

/* What is staged, to the end of its trial or to a fault of the disk. */
static int try_out(struct hf_release_store *s, enum hf_release_event end)
{
	int r = event(s, HF_RELEASE_EV_PREFLIGHT);

	if (r >= 0)
		r = event(s, HF_RELEASE_EV_PREFLIGHT_OK);
	if (r >= 0)
		r = event(s, HF_RELEASE_EV_START);
	if (r >= 0)
		r = hf_release_store_progress(s, 10000);
	if (r >= 0)
		r = event(s, end);
	if (r >= 0)
		r = hf_release_store_collect(s);
	return r;
}

static int update(struct hf_release_store *s, unsigned i, enum hf_release_event end)
{
	int r = hf_release_store_stage(s, bundles[i].b, NULL);

	return r < 0 ? r : try_out(s, end);
}

static void assert_runs(const struct hf_release_store *s, const char *version)
{
	const struct hf_release_slot *runs = hf_release_store_runs(s);
	struct hf_err err = {};

	assert_non_null(runs);
	assert_string_equal(runs->version, version);
	assert_ok(hf_release_store_check(s, runs, &err));
}

static void updates_are_staged_tried_committed_and_rolled_back(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_err err = {};
	struct stat st;
	int dir;

	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_null(hf_release_store_runs(s));
	assert_ok(update(s, 0, HF_RELEASE_EV_HEALTHY));
	assert_runs(s, "1.0.0");
	assert_err(hf_release_store_stage(s, bundles[0].b, &err), -EEXIST);
	assert_ok(update(s, 1, HF_RELEASE_EV_HEALTHY));
	assert_runs(s, "1.1.0");
	assert_ok(update(s, 2, HF_RELEASE_EV_FAILED));
	assert_runs(s, "1.1.0");
	assert_int_equal(hf_release_store_record(s)->phase, HF_RELEASE_ROLLED_BACK);
	assert_string_equal(hf_release_store_record(s)->previous.version, "1.0.0");

	dir = hf_release_store_open_release(s, hf_release_store_runs(s));
	assert_ok(dir);
	assert_int_equal(fstatat(dir, "bin/agent", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0555);
	(void)hf_close(dir);
	s = hf_release_store_free(s);
	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_runs(s, "1.1.0");
	assert_int_equal(event(s, HF_RELEASE_EV_ROLLBACK), 1);
	assert_runs(s, "1.0.0");
}

static void two_updates_at_once_are_refused(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_err err = {};

	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_ok(hf_release_store_stage(s, bundles[0].b, &err));
	assert_int_equal(event(s, HF_RELEASE_EV_PREFLIGHT), 1);
	assert_err(hf_release_store_stage(s, bundles[1].b, &err), -EPERM);
	assert_string_equal(err.msg, "another update is in its preflight");
}

/* Damages a file of the release that runs. */
static void damage(const struct hf_test_dir *d, const struct hf_release_store *s)
{
	int dir = hf_release_store_open_release(s, hf_release_store_runs(s)), fd;

	(void)d;
	assert_ok(dir);
	assert_int_equal(fchmodat(dir, "bin/agent", 0700, 0), 0);
	fd = openat(dir, "bin/agent", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_ok(hf_pwrite_full(fd, "X", 1, 5));
	(void)hf_close(fd);
	assert_int_equal(fchmodat(dir, "bin/agent", 0555, 0), 0);
	(void)hf_close(dir);
}

static void a_damaged_release_gives_way_to_the_one_before(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_err err = {};

	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_ok(update(s, 0, HF_RELEASE_EV_HEALTHY));
	assert_ok(update(s, 1, HF_RELEASE_EV_HEALTHY));
	assert_ok(hf_release_store_stage(s, bundles[2].b, &err)); /* untried: not an alternative */
	damage(d, s);
	s = hf_release_store_free(s);
	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_runs(s, "1.0.0");
	assert_int_equal(hf_release_store_record(s)->reason, HF_RELEASE_WHY_DIGEST);
	damage(d, s);
	s = hf_release_store_free(s);
	/* Both are gone; the staged one is whole, and better than nothing. */
	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_runs(s, "1.2.0");
	damage(d, s);
	s = hf_release_store_free(s);
	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_null(hf_release_store_runs(s));
}

static void lost_records_lead_to_the_best_whole_release(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_err err = {};

	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_ok(update(s, 0, HF_RELEASE_EV_HEALTHY));
	assert_ok(update(s, 1, HF_RELEASE_EV_HEALTHY));
	s = hf_release_store_free(s);
	hf_test_write(d, "agent/state.a", "garbage");
	hf_test_write(d, "agent/state.b", "");
	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_runs(s, "1.1.0");
	assert_string_equal(hf_release_store_record(s)->previous.version, "1.0.0");
	assert_int_equal(hf_release_store_record(s)->reason, HF_RELEASE_WHY_RECORDS);
}

/* What the watchdog does with the package's program: prepared in one step, recorded in another. */
static int take_packaged(struct hf_release_store *s, unsigned i)
{
	struct hf_release_slot slot;
	struct hf_release_input in = {.event = HF_RELEASE_EV_STAGE, .slot = &slot};
	bool first = !hf_release_store_record(s)->active.version[0];
	int r;

	if (hf_release_store_is_packaged(s, hf_bundle_hash(bundles[i].b)))
		return 0;
	r = event(s, HF_RELEASE_EV_CANCEL);
	if (r < 0 && r != -EPERM)
		return r;
	r = hf_release_store_prepare(s, bundles[i].b, &slot, NULL);
	if (r == -EEXIST)
		r = 0;
	else if (r == 0) {
		in.event = first ? HF_RELEASE_EV_ADOPT : HF_RELEASE_EV_STAGE;
		r = hf_release_store_event(s, &in);
	}
	return r < 0 ? r : hf_release_store_set_packaged(s, hf_bundle_hash(bundles[i].b));
}

static void the_packages_release_is_adopted_first_and_staged_later(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_err err = {};

	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_ok(take_packaged(s, 0));
	assert_runs(s, "1.0.0");
	assert_int_equal(hf_release_store_record(s)->phase, HF_RELEASE_COMMITTED);
	assert_true(hf_release_store_is_packaged(s, hf_bundle_hash(bundles[0].b)));
	assert_ok(take_packaged(s, 0));
	assert_int_equal(hf_release_store_record(s)->phase, HF_RELEASE_COMMITTED);
	assert_ok(take_packaged(s, 2));
	assert_int_equal(hf_release_store_record(s)->phase, HF_RELEASE_STAGED);
	assert_runs(s, "1.0.0");
	assert_ok(hf_release_store_collect(s));
	assert_true(hf_release_store_is_packaged(s, hf_bundle_hash(bundles[2].b)));
	hf_test_write(d, "agent/packaged", "torn");
	assert_false(hf_release_store_is_packaged(s, hf_bundle_hash(bundles[2].b)));
}

static void a_program_is_what_its_manifest_says_or_not_opened(void **state)
{
	const struct hf_test_dir *d = *state;
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_release_slot other;
	struct hf_err err = {};
	char first;
	int fd = -1;

	assert_ok(hf_release_store_open(&hf_io_real, d->fd, "agent", &s, &err));
	assert_ok(take_packaged(s, 1));
	other = *hf_release_store_runs(s);
	assert_ok(hf_release_store_open_program(s, &other, "bin/agent", &fd, &err));
	assert_int_equal(pread(fd, &first, 1, 0), 1);
	assert_int_equal(first, 'b');
	(void)hf_close(fd);
	assert_err(hf_release_store_open_program(s, &other, "bin/other", &fd, &err), -ENOENT);
	assert_err(hf_release_store_open_program(s, &other, "../state.a", &fd, &err), -ENOENT);
	other.hash[31] ^= 1;
	assert_err(hf_release_store_open_program(s, &other, "bin/agent", &fd, &err), -EBADMSG);
	other.hash[31] ^= 1;
	damage(d, s);
	assert_err(hf_release_store_open_program(s, &other, "bin/agent", &fd, &err), -EBADMSG);
	assert_string_equal(
		err.msg, "release 1.1.0: 'bin/agent': its content is not the one of the manifest");
	assert_true(hf_release_store_lost(-EBADMSG));
	assert_false(hf_release_store_lost(-EMFILE));
	assert_false(hf_release_store_lost(0));
}

/* ---- a full disk: the k-th call fails, but the machine goes on ---------------------------------- */

static int full_at, full_calls;

static bool full_now(void)
{
	return ++full_calls == full_at;
}

static int full_create(const struct hf_io *io, int dir, const char *name)
{
	return full_now() ? -ENOSPC : hf_io_real.create(io, dir, name);
}

static int full_write(const struct hf_io *io, int fd, const void *buf, size_t len, uint64_t at)
{
	return full_now() ? -ENOSPC : hf_io_real.write(io, fd, buf, len, at);
}

static int full_mkdir(const struct hf_io *io, int dir, const char *name)
{
	return full_now() ? -ENOSPC : hf_io_real.mkdir(io, dir, name);
}

static int full_sync(const struct hf_io *io, int fd)
{
	return full_now() ? -EIO : hf_io_real.sync(io, fd);
}

static int full_rename(const struct hf_io *io, int from_dir, const char *from, int to_dir,
		       const char *to)
{
	return full_now() ? -EROFS : hf_io_real.rename(io, from_dir, from, to_dir, to);
}

static void a_full_disk_at_any_call_leaves_the_running_version(void **state)
{
	const struct hf_test_dir *d = *state;
	struct hf_io io = hf_io_real;
	struct hf_err err = {};
	int k = 0;

	io.create = full_create;
	io.write = full_write;
	io.mkdir = full_mkdir;
	io.sync = full_sync;
	io.rename = full_rename;
	for (bool failed = true; failed; k++) {
		struct hf_release_store *s = NULL;
		char name[32];
		int dir;

		(void)hf_strf(name, sizeof(name), "at-%d", k);
		assert_int_equal(mkdirat(d->fd, name, 0700), 0);
		dir = openat(d->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		full_at = 0;
		assert_ok(hf_release_store_open(&io, dir, "agent", &s, &err));
		assert_ok(update(s, 0, HF_RELEASE_EV_HEALTHY));
		full_calls = 0;
		full_at = k + 1;
		failed = hf_release_store_stage(s, bundles[1].b, &err) < 0;
		assert_runs(s, "1.0.0");
		if (failed) {
			/* There is room again. */
			full_at = 0;
			assert_runs(s, "1.0.0");
			assert_ok(update(s, 1, HF_RELEASE_EV_HEALTHY));
			assert_runs(s, "1.1.0");
		}
		s = hf_release_store_free(s);
		(void)hf_close(dir);
	}
	assert_true(k > 10);
}

/* ---- power cuts --------------------------------------------------------------------------------- */

static struct hf_release_store *open_fake(struct fake_disk *d, int *root)
{
	struct hf_release_store *s = NULL;

	*root = fake_root(d);
	if (hf_release_store_open(&d->io, *root, "agent", &s, NULL) < 0) {
		fake_close(&d->io, *root);
		return NULL;
	}
	return s;
}

static void close_fake(struct fake_disk *d, struct hf_release_store *s, int root)
{
	(void)hf_release_store_free(s);
	fake_close(&d->io, root);
	assert_int_equal(fake_open_count(d), 0);
}

/* A good update; one that fails, and again with the package, and good; a rollback by hand. */
static void live(struct fake_disk *d)
{
	int root;
	struct hf_release_store *s = open_fake(d, &root);

	if (!s)
		return;
	if (take_packaged(s, 0) >= 0 && update(s, 1, HF_RELEASE_EV_HEALTHY) >= 0 &&
	    update(s, 2, HF_RELEASE_EV_FAILED) >= 0 && take_packaged(s, 2) >= 0 &&
	    event(s, HF_RELEASE_EV_GIVE_BACK) >= 0 && try_out(s, HF_RELEASE_EV_HEALTHY) >= 0)
		(void)event(s, HF_RELEASE_EV_ROLLBACK); /* the last calls that can be cut */
	close_fake(d, s, root);
}

static struct fake_disk *host_with_1_0_0(void)
{
	struct fake_disk *d = fake_disk_new(), *after;
	int root;
	struct hf_release_store *s = open_fake(d, &root);

	assert_non_null(s);
	assert_ok(take_packaged(s, 0));
	close_fake(d, s, root);
	after = fake_after_cut(d, FAKE_EVERYTHING, 0);
	d = fake_disk_free(d);
	return after;
}

/* Opens what is left; whether something whole runs, and an update can be made from there. */
static bool goes_on(struct fake_disk *d)
{
	int root;
	struct hf_release_store *s = open_fake(d, &root);
	const struct hf_release_slot *runs = s ? hf_release_store_runs(s) : NULL;
	bool ok = runs && hf_release_store_check(s, runs, NULL) == 0;

	if (!s)
		return false;
	if (ok) {
		(void)event(s, HF_RELEASE_EV_CANCEL); /* whatever it was in */
		/* To 1.2.0, unless that is what is active. */
		ok = update(s, 2, HF_RELEASE_EV_HEALTHY) >= 0 ||
		     hf_streq(hf_release_store_record(s)->active.version, "1.2.0");
		runs = hf_release_store_runs(s);
		ok = ok && runs && hf_streq(runs->version, "1.2.0") &&
		     hf_release_store_check(s, runs, NULL) == 0;
	}
	close_fake(d, s, root);
	return ok;
}

static void no_power_cut_bricks_a_host(void **state)
{
	struct fake_disk *host = host_with_1_0_0();
	unsigned cuts = 0, bricked = 0, k;
	bool off = true;

	(void)state;
	for (k = 1; off; k++) {
		struct fake_disk *d = fake_after_cut(host, FAKE_EVERYTHING, k);

		d->stop_at = k;
		live(d);
		off = d->off;
		for (uint64_t seed = 0; off && seed < SEEDS; seed++) {
			enum fake_cut cut = seed < 2 ? (enum fake_cut)seed : FAKE_SOME;
			struct fake_disk *after = fake_after_cut(d, cut, seed * 1000 + k);
			struct fake_disk *again = NULL;

			/* Every second time the power goes once more, while it recovers. */
			if (seed % 2) {
				after->stop_at = 1 + (unsigned)(seed * 7 + k) % 30;
				live(after);
				again = fake_after_cut(after, FAKE_SOME, seed);
			}
			if (!goes_on(again ? again : after)) {
				print_error("bricked: cut at call %u, seed %u\n", k,
					    (unsigned)seed);
				bricked++;
			}
			cuts++;
			after = fake_disk_free(after);
			again = again ? fake_disk_free(again) : NULL;
		}
		d = fake_disk_free(d);
	}
	host = fake_disk_free(host);
	print_message("%u state-changing calls, bricked %u of %u\n", k - 2, bricked, cuts);
	assert_true(k > 100);
	assert_int_equal(bricked, 0);
}

/* ---- the harness has to see a store that does not sync ------------------------------------------ */

static int no_sync(const struct hf_io *io, int fd)
{
	(void)io;
	(void)fd;
	return 0;
}

static int no_sync_of_directories(const struct hf_io *io, int fd)
{
	return fake_of(io)->nodes[fake_node_of(fake_of(io), fd)].is_dir ? 0 : fake_sync(io, fd);
}

/* In how many of 64 cuts a committed release does not run afterwards. */
static unsigned lost_with(int (*sync)(const struct hf_io *io, int fd))
{
	unsigned lost = 0;

	for (unsigned seed = 0; seed < 64; seed++) {
		struct fake_disk *d = fake_disk_new(), *after;
		struct hf_release_store *s;
		int root;

		d->io.sync = sync;
		s = open_fake(d, &root);
		assert_non_null(s);
		assert_ok(update(s, 0, HF_RELEASE_EV_HEALTHY));
		close_fake(d, s, root);
		after = fake_after_cut(d, FAKE_SOME, seed);
		s = open_fake(after, &root);
		lost += !s || !hf_release_store_runs(s);
		if (s)
			close_fake(after, s, root);
		after = fake_disk_free(after);
		d = fake_disk_free(d);
	}
	return lost;
}

static void the_harness_finds_what_was_not_synced(void **state)
{
	(void)state;
	assert_int_equal(lost_with(fake_sync), 0);
	assert_true(lost_with(no_sync_of_directories) > 0);
	assert_true(lost_with(no_sync) > 0);
}

#define WITH_DIR(test) \
	cmocka_unit_test_setup_teardown(test, hf_test_dir_setup, hf_test_dir_teardown)

static void bundles_can_be_made(void **state)
{
	assert_int_equal(make_bundles(state), 0);
}

static void bundles_can_be_freed(void **state)
{
	assert_int_equal(free_bundles(state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bundles_can_be_made),
		WITH_DIR(updates_are_staged_tried_committed_and_rolled_back),
		WITH_DIR(two_updates_at_once_are_refused),
		WITH_DIR(a_damaged_release_gives_way_to_the_one_before),
		WITH_DIR(lost_records_lead_to_the_best_whole_release),
		WITH_DIR(the_packages_release_is_adopted_first_and_staged_later),
		WITH_DIR(a_program_is_what_its_manifest_says_or_not_opened),
		WITH_DIR(a_full_disk_at_any_call_leaves_the_running_version),
		cmocka_unit_test(no_power_cut_bricks_a_host),
		cmocka_unit_test(the_harness_finds_what_was_not_synced),
		cmocka_unit_test(bundles_can_be_freed),
	};

	return HF_RUN_TESTS(tests);
}
