/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stores, and what is executed.
 *
 * I1. What is executed was verified by the same descriptor that is executed: between the two there is
 *     no name. The store is root's and nothing in it is writable, so a copy or fs-verity would add
 *     nothing against anybody but root; a change all the same shows in the file's ctime and size, and
 *     then it is verified again before the next exec.
 * I2. There is always something to execute: the version on trial, the active one, the one before, and
 *     at last the package's own program.
 * I3. A try that cannot be written down is not taken: the active version runs instead.
 */
#include "watchdog/release_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/launch.h"
#include "watchdog/component.h"
#include "watchdog/release_host.h"

const char *hf_release_slot_name(const struct hf_release_slot *slot)
{
	return slot && slot->version[0] ? slot->version : "the package's";
}

void hf_release_program_path(const struct hf_release *r, char dst[static HF_RELEASE_PROGRAM_MAX])
{
	(void)hf_strf(dst, HF_RELEASE_PROGRAM_MAX, "bin/%s", r->program);
}

struct hf_release *hf_releases_find(struct hf_releases *all, const char *component)
{
	for (size_t i = 0; i < all->n; i++)
		if (hf_streq(all->item[i].component, component))
			return &all->item[i];
	return NULL;
}

bool hf_release_on_trial(const struct hf_release *r)
{
	return r->store && !r->distrusted &&
	       hf_release_store_record(r->store)->phase == HF_RELEASE_TRIAL;
}

const struct hf_release_slot *hf_release_should_run(const struct hf_release *r)
{
	const struct hf_release_record *record =
		r->store ? hf_release_store_record(r->store) : NULL;

	if (!record)
		return NULL;
	if (r->distrusted)
		return record->active.version[0] ? &record->active : NULL;
	return hf_release_store_runs(r->store);
}

int hf_release_event(struct hf_release *r, enum hf_release_event event,
		     enum hf_release_reason reason)
{
	struct hf_release_input in = {.event = event, .reason = reason};

	memcpy(in.boot_id, r->all->boot_id, sizeof(in.boot_id));
	return r->store ? hf_release_store_event(r->store, &in) : -ENODEV;
}

/* ---- what is executed --------------------------------------------------------------------------- */

static bool same_slot(const struct hf_release_slot *a, const struct hf_release_slot *b)
{
	return memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

static bool unchanged(const struct hf_release_open *o, const struct hf_release_slot *slot)
{
	struct stat now;

	return o->fd >= 0 && same_slot(&o->slot, slot) && fstat(o->fd, &now) == 0 &&
	       now.st_size == o->st.st_size && now.st_mode == o->st.st_mode &&
	       now.st_ctim.tv_sec == o->st.st_ctim.tv_sec &&
	       now.st_ctim.tv_nsec == o->st.st_ctim.tv_nsec &&
	       now.st_mtim.tv_sec == o->st.st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == o->st.st_mtim.tv_nsec;
}

/* The slot's program, verified, in r->open. */
static int open_slot(struct hf_release *r, const struct hf_release_slot *slot, struct hf_err *err)
{
	char path[HF_RELEASE_PROGRAM_MAX];
	struct hf_release_open o = {.fd = -1, .slot = *slot};
	int result;

	if (unchanged(&r->open, slot))
		return 0;
	hf_release_program_path(r, path);
	result = hf_release_store_open_program(r->store, slot, path, &o.fd, err);
	if (result < 0)
		return result;
	if (fstat(o.fd, &o.st) < 0) {
		result = -errno;
		(void)hf_close(o.fd);
		return hf_err_set(err, result, "stat '%s': %s", path, strerror(-result));
	}
	(void)hf_close(r->open.fd);
	r->open = o;
	return 0;
}

static int open_packaged(struct hf_release *r, struct hf_err *err)
{
	int fd = openat(r->all->w->bin_dir, r->program, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return hf_err_set(err, -errno, "open '%s': %s", r->program, strerror(errno));
	(void)hf_close(r->packaged_fd);
	r->packaged_fd = fd;
	memset(&r->executed, 0, sizeof(r->executed));
	r->was_executed = true;
	return fd;
}

/* I3: false when the version that is on trial may not be started. */
static bool take_try(struct hf_release *r)
{
	struct hf_release_slot candidate = hf_release_store_record(r->store)->candidate;
	int result = hf_release_event(r, HF_RELEASE_EV_START, HF_RELEASE_WHY_NONE);

	if (result < 0) {
		hf_error_r(
			result,
			"write down a try of release %s of '%s': the active version runs instead",
			candidate.version, r->component);
		r->distrusted = true;
		return false;
	}
	if (hf_release_store_record(r->store)->phase == HF_RELEASE_TRIAL)
		return true;
	/* The table gave it up: its tries are used up. */
	hf_release_remember(r, candidate.version, hf_release_slot_name(hf_release_should_run(r)),
			    hf_release_reason_name(HF_RELEASE_WHY_TRIES),
			    "it was started three times and never became healthy");
	hf_release_judge_anew(r);
	return false;
}

int hf_release_program(struct hf_release *r, const char **ret_version, struct hf_err *err)
{
	*ret_version = "";
	hf_release_pay(r);
	/* Candidate, active, previous; then there is nothing left to fall back to. */
	for (unsigned i = 0; i < 4; i++) {
		const struct hf_release_slot *slot = hf_release_should_run(r);
		struct hf_err why = {};
		int result;

		if (!slot)
			break;
		result = open_slot(r, slot, &why);
		if (result < 0) {
			if (!hf_release_store_lost(result))
				return hf_err_set(err, result, "%s", why.msg);
			if (!hf_release_give_up(r, HF_RELEASE_WHY_DIGEST, why.msg))
				break;
			continue;
		}
		if (hf_release_on_trial(r) && !take_try(r))
			continue;
		r->executed = r->open.slot;
		r->was_executed = true;
		*ret_version = r->executed.version;
		return r->open.fd;
	}
	return open_packaged(r, err);
}

bool hf_release_exec_failed(struct hf_release *r, const char *why)
{
	if (!r->store || !r->executed.version[0])
		return false;
	if (hf_release_give_up(r, HF_RELEASE_WHY_EXEC, why))
		return true;
	/* Neither of the store's: the package's own, until the store has something better. */
	hf_error("no release of '%s' can be executed: the package's program runs", r->component);
	r->store = hf_release_store_free(r->store);
	(void)hf_strf(r->error, sizeof(r->error), "its releases cannot be executed: %s", why);
	return true;
}

bool hf_release_is_process(const struct hf_release *r, const struct hf_release_slot *slot,
			   uint32_t pid)
{
	_cleanup_close_ int release = -1;
	char path[HF_RELEASE_PROGRAM_MAX], exe[64];
	struct stat want, is;

	if (!r->store)
		return false;
	release = hf_release_store_open_release(r->store, slot);
	hf_release_program_path(r, path);
	(void)hf_strf(exe, sizeof(exe), "/proc/%u/exe", pid);
	return release >= 0 && fstatat(release, path, &want, AT_SYMLINK_NOFOLLOW) == 0 &&
	       stat(exe, &is) == 0 && is.st_dev == want.st_dev && is.st_ino == want.st_ino;
}

bool hf_release_adopted(struct hf_release *r, uint32_t pid)
{
	const struct hf_release_slot *slot = hf_release_should_run(r);
	char link[64], target[PATH_MAX];
	ssize_t n;

	if (!slot)
		return false;
	if (hf_release_is_process(r, slot, pid)) {
		r->executed = *slot;
		r->was_executed = true;
		return false;
	}
	/* A process of the package's directory stays; one of another release is not what runs. */
	(void)hf_strf(link, sizeof(link), "/proc/%u/exe", pid);
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = 0;
	return hf_release_on_trial(r) || strstr(target, "/releases/") != NULL;
}

struct hf_release *hf_releases_attach(struct hf_releases *all, struct hf_component *c,
				      const char *component, const char *program)
{
	struct hf_release *r = all ? hf_releases_find(all, component) : NULL;

	if (r) {
		hf_assert(hf_streq(r->program, program));
		r->c = c;
	}
	return r;
}

/* ---- start and end ------------------------------------------------------------------------------ */

/* Our own version says nothing about the package's programs when we are of a release ourselves. */
static void know_package(struct hf_releases *all)
{
	const char *version = getenv(HF_LAUNCH_ENV_VERSION);

	if (all->w->launch_fd < 0 || !version || !hf_version_valid(version))
		version = HF_VERSION;
	(void)hf_strlcpy(all->packaged_version, version, sizeof(all->packaged_version));
	(void)unsetenv(HF_LAUNCH_ENV_DIR); /* no component's business */
	(void)unsetenv(HF_LAUNCH_ENV_VERSION);
}

/* Why there can be no store in this directory, or NULL. */
static const char *unfit(int dir)
{
	struct statvfs fs;
	struct stat st;

	if (fstat(dir, &st) < 0 || fstatvfs(dir, &fs) < 0)
		return "it cannot be looked at";
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return "somebody else may write to it";
	if (fs.f_flag & ST_NOEXEC)
		return "it is mounted noexec";
	return NULL;
}

static void add(struct hf_releases *all, const char *component, const char *program)
{
	struct hf_release *r = &all->item[all->n++];
	struct hf_err err = {};

	hf_assert(all->n <= HF_ARRAY_SIZE(all->item));
	r->magic = RELEASE_MAGIC;
	r->all = all;
	r->component = component;
	r->program = program;
	r->open.fd = r->packaged_fd = -1;
	r->preflight.pidfd = r->preflight.err_fd = -1;
	hf_release_recall(r);
	if (all->dir < 0) {
		(void)hf_strlcpy(r->error, all->request.text, sizeof(r->error));
		return;
	}
	if (hf_release_store_open(&hf_io_real, all->dir, component, &r->store, &err) < 0) {
		hf_error("%s: the package's program runs", err.msg);
		(void)hf_strlcpy(r->error, err.msg, sizeof(r->error));
		return;
	}
	hf_release_take_packaged(r);
	hf_release_judge_anew(r);
}

static void open_dir(struct hf_releases *all)
{
	const char *path = all->w->paths.releases_dir, *why;
	int r = hf_mkdir_p(AT_FDCWD, path, 0755);

	/* Not O_NOFOLLOW: where /var may not be executed, root puts a link or a mount there. */
	if (r == 0) {
		all->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = all->dir < 0 ? -errno : 0;
	}
	if (r < 0) {
		(void)hf_strf(all->request.text, sizeof(all->request.text), "open '%s': %s", path,
			      strerror(-r));
	} else {
		why = unfit(all->dir);
		if (!why)
			return;
		(void)hf_strf(all->request.text, sizeof(all->request.text), "'%s': %s", path, why);
		all->dir = hf_close(all->dir);
	}
	hf_error("there is no release store: %s; the package's programs run", all->request.text);
}

int hf_releases_new(struct hf_watchdog *w, struct hf_releases **ret)
{
	_cleanup_(hf_releases_freep) struct hf_releases *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->magic = RELEASES_MAGIC;
	all->w = w;
	all->dir = -1;
	know_package(all);
	(void)hf_boot_id(all->boot_id); /* without one: every start is of the same boot */
	open_dir(all);
	add(all, "agent", "holdfast-agent");
	add(all, HF_RELEASE_WATCHDOG, "holdfast-watchdog");
	all->request.text[0] = 0;
	hf_releases_know_self(all);
	if (hf_releases_has_successor(all)) {
		/* Nothing was started yet: the package's watchdog does it. */
		hf_notice("the package's watchdog %s takes over", all->packaged_version);
		w->handing_over = w->succeeded = true;
		return -ECANCELED;
	}
	*ret = TAKE_PTR(all);
	return 0;
}

struct hf_releases *hf_releases_free(struct hf_releases *all)
{
	if (!all)
		return NULL;
	all->job = hf_release_job_free(all->job);
	sd_event_source_disable_unref(all->successor);
	for (size_t i = 0; i < all->n; i++) {
		struct hf_release *r = &all->item[i];

		hf_release_preflight_end(r);
		sd_event_source_disable_unref(r->tick);
		(void)hf_close(r->open.fd);
		(void)hf_close(r->packaged_fd);
		r->store = hf_release_store_free(r->store);
		r->magic = 0;
	}
	(void)hf_close(all->dir);
	all->magic = 0;
	free(all);
	return NULL;
}
