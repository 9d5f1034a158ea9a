/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Into the store: bundles that somebody wants installed, and what the package brought.
 *
 * I1. A bundle is opened, verified and unpacked in a child process (release_job.h) by one descriptor:
 *     its file may change meanwhile, and what then is unpacked is still only what the signed manifest
 *     says, or nothing.
 * I2. The record that makes it the candidate is written here, after the child said that all of it is
 *     durable. What a child left behind that failed is removed by the next.
 */
#include "watchdog/release_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "userspace/release/bundle.h"
#include "watchdog/release_host.h"

/* ---- in the child ------------------------------------------------------------------------------- */

/* The real operations, and how many of the bundle's bytes were written. */
struct counting {
	struct hf_io io;
	struct hf_release_child *child;
	uint64_t done, total;
};

static int counting_write(const struct hf_io *io, int fd, const void *buf, size_t len, uint64_t at)
{
	struct counting *c = io->ctx;

	c->done += len;
	/* 100 when it is in its place. */
	hf_release_child_progress(c->child, c->total ? (unsigned)(c->done * 98 / c->total) : 0);
	return hf_io_real.write(&hf_io_real, fd, buf, len, at);
}

static void refuse(struct hf_release_outcome *o, enum hf_refusal refusal, int r,
		   const struct hf_err *err)
{
	o->refusal = refusal;
	o->r = r;
	(void)hf_strlcpy(o->text, err->msg[0] ? err->msg : strerror(-r), sizeof(o->text));
}

/* Whether the bundle may be installed here, by the policy of verify.h. */
static enum hf_refusal judge(struct hf_releases *all, const struct hf_release *r,
			     struct hf_bundle *b, struct hf_err *err)
{
	_cleanup_free_ struct hf_keylist *keys = NULL;
	const struct hf_release_record *record = hf_release_store_record(r->store);
	struct hf_release_host host;
	struct hf_release_state state = {
		.component = r->component,
		.version = record->active.version[0] ? record->active.version : NULL,
		.security_epoch = record->security_epoch,
		.bad = record->bad,
		.n_bad = HF_RELEASE_BAD_MAX,
	};
	struct hf_release_question q = {
		.host = &host,
		.state = &state,
		.origin = all->request.by_admin ? HF_RELEASE_BY_ADMIN : HF_RELEASE_OFFERED,
		.now_s = hf_now_realtime_ns() / HF_NS_PER_S,
	};
	enum hf_refusal refusal;

	refusal = hf_release_keys_load(all->dir, all->w->paths.release_keys, &keys, err);
	if (refusal != HF_RELEASE_OK)
		return refusal;
	err->msg[0] = 0;
	q.keys = keys;
	memcpy(state.manifest_hash, record->active.hash, sizeof(state.manifest_hash));
	hf_release_host(all->w->config.environment, &host);
	return hf_bundle_verify(b, &q, err);
}

static void stage_in_child(struct hf_release_child *child, void *arg, struct hf_release_outcome *o)
{
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_close_ int fd = -1;
	struct hf_releases *all = arg;
	struct counting counting = {.io = hf_io_real, .child = child};
	struct hf_err err = {};
	enum hf_refusal refusal;
	struct hf_release *r;
	int result;

	fd = open(all->request.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		result = hf_err_set(&err, -errno, "open: %s", strerror(errno));
		refuse(o, HF_RELEASE_OK, result, &err);
		return;
	}
	result = hf_bundle_open(fd, &b, &err);
	if (result < 0) {
		refuse(o, HF_RELEASE_OK, result, &err);
		return;
	}
	/* Not believed yet: it only says whose store is asked. */
	(void)hf_strlcpy(o->component, hf_bundle_manifest(b)->component, sizeof(o->component));
	(void)hf_strlcpy(o->slot.version, hf_bundle_manifest(b)->version, sizeof(o->slot.version));
	r = hf_releases_find(all, o->component);
	if (!r || !r->store) {
		(void)hf_err_set(&err, -ENODEV, "%s", r ? r->error : "there is no such component");
		refuse(o, r ? HF_RELEASE_OK : HF_RELEASE_COMPONENT, -ENODEV, &err);
		return;
	}
	refusal = judge(all, r, b, &err);
	if (refusal != HF_RELEASE_OK) {
		refuse(o, refusal, -EKEYREJECTED, &err);
		return;
	}
	counting.io.write = counting_write;
	counting.io.ctx = &counting;
	counting.total = hf_bundle_manifest(b)->payload_bytes;
	hf_release_store_use_io(r->store, &counting.io);
	/* What earlier ones left behind; then there is room for this one. */
	(void)hf_release_store_collect(r->store);
	result = hf_release_store_prepare(r->store, b, &o->slot, &err);
	if (result < 0) {
		refuse(o, HF_RELEASE_OK, result, &err);
		return;
	}
	o->staged = 1;
	hf_release_child_progress(child, 100);
}

static void collect_in_child(struct hf_release_child *child, void *arg,
			     struct hf_release_outcome *o)
{
	struct hf_releases *all = arg;

	(void)child;
	for (size_t i = 0; i < all->n; i++)
		if (all->item[i].store)
			o->r = hf_release_store_collect(all->item[i].store);
}

/* ---- on the loop -------------------------------------------------------------------------------- */

static void on_progress(unsigned percent, void *arg)
{
	struct hf_releases *all = HF_CAST(arg, struct hf_releases, RELEASES_MAGIC);
	struct hf_release *r = hf_releases_find(all, all->request.component);

	all->request.percent = percent;
	if (r)
		hf_release_tell_all(r);
}

static void end_request(struct hf_releases *all, const char *reason, const char *text)
{
	struct hf_release *r = hf_releases_find(all, all->request.component);

	all->request.state = HF_RELEASE_JOB_REFUSED;
	(void)hf_strlcpy(all->request.reason, reason, sizeof(all->request.reason));
	(void)hf_strlcpy(all->request.text, text, sizeof(all->request.text));
	hf_warn("bundle '%s' is refused: %s: %s", all->request.path, reason, text);
	if (r)
		hf_release_tell_all(r);
}

/* One word for what no policy has a word for. */
static const char *reason_of(int r)
{
	switch (r) {
	case -EBADMSG:
	case -EFBIG:
	case -EISDIR:
		return "bundle";
	case -EPERM:
	case -EBUSY:
		return "busy";
	case -EEXIST:
		return hf_refusal_name(HF_RELEASE_SAME);
	case -ENOSPC:
	case -EDQUOT:
		return "disk_full";
	case -EROFS:
		return "read_only";
	case -ENODEV:
		return "no_store";
	case -ENOENT:
	case -EACCES:
		return "file";
	case -ETIMEDOUT:
		return "timeout";
	default:
		return "store";
	}
}

static void on_staged(const struct hf_release_outcome *o, void *arg)
{
	struct hf_releases *all = HF_CAST(arg, struct hf_releases, RELEASES_MAGIC);
	struct hf_release_input in = {.event = HF_RELEASE_EV_STAGE, .slot = &o->slot};
	struct hf_release *r = hf_releases_find(all, o->component);
	int result;

	all->job = NULL;
	(void)hf_strlcpy(all->request.component, o->component, sizeof(all->request.component));
	(void)hf_strlcpy(all->request.version, o->slot.version, sizeof(all->request.version));
	if (!o->staged || !r || !r->store) {
		end_request(all,
			    o->refusal != HF_RELEASE_OK ? hf_refusal_name(o->refusal)
							: reason_of(o->r),
			    o->text);
		hf_releases_next(all);
		return;
	}
	result = hf_release_store_event(r->store, &in);
	if (result < 0) {
		end_request(all, reason_of(result),
			    result == -EPERM ? "another update is under way" : strerror(-result));
		return;
	}
	all->request.percent = 100;
	all->request.state = HF_RELEASE_JOB_STAGED;
	hf_notice("release %s of '%s' is staged", o->slot.version, o->component);
	hf_release_tell_all(r);
	hf_releases_next(all);
}

static void on_collected(const struct hf_release_outcome *o, void *arg)
{
	struct hf_releases *all = HF_CAST(arg, struct hf_releases, RELEASES_MAGIC);

	all->job = NULL;
	all->collecting = false;
	if (o->r < 0)
		hf_warn_r(o->r, "remove old releases, ignoring");
}

static void keep_stores(const struct hf_releases *all, struct hf_release_work *w)
{
	w->keep[w->n_keep++] = all->dir;
	for (size_t i = 0; i < all->n && w->n_keep < HF_ARRAY_SIZE(w->keep); i++)
		if (all->item[i].store)
			w->keep[w->n_keep++] = hf_release_store_dir(all->item[i].store);
}

void hf_releases_collect(struct hf_releases *all)
{
	struct hf_release_work work = {
		.run = collect_in_child, .progress = on_progress, .done = on_collected, .arg = all};
	int r;

	if (all->job || all->dir < 0)
		return; /* the next one does it */
	keep_stores(all, &work);
	r = hf_release_job_start(all->w->event, &work, &all->job);
	all->collecting = r == 0;
	if (r < 0)
		hf_warn_r(r, "remove old releases, ignoring");
}

int hf_releases_stage(struct hf_releases *all, const char *path, bool by_admin, struct hf_err *err)
{
	struct hf_release_work work = {
		.run = stage_in_child, .progress = on_progress, .done = on_staged, .arg = all};
	int r;

	if (all->w->stopping)
		return hf_err_set(err, -ESHUTDOWN, "the watchdog is stopping");
	if (all->dir < 0)
		return hf_err_set(err, -ENODEV, "there is no release store: %s",
				  all->item[0].error);
	if (all->collecting) {
		all->job = hf_release_job_free(all->job);
		all->collecting = false;
	}
	if (all->job)
		return hf_err_set(err, -EBUSY, "'%s' is being staged", all->request.path);
	if (path[0] != '/' || !hf_strlcpy(all->request.path, path, sizeof(all->request.path)))
		return hf_err_set(err, -EINVAL, "'%.100s' is not an absolute path", path);
	keep_stores(all, &work);
	all->request.id++;
	all->request.by_admin = by_admin;
	all->request.percent = 0;
	all->request.component[0] = all->request.version[0] = 0;
	all->request.reason[0] = all->request.text[0] = 0;
	r = hf_release_job_start(all->w->event, &work, &all->job);
	all->request.state = r < 0 ? HF_RELEASE_JOB_REFUSED : HF_RELEASE_JOB_VERIFYING;
	if (r < 0) {
		(void)hf_strlcpy(all->request.reason, "store", sizeof(all->request.reason));
		return hf_err_set(err, r, "start a process: %s", strerror(-r));
	}
	hf_info("bundle '%s' is being verified", path);
	return 0;
}

int hf_releases_take_keys(struct hf_releases *all, const char *path, struct hf_err *err)
{
	_cleanup_free_ char *text = NULL;
	enum hf_refusal refusal;
	size_t len;
	int r;

	if (all->dir < 0)
		return hf_err_set(err, -ENODEV, "there is no release store: %s",
				  all->item[0].error);
	r = hf_read_file(AT_FDCWD, path, HF_KEYLIST_SIZE_MAX, &text, &len);
	if (r < 0)
		return hf_err_set(err, r, "'%s': %s", path, strerror(-r));
	refusal = hf_release_keys_take(all->dir, all->w->paths.release_keys, text, len, err);
	if (refusal == HF_RELEASE_OK) {
		hf_notice("the list of release keys '%s' is trusted now", path);
		return 0;
	}
	hf_warn("the list of release keys '%s' is refused: %s", path, err->msg);
	return hf_err_wrap(err, "%s", hf_refusal_name(refusal)) < 0 ? err->code : -EKEYREJECTED;
}

/* ---- what the package brought ------------------------------------------------------------------- */

/* The package's program as a bundle in memory; who may write it is root, so it needs no signature. */
static int build_packaged(const struct hf_release *r, int fd, struct hf_bundle **ret,
			  struct hf_err *err)
{
	/* Nothing of the day: the same program is the same release. */
	struct hf_manifest m = {.product = "holdfast",
				.os = "linux",
				.distro = HF_MANIFEST_ANY,
				.libc = HF_MANIFEST_ANY,
				.environment = HF_MANIFEST_ANY,
				.min_from_version = "0.0.0",
				.created_s = 1,
				.expires_s = UINT64_C(4102444800)};
	char path[HF_RELEASE_PROGRAM_MAX];
	struct hf_release_host host;
	int result;

	hf_release_host("", &host);
	(void)hf_strlcpy(m.arch, host.arch, sizeof(m.arch));
	(void)hf_strlcpy(m.component, r->component, sizeof(m.component));
	(void)hf_strlcpy(m.version, r->all->packaged_version, sizeof(m.version));
	hf_release_program_path(r, path);
	result = hf_bundle_build_one(&m, r->all->w->bin_dir, r->program, path, fd, err);
	free(m.files);
	if (result < 0)
		return result;
	result = hf_bundle_open(fd, ret, err);
	if (result == 0)
		hf_bundle_trust_own(*ret);
	return result;
}

/*
 * Nothing runs yet: the first start of an upgraded package is its trial. That its programs can be
 * loaded here is the package manager's business, so there is no preflight.
 */
static int begin_trial(struct hf_release *r, struct hf_err *err)
{
	int result = hf_release_event(r, HF_RELEASE_EV_PREFLIGHT, HF_RELEASE_WHY_NONE);

	if (result >= 0)
		result = hf_release_event(r, HF_RELEASE_EV_PREFLIGHT_OK, HF_RELEASE_WHY_NONE);
	return result < 0 ? hf_err_set(err, result, "write the record: %s", strerror(-result)) : 0;
}

/* Installing a package is the administrator's word: it ends what was under way, and may go back. */
static int stage_packaged(struct hf_release *r, const struct hf_bundle *b, struct hf_err *err)
{
	const struct hf_release_record *record = hf_release_store_record(r->store);
	bool first = !record->active.version[0];
	struct hf_release_slot slot;
	struct hf_release_input in = {.event = first ? HF_RELEASE_EV_ADOPT : HF_RELEASE_EV_STAGE,
				      .slot = &slot};
	int result;

	if (record->candidate.version[0]) {
		if (memcmp(record->candidate.hash, hf_bundle_hash(b), HF_SHA256_SIZE) == 0)
			return 0; /* it was staged, and the power went */
		hf_notice("release %s of '%s' gives way to the package's",
			  record->candidate.version, r->component);
		result = hf_release_event(r, HF_RELEASE_EV_CANCEL, HF_RELEASE_WHY_NONE);
		if (result < 0)
			return hf_err_set(err, result, "%s", strerror(-result));
	}
	result = hf_release_store_prepare(r->store, b, &slot, err);
	if (result < 0)
		return result;
	/* It is no release that could be below the floor. */
	slot.security_epoch = record->security_epoch;
	result = hf_release_store_event(r->store, &in);
	if (result < 0)
		return hf_err_set(err, result, "write the record: %s", strerror(-result));
	hf_notice("the package's %s of '%s' is %s", slot.version, r->component,
		  first ? "the first release here" : "staged");
	return first ? 0 : begin_trial(r, err);
}

void hf_release_take_packaged(struct hf_release *r)
{
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_close_ int fd = memfd_create("packaged", MFD_CLOEXEC);
	const struct hf_release_record *record = hf_release_store_record(r->store);
	struct hf_err err = {};
	int result;

	result = fd < 0 ? -errno : build_packaged(r, fd, &b, &err);
	if (result < 0) {
		hf_notice("the package has no '%s' that could be staged: %s", r->program,
			  err.msg[0] ? err.msg : strerror(-result));
		return;
	}
	if (hf_release_store_is_packaged(r->store, hf_bundle_hash(b)) && record->active.version[0])
		return;
	result = memcmp(record->active.hash, hf_bundle_hash(b), HF_SHA256_SIZE) == 0
			 ? 0
			 : stage_packaged(r, b, &err);
	if (result == 0) {
		result = hf_release_store_set_packaged(r->store, hf_bundle_hash(b));
		if (result < 0)
			(void)hf_err_set(&err, result, "%s", strerror(-result));
	}
	if (result < 0)
		hf_error("stage the package's %s of '%s': %s", r->all->packaged_version,
			 r->component, err.msg);
}
