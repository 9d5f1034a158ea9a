/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Choosing the watchdog.
 *
 * The judge of a watchdog must not be the watchdog: its candidate is started three times at most
 * (the record's tries, written before each start), and becomes the active version only by its own
 * word that it was healthy for the time of probation. A kept version that is started five times in ten
 * minutes without an orderly end in between gives way to the one before; and where the store has
 * nothing that is whole, the package's program runs.
 *
 * I1. Nothing here keeps the watchdog from being started: every fault of the store is logged and leads
 *     to the next best program.
 * I2. Only this program and, later, the watchdog itself write these records, never both at once.
 */
#include "watchdog/launch/pick.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/launch.h"
#include "watchdog/release_store.h"

#define COMPONENT        "watchdog"
#define PROGRAM          "bin/" HF_LAUNCH_WATCHDOG

#define STARTS_MAX       5u
#define STARTS_WITHIN_NS (600 * HF_NS_PER_S)

int hf_pick_packaged(const char *packaged, struct hf_pick *ret)
{
	_cleanup_free_ char *path = hf_asprintf("%s/%s", packaged, HF_LAUNCH_WATCHDOG);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	*ret = (struct hf_pick){.fd = fd};
	return 0;
}

/* ---- starts --------------------------------------------------------------------------------------- */

/* A start is not durable: a count that a power cut loses is no harm. */
struct starts {
	uint8_t boot_id[16];
	uint64_t at_ns[STARTS_MAX]; /* CLOCK_BOOTTIME, newest first; 0: none */
	uint8_t release[HF_SHA256_SIZE];
};

static char *starts_path(const struct hf_paths *paths)
{
	return hf_asprintf("%s/%s", paths->watchdog_state, HF_LAUNCH_STARTS);
}

/* Counts this start of that release; true when it was one too many. */
static bool count_start(const struct hf_paths *paths, const struct hf_release_slot *slot)
{
	_cleanup_free_ char *path = starts_path(paths), *text = NULL;
	uint64_t now_ns = hf_now_boottime_ns();
	struct starts s = {}, old;
	size_t len;
	bool full;

	if (!path || hf_boot_id(s.boot_id) < 0)
		return false;
	memcpy(s.release, slot->hash, sizeof(s.release));
	if (hf_read_file(AT_FDCWD, path, sizeof(old), &text, &len) == 0 && len == sizeof(old)) {
		memcpy(&old, text, sizeof(old));
		if (memcmp(old.boot_id, s.boot_id, sizeof(s.boot_id)) == 0 &&
		    memcmp(old.release, s.release, sizeof(s.release)) == 0)
			memcpy(&s.at_ns[1], &old.at_ns[0], sizeof(s.at_ns) - sizeof(s.at_ns[0]));
	}
	s.at_ns[0] = now_ns;
	full = s.at_ns[STARTS_MAX - 1] && now_ns - s.at_ns[STARTS_MAX - 1] <= STARTS_WITHIN_NS;
	if (full)
		(void)unlink(path); /* whoever comes next begins at zero */
	else if (hf_mkdir_p(AT_FDCWD, paths->watchdog_state, 0700) == 0)
		(void)hf_write_file_atomic(AT_FDCWD, path, &s, sizeof(s), 0600);
	return full;
}

/* ---- the store ------------------------------------------------------------------------------------ */

static int open_store(const struct hf_paths *paths, struct hf_release_store **ret)
{
	_cleanup_close_ int dir = open(paths->releases_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct hf_err err = {};
	struct statvfs fs;
	struct stat st;
	int r;

	if (dir < 0)
		return -errno; /* before the first start of a watchdog: it makes it */
	if (fstat(dir, &st) < 0 || fstatvfs(dir, &fs) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 022) || (fs.f_flag & ST_NOEXEC))
		return -EACCES; /* the watchdog says so */
	if (faccessat(dir, COMPONENT, F_OK, 0) < 0)
		return -ENOENT; /* likewise */
	r = hf_release_store_open(&hf_io_real, dir, COMPONENT, ret, &err);
	if (r < 0)
		hf_error("%s: the package's watchdog runs", err.msg);
	return r;
}

static int event(struct hf_release_store *s, enum hf_release_event e, enum hf_release_reason why)
{
	struct hf_release_input in = {.event = e, .reason = why};

	(void)hf_boot_id(in.boot_id);
	return hf_release_store_event(s, &in);
}

static const char *name_of(const struct hf_release_slot *slot)
{
	return slot ? slot->version : "the package's";
}

/* from is a copy. Tells, if something else is to run now. */
static bool give_up(struct hf_release_store *s, const struct hf_release_slot *from,
		    enum hf_release_reason why, const char *text)
{
	const struct hf_release_slot *to;
	int r = event(s, HF_RELEASE_EV_FAILED, why);

	if (r < 0)
		hf_error_r(r, "write down that release %s of the watchdog failed", from->version);
	to = hf_release_store_runs(s);
	if (r <= 0 || (to && memcmp(to->hash, from->hash, sizeof(to->hash)) == 0))
		return false;
	hf_error("Rollback of '" COMPONENT "' from %s to %s: %s: %s", from->version, name_of(to),
		 hf_release_reason_name(why), text);
	return true;
}

/* The try of a candidate. False: another one is to run. */
static bool take_try(struct hf_release_store *s, const struct hf_release_slot *slot)
{
	int r = event(s, HF_RELEASE_EV_START, HF_RELEASE_WHY_NONE);

	if (r < 0) {
		hf_error_r(r, "write down a try of release %s of the watchdog", slot->version);
		return false;
	}
	if (hf_release_store_record(s)->phase == HF_RELEASE_TRIAL)
		return true;
	hf_error("Rollback of '" COMPONENT
		 "' from %s to %s: %s: it was started three times and never became healthy",
		 slot->version, name_of(hf_release_store_runs(s)),
		 hf_release_reason_name(HF_RELEASE_WHY_TRIES));
	return false;
}

static int pick_from(const struct hf_paths *paths, struct hf_release_store *s, struct hf_pick *ret)
{
	bool counted = false;

	/* Candidate, active, previous: then there is nothing left. */
	for (unsigned i = 0; i < 4; i++) {
		const struct hf_release_slot *runs = hf_release_store_runs(s);
		bool trial = hf_release_store_record(s)->phase == HF_RELEASE_TRIAL;
		struct hf_release_slot slot;
		struct hf_err err = {};
		int r, fd;

		if (!runs)
			return -ENOENT;
		slot = *runs;
		r = hf_release_store_open_program(s, &slot, PROGRAM, &fd, &err);
		if (r < 0) {
			if (!hf_release_store_lost(r) ||
			    !give_up(s, &slot, HF_RELEASE_WHY_DIGEST, err.msg))
				return r;
			continue;
		}
		if (trial && !take_try(s, &slot)) {
			(void)hf_close(fd);
			if (hf_release_store_record(s)->phase == HF_RELEASE_TRIAL)
				return -EROFS; /* it could not be written down */
			continue;
		}
		/* A trial has its tries; for it this is the mark that it has not ended orderly. */
		if (!counted && count_start(paths, &slot) && !trial) {
			counted = true;
			(void)hf_close(fd);
			if (!give_up(s, &slot, HF_RELEASE_WHY_CRASHES,
				     "it was started five times in ten minutes"))
				return -ECANCELED; /* there is no other */
			continue;
		}
		ret->fd = fd;
		ret->trial = trial;
		(void)hf_strlcpy(ret->version, slot.version, sizeof(ret->version));
		return 0;
	}
	return -ENOENT;
}

int hf_pick_watchdog(const struct hf_paths *paths, const char *packaged, struct hf_pick *ret)
{
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	int r = open_store(paths, &s);

	*ret = (struct hf_pick){.fd = -1};
	if (r == 0)
		r = pick_from(paths, s, ret);
	if (r == 0)
		return 0;
	if (s)
		hf_warn_r(r, "no release of the watchdog is fit to run: the package's runs");
	return hf_pick_packaged(packaged, ret);
}

bool hf_pick_ended_orderly(const struct hf_paths *paths, const struct hf_pick *pick)
{
	_cleanup_free_ char *path = starts_path(paths);

	return !pick->version[0] || !path || access(path, F_OK) < 0;
}

void hf_pick_forgive(const struct hf_paths *paths)
{
	_cleanup_free_ char *path = starts_path(paths);

	if (path)
		(void)unlink(path);
}

uint64_t hf_pick_trial_progress(const struct hf_paths *paths)
{
	_cleanup_free_ char *path = hf_asprintf("%s/%s", paths->releases_dir, COMPONENT);
	struct hf_release_record record;
	struct hf_twin twin;
	uint64_t progress = 0;
	int dir = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	/* Read only: the watchdog is running and writes it. */
	if (dir >= 0 && hf_twin_load(&twin, &hf_io_real, dir, &record) == 0 &&
	    record.phase == HF_RELEASE_TRIAL)
		progress = record.generation;
	(void)hf_close(dir);
	return progress;
}

void hf_pick_failed(const struct hf_paths *paths, const struct hf_pick *pick, const char *why)
{
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = NULL;
	struct hf_release_slot slot;

	if (!pick->version[0] || open_store(paths, &s) < 0 || !hf_release_store_runs(s))
		return;
	slot = *hf_release_store_runs(s);
	(void)give_up(s, &slot, HF_RELEASE_WHY_EXEC, why);
}
