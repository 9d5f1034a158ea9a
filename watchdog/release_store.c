/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The release store. Silent; its caller logs.
 *
 * I1 a record never speaks of a release that is not complete and durable.
 * I2 a release that a record speaks of is never changed nor removed.
 * I3 after a power cut at any call, hf_release_store_open() finds a complete release to run if there
 *    was one before: the store cannot brick a host.
 */
#include "watchdog/release_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/str.h"

#define STAGING ".staging"
/* <version>-<12 hex digits>: enough that two builds of a version do not meet. */
#define HASH_BYTES 6
#define NAME_MAX_  (HF_VERSION_MAX + 1 + 2 * HASH_BYTES + 1)

struct hf_release_store {
	const struct hf_io *io;
	int dir;
	struct hf_twin twin;
	struct hf_release_record record;
};

struct hf_release_store *hf_release_store_free(struct hf_release_store *s)
{
	if (s && s->dir >= 0)
		s->io->close(s->io, s->dir);
	free(s);
	return NULL;
}

void hf_release_store_use_io(struct hf_release_store *s, const struct hf_io *io)
{
	s->io = io;
	s->twin.io = io;
}

int hf_release_store_dir(const struct hf_release_store *s)
{
	return s->dir;
}

const struct hf_release_record *hf_release_store_record(const struct hf_release_store *s)
{
	return &s->record;
}

const struct hf_release_slot *hf_release_store_runs(const struct hf_release_store *s)
{
	return hf_release_runs(&s->record);
}

static void name_of(const struct hf_release_slot *slot, char dst[static NAME_MAX_])
{
	char hex[2 * HASH_BYTES + 1];

	hf_hex_encode(hex, slot->hash, HASH_BYTES);
	(void)hf_strf(dst, NAME_MAX_, "%s-%s", slot->version, hex); /* made to fit */
}

int hf_release_store_open_release(const struct hf_release_store *s,
				  const struct hf_release_slot *slot)
{
	char name[NAME_MAX_];

	name_of(slot, name);
	return s->io->open_dir(s->io, s->dir, name);
}

/* The manifest of an open release, whose text has this hash. */
static int read_manifest(const struct hf_release_store *s, int release, struct hf_manifest **ret,
			 uint8_t hash[static HF_SHA256_SIZE], struct hf_err *err)
{
	_cleanup_free_ uint8_t *text = NULL;
	size_t len;
	int r;

	r = hf_io_read_file(s->io, release, HF_RELEASE_MANIFEST, HF_MANIFEST_SIZE_MAX, &text, &len);
	if (r < 0)
		return hf_err_set(err, r, "'%s': %s", HF_RELEASE_MANIFEST, strerror(-r));
	r = hf_sha256(text, len, hash);
	if (r < 0)
		return hf_err_set(err, r, "no SHA-256");
	return hf_manifest_decode(text, len, ret, err);
}

/* All of it; or one file of it, which is left open. */
static int check_release(const struct hf_release_store *s, int release,
			 const struct hf_release_slot *slot, const char *program, int *ret_fd,
			 struct hf_err *err)
{
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
	uint8_t hash[HF_SHA256_SIZE];
	int r = read_manifest(s, release, &m, hash, err);

	if (r < 0)
		return r;
	if (memcmp(hash, slot->hash, sizeof(hash)) != 0 || !hf_streq(m->version, slot->version))
		return hf_err_set(err, -EBADMSG, "the manifest is another one");
	if (!program)
		return hf_release_check_tree(s->io, release, m, err);
	for (size_t i = 0; i < m->n_files; i++)
		if (hf_streq(m->files[i].path, program))
			return hf_release_open_file(s->io, release, &m->files[i], ret_fd, err);
	return hf_err_set(err, -ENOENT, "it has no '%s'", program);
}

static int check_slot(const struct hf_release_store *s, const struct hf_release_slot *slot,
		      const char *program, int *ret_fd, struct hf_err *err)
{
	int release = hf_release_store_open_release(s, slot), r;

	if (release < 0)
		r = hf_err_set(err, release, "%s", strerror(-release));
	else
		r = check_release(s, release, slot, program, ret_fd, err);
	if (release >= 0)
		s->io->close(s->io, release);
	if (r < 0)
		(void)hf_err_wrap(err, "release %s", slot->version);
	return r;
}

int hf_release_store_check(const struct hf_release_store *s, const struct hf_release_slot *slot,
			   struct hf_err *err)
{
	return check_slot(s, slot, NULL, NULL, err);
}

int hf_release_store_open_program(const struct hf_release_store *s,
				  const struct hf_release_slot *slot, const char *program,
				  int *ret_fd, struct hf_err *err)
{
	return check_slot(s, slot, program, ret_fd, err);
}

/* ---- state ------------------------------------------------------------------------------------ */

static int save(struct hf_release_store *s, struct hf_release_record *next)
{
	int r;

	next->changed_s = hf_now_realtime_ns() / HF_NS_PER_S;
	r = hf_twin_save(&s->twin, next);
	if (r == 0)
		s->record = *next;
	return r;
}

int hf_release_store_event(struct hf_release_store *s, const struct hf_release_input *in)
{
	struct hf_release_record next = s->record;
	int result = hf_release_step(&next, in), r;

	if (result <= 0)
		return result;
	r = save(s, &next);
	return r < 0 ? r : result;
}

int hf_release_store_progress(struct hf_release_store *s, uint64_t healthy_ms)
{
	struct hf_release_record next = s->record;

	if (next.phase != HF_RELEASE_TRIAL)
		return -EPERM;
	next.healthy_ms = healthy_ms;
	return save(s, &next);
}

/* ---- stage ------------------------------------------------------------------------------------ */

static struct hf_release_slot slot_of(const struct hf_bundle *b)
{
	const struct hf_manifest *m = hf_bundle_manifest(b);
	struct hf_release_slot slot = {.security_epoch = m->security_epoch};

	(void)hf_strlcpy(slot.version, m->version, sizeof(slot.version)); /* the same size */
	memcpy(slot.hash, hf_bundle_hash(b), sizeof(slot.hash));
	return slot;
}

static int unpack(struct hf_release_store *s, const struct hf_bundle *b, struct hf_err *err)
{
	int staging, r;

	r = hf_io_remove_tree(s->io, s->dir, STAGING);
	if (r == 0)
		r = s->io->mkdir(s->io, s->dir, STAGING);
	staging = r < 0 ? r : s->io->open_dir(s->io, s->dir, STAGING);
	if (staging < 0)
		return hf_err_set(err, staging, "make '%s': %s", STAGING, strerror(-staging));
	r = hf_bundle_unpack(b, s->io, staging, err);
	s->io->close(s->io, staging);
	return r;
}

/* .staging becomes the release. What has its name already is not spoken of, or it is whole. */
static int publish(struct hf_release_store *s, const struct hf_release_slot *slot,
		   struct hf_err *err)
{
	char name[NAME_MAX_];
	int r;

	name_of(slot, name);
	if (hf_release_store_check(s, slot, NULL) == 0) {
		r = hf_io_remove_tree(s->io, s->dir, STAGING);
	} else {
		r = hf_io_remove_tree(s->io, s->dir, name);
		if (r == 0)
			r = s->io->rename(s->io, s->dir, STAGING, s->dir, name);
	}
	/* In both cases: a whole release may be there whose name was not synced yet. */
	if (r == 0)
		r = s->io->sync(s->io, s->dir);
	return r < 0 ? hf_err_set(err, r, "move to '%s': %s", name, strerror(-r)) : 0;
}

int hf_release_store_prepare(struct hf_release_store *s, const struct hf_bundle *b,
			     struct hf_release_slot *ret, struct hf_err *err)
{
	struct hf_release_slot slot = slot_of(b);
	const struct hf_release_input in = {.event = HF_RELEASE_EV_STAGE, .slot = &slot};
	struct hf_release_record would = s->record;
	int r;

	if (!hf_streq(hf_bundle_manifest(b)->component, s->record.component))
		return hf_err_set(err, -EINVAL, "a release of '%s'",
				  hf_bundle_manifest(b)->component);
	if (memcmp(s->record.active.hash, slot.hash, sizeof(slot.hash)) == 0)
		return hf_err_set(err, -EEXIST, "release %s is active", slot.version);
	r = hf_release_step(&would, &in);
	if (r < 0)
		return hf_err_set(err, r, "another update is in its %s",
				  hf_release_phase_name(s->record.phase));
	r = unpack(s, b, err);
	if (r == 0)
		r = publish(s, &slot, err);
	if (r < 0) {
		(void)hf_io_remove_tree(s->io, s->dir, STAGING); /* or the next time */
		return r;
	}
	*ret = slot;
	return 0;
}

int hf_release_store_stage(struct hf_release_store *s, const struct hf_bundle *b,
			   struct hf_err *err)
{
	struct hf_release_slot slot;
	const struct hf_release_input in = {.event = HF_RELEASE_EV_STAGE, .slot = &slot};
	int r = hf_release_store_prepare(s, b, &slot, err);

	if (r < 0)
		return r;
	r = hf_release_store_event(s, &in);
	return r < 0 ? hf_err_set(err, r, "write the record: %s", strerror(-r)) : 0;
}

/* ---- the package's release ---------------------------------------------------------------------- */

#define PACKAGED      "packaged"
#define PACKAGED_SIZE (2 * HF_SHA256_SIZE)

bool hf_release_store_is_packaged(const struct hf_release_store *s,
				  const uint8_t hash[static HF_SHA256_SIZE])
{
	_cleanup_free_ uint8_t *text = NULL;
	char hex[PACKAGED_SIZE + 1];
	size_t len;

	hf_hex_encode(hex, hash, HF_SHA256_SIZE);
	return hf_io_read_file(s->io, s->dir, PACKAGED, PACKAGED_SIZE, &text, &len) == 0 &&
	       len == PACKAGED_SIZE && memcmp(text, hex, len) == 0;
}

int hf_release_store_set_packaged(struct hf_release_store *s,
				  const uint8_t hash[static HF_SHA256_SIZE])
{
	char hex[PACKAGED_SIZE + 1];
	int r;

	/* Torn or lost, it says nothing, and the package's release is staged once more. */
	hf_hex_encode(hex, hash, HF_SHA256_SIZE);
	r = hf_io_remove_tree(s->io, s->dir, PACKAGED);
	if (r == 0)
		r = hf_io_write_file(s->io, s->dir, PACKAGED, hex, PACKAGED_SIZE, 0600);
	return r < 0 ? r : s->io->sync(s->io, s->dir);
}

/* ---- recovery --------------------------------------------------------------------------------- */

/* Out of memory or descriptors: says nothing about a release. */
static bool is_transient(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

/* 0: this directory of the store is a whole release of the component; fills the slot. */
static int whole_release(const struct hf_release_store *s, const char *name,
			 struct hf_release_slot *ret)
{
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
	struct hf_release_slot slot = {};
	char again[NAME_MAX_];
	int release = s->io->open_dir(s->io, s->dir, name), r;

	if (release < 0)
		return release;
	r = read_manifest(s, release, &m, slot.hash, NULL);
	if (r == 0) {
		slot.security_epoch = m->security_epoch;
		(void)hf_strlcpy(slot.version, m->version, sizeof(slot.version)); /* same size */
		name_of(&slot, again);
		if (!hf_streq(again, name) || !hf_streq(m->component, s->record.component))
			r = -EBADMSG;
	}
	if (r == 0)
		r = hf_release_check_tree(s->io, release, m, NULL);
	s->io->close(s->io, release);
	if (r == 0)
		*ret = slot;
	return r;
}

static bool is_known_bad(const struct hf_release_record *r, const struct hf_release_slot *slot)
{
	for (unsigned i = 0; i < HF_RELEASE_BAD_MAX; i++)
		if (memcmp(r->bad[i], slot->hash, sizeof(r->bad[i])) == 0)
			return true;
	return false;
}

/* One that failed here before is the last resort. */
static bool better(const struct hf_release_record *r, const struct hf_release_slot *a,
		   const struct hf_release_slot *b)
{
	bool a_bad = is_known_bad(r, a), b_bad = is_known_bad(r, b);

	if (!b->version[0])
		return true;
	if (a_bad != b_bad)
		return b_bad;
	if (a->security_epoch != b->security_epoch)
		return a->security_epoch > b->security_epoch;
	return hf_version_compare(a->version, b->version) > 0;
}

/* No record leads to a whole release: the two best ones that are whole. */
static int choose_any(struct hf_release_store *s, enum hf_release_reason reason)
{
	_cleanup_(hf_io_names_done) struct hf_io_names names = {};
	struct hf_release_record next = s->record;
	struct hf_release_slot slot;
	int r = s->io->list(s->io, s->dir, &names);

	if (r < 0)
		return r;
	memset(&next.active, 0, sizeof(next.active));
	memset(&next.previous, 0, sizeof(next.previous));
	memset(&next.candidate, 0, sizeof(next.candidate));
	for (size_t i = 0; i < names.n; i++) {
		r = whole_release(s, names.names[i], &slot);
		if (is_transient(r))
			return r;
		if (r != 0)
			continue;
		if (better(&next, &slot, &next.active)) {
			next.previous = next.active;
			next.active = slot;
		} else if (better(&next, &slot, &next.previous)) {
			next.previous = slot;
		}
	}
	next.phase = HF_RELEASE_IDLE;
	next.reason = reason;
	return save(s, &next);
}

/* What runs is whole when this returns 0, or there is nothing in the store to run. */
static int recover_what_runs(struct hf_release_store *s)
{
	const struct hf_release_input cancel = {.event = HF_RELEASE_EV_CANCEL};
	const struct hf_release_input broken = {.event = HF_RELEASE_EV_FAILED,
						.reason = HF_RELEASE_WHY_DIGEST};

	/* Candidate, active, previous: after three steps back there is nothing left to try. */
	for (unsigned step = 0; step < 3; step++) {
		const struct hf_release_slot *runs = hf_release_store_runs(s);
		int r;

		if (!runs)
			return 0;
		r = hf_release_store_check(s, runs, NULL);
		if (r == 0 || is_transient(r))
			return r;
		/* An update that was not tried yet is no better than the version before. */
		if (s->record.phase == HF_RELEASE_STAGED || s->record.phase == HF_RELEASE_PREFLIGHT)
			r = hf_release_store_event(s, &cancel);
		else
			r = 1;
		if (r > 0)
			r = hf_release_store_event(s, &broken);
		if (r < 0)
			return r;
		if (r == 0)
			break;
	}
	return choose_any(s, HF_RELEASE_WHY_DIGEST);
}

static int open_component_dir(const struct hf_io *io, int releases, const char *component)
{
	int dir = io->open_dir(io, releases, component), r;

	if (dir != -ENOENT)
		return dir;
	r = io->mkdir(io, releases, component);
	if (r == 0)
		r = io->sync(io, releases);
	return r < 0 ? r : io->open_dir(io, releases, component);
}

static int recover(struct hf_release_store *s, const char *component)
{
	const struct hf_release_input found = {.event = HF_RELEASE_EV_RECOVER};
	int r = hf_twin_load(&s->twin, s->io, s->dir, &s->record);

	/* Nothing is staged before a first record is there: none at all means a new store, or one
	 * whose records were deleted. */
	if (r == -ENOENT || r == -EBADMSG) {
		s->record = (struct hf_release_record){};
		(void)hf_strlcpy(s->record.component, component, sizeof(s->record.component));
		return choose_any(s, r == -ENOENT ? HF_RELEASE_WHY_NONE : HF_RELEASE_WHY_RECORDS);
	}
	if (r < 0)
		return r;
	r = hf_release_store_event(s, &found);
	return r < 0 ? r : recover_what_runs(s);
}

int hf_release_store_open(const struct hf_io *io, int releases, const char *component,
			  struct hf_release_store **ret, struct hf_err *err)
{
	_cleanup_(hf_release_store_freep) struct hf_release_store *s = calloc(1, sizeof(*s));
	int r;

	hf_assert(strlen(component) < HF_MANIFEST_WORD_MAX);
	if (!s)
		return hf_err_set(err, -ENOMEM, "out of memory");
	s->io = io;
	s->dir = open_component_dir(io, releases, component);
	if (s->dir < 0)
		return hf_err_set(err, s->dir, "open the store of '%s': %s", component,
				  strerror(-s->dir));
	r = recover(s, component);
	if (r < 0)
		return hf_err_set(err, r, "recover the store of '%s': %s", component, strerror(-r));
	*ret = TAKE_PTR(s);
	return 0;
}

bool hf_release_store_lost(int r)
{
	return r < 0 && !is_transient(r);
}

/* ---- collect ---------------------------------------------------------------------------------- */

static bool is_spoken_of(const struct hf_release_store *s, const char *name)
{
	const struct hf_release_slot *const slots[] = {&s->record.active, &s->record.previous,
						       &s->record.candidate};
	char of[NAME_MAX_];

	for (size_t i = 0; i < HF_ARRAY_SIZE(slots); i++) {
		if (!slots[i]->version[0])
			continue;
		name_of(slots[i], of);
		if (hf_streq(of, name))
			return true;
	}
	return hf_streq(name, "state.a") || hf_streq(name, "state.b") || hf_streq(name, PACKAGED);
}

int hf_release_store_collect(struct hf_release_store *s)
{
	_cleanup_(hf_io_names_done) struct hf_io_names names = {};
	int r = s->io->list(s->io, s->dir, &names);

	for (size_t i = 0; i < names.n && r == 0; i++)
		if (!is_spoken_of(s, names.names[i]))
			r = hf_io_remove_tree(s->io, s->dir, names.names[i]);
	return r;
}
