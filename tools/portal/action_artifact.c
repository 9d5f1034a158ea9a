/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives that endpoints upload: artifacts/<action>.part grows chunk by chunk, its length is where
 * to go on; whole and with the right digest it becomes artifacts/<action>.
 *
 * I1. `done` is said only when the file is durable under its own name.
 * I2. A chunk is taken at the end of the file and nowhere else; the digest judges the whole.
 * I3. At most ARCHIVES_MAX files; the oldest goes first.
 */
#include "tools/portal/action.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "action.pb-c.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "holdfast/session.h"
#include "tools/portal/link.h"
#include "tools/portal/portal.h"
#include "tools/portal/writer.h"
#include "userspace/release/keys.h"

#define ARCHIVES_MAX 256u /* of 32 MiB at the most: 8 GiB */
#define PATH_SIZE    80

static void path_of(const uint8_t id[static HF_ID_SIZE], const char *suffix,
		    char path[static PATH_SIZE])
{
	char text[HF_UUID_TEXT_SIZE];

	hf_uuid_format(id, text);
	(void)hf_strf(path, PATH_SIZE, HF_ARTIFACTS_DIR "/%s%s", text, suffix);
}

int hf_artifacts_open(struct hf_portal *p, struct hf_err *err)
{
	int r = hf_mkdir_p(p->state_fd, HF_ARTIFACTS_DIR, 0700);

	return r < 0 ? hf_err_set(err, r, "make '" HF_ARTIFACTS_DIR "': %s", strerror(-r)) : 0;
}

int hf_artifact_read(struct hf_portal *p, const uint8_t id[static HF_ID_SIZE])
{
	char path[PATH_SIZE];
	int fd;

	path_of(id, "", path);
	fd = openat(p->state_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void answer(struct hf_link *l, const uint8_t id[static HF_ID_SIZE], uint64_t offset,
		   bool done, const char *refused)
{
	Action__ArtifactAck m = ACTION__ARTIFACT_ACK__INIT;
	char text[HF_UUID_TEXT_SIZE];

	hf_uuid_format(id, text);
	m.action_id = text;
	m.offset = offset;
	m.done = done;
	m.refused = (char *)refused;
	hf_link_send_custom(l, HF_CAP_ACTION, HF_MSG_ARTIFACT_ACK, &m.base);
}

/* ---- the end of one: in the writer's thread, because it reads 32 MiB and waits for the disk ---- */

struct check {
	struct hf_portal *portal;
	struct hf_link *link; /* its job is counted */
	uint8_t id[HF_ID_SIZE];
	uint8_t sha256[HF_HASH_SIZE];
	uint64_t total;
	int dirfd;
};

static int digest_of(int fd, uint8_t sha256[static HF_SHA256_SIZE])
{
	_cleanup_(hf_digest_freep) struct hf_digest *d = NULL;
	_cleanup_free_ uint8_t *buf = malloc(1u << 16);
	off_t off = 0;
	int r;

	if (!buf)
		return -ENOMEM;
	r = hf_digest_new(HF_DIGEST_SHA256, &d);
	while (r == 0) {
		ssize_t n = pread(fd, buf, 1u << 16, off);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		off += n;
		r = hf_digest_add(d, buf, (size_t)n);
	}
	return r < 0 ? r : hf_digest_end(d, sha256);
}

static void remove_oldest(int dirfd)
{
	_cleanup_free_ char *oldest = NULL;
	int fd = openat(dirfd, HF_ARTIFACTS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	size_t n = 0;

	if (!dir) {
		(void)hf_close(fd);
		return;
	}
	/* A name begins with its time. */
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		if (!oldest || strcmp(e->d_name, oldest) < 0) {
			free(oldest);
			oldest = strdup(e->d_name);
		}
	}
	if (n >= ARCHIVES_MAX && oldest)
		(void)unlinkat(fd, oldest, 0); /* gone already: as good */
	(void)closedir(dir);
}

static int run_check(struct hf_store *s, void *arg)
{
	const struct check *c = arg;
	char part[PATH_SIZE], whole[PATH_SIZE];
	uint8_t sha256[HF_SHA256_SIZE];
	_cleanup_close_ int fd = -1;
	int r;

	(void)s;
	path_of(c->id, ".part", part);
	path_of(c->id, "", whole);
	fd = openat(c->dirfd, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = digest_of(fd, sha256);
	if (r == 0 && memcmp(sha256, c->sha256, sizeof(sha256)) != 0) {
		(void)unlinkat(c->dirfd, part, 0); /* it would be refused again */
		return -EBADMSG;
	}
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		remove_oldest(c->dirfd);
	if (r == 0 && renameat(c->dirfd, part, c->dirfd, whole) < 0)
		r = -errno;
	return r < 0 ? r : hf_sync_dir(c->dirfd, HF_ARTIFACTS_DIR);
}

static void done_check(int r, void *arg)
{
	struct check *c = arg;

	if (r < 0)
		hf_warn_r(r, "take an archive of an endpoint");
	answer(c->link, c->id, r < 0 ? 0 : c->total, r == 0,
	       r == -EBADMSG ? "its digest does not match"
	       : r < 0       ? "the portal cannot store it"
			     : "");
	hf_link_unref_job(c->link);
	free(c);
}

static void check(struct hf_link *l, const uint8_t id[static HF_ID_SIZE], const Action__Artifact *m)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c)
		return; /* asked again */
	c->portal = l->portal;
	c->link = l;
	c->total = m->total_bytes;
	c->dirfd = l->portal->state_fd;
	memcpy(c->id, id, HF_ID_SIZE);
	memcpy(c->sha256, m->sha256.data, HF_HASH_SIZE);
	hf_link_ref_job(l);
	if (hf_writer_submit(l->portal->writer, run_check, done_check, c, sizeof(*c)) < 0) {
		hf_link_unref_job(l);
		free(c);
	}
}

/* ---- chunks ----------------------------------------------------------------------------------- */

static bool is_whole(struct hf_portal *p, const uint8_t id[static HF_ID_SIZE], uint64_t total)
{
	_cleanup_close_ int fd = hf_artifact_read(p, id);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == total;
}

void hf_artifact_chunk(struct hf_link *l, const struct hf_action_row *row,
		       const Action__Artifact *m)
{
	_cleanup_close_ int fd = -1;
	char path[PATH_SIZE];
	struct stat st;
	uint64_t have = 0;
	int r = 0;

	if (m->total_bytes == 0 || m->total_bytes > HF_ACTION_ARTIFACT_MAX ||
	    m->sha256.len != HF_HASH_SIZE || m->data.len > HF_ACTION_CHUNK_MAX) {
		answer(l, row->id, 0, false, "it is larger than an archive may be");
		return;
	}
	if (is_whole(l->portal, row->id, m->total_bytes)) {
		answer(l, row->id, m->total_bytes, true, "");
		return;
	}
	if (hf_action_state_final(row->state)) {
		answer(l, row->id, 0, false, "the action is over");
		return;
	}
	path_of(row->id, ".part", path);
	fd = openat(l->portal->state_fd, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
	} else {
		have = (uint64_t)st.st_size;
		/* Of another archive, or of a power cut. */
		if (have > m->total_bytes) {
			r = ftruncate(fd, 0) < 0 ? -errno : 0;
			have = 0;
		}
		if (r == 0 && m->data.len && m->offset == have &&
		    m->data.len <= m->total_bytes - have) {
			r = hf_pwrite_full(fd, m->data.data, m->data.len, (off_t)have);
			if (r == 0)
				have += m->data.len;
			else
				(void)!ftruncate(fd, (off_t)have); /* the next chunk judges */
		}
	}
	if (r < 0) {
		hf_warn_r(r, "store an archive of an endpoint");
		answer(l, row->id, 0, false,
		       r == -ENOSPC ? "the portal's disk is full" : "the portal cannot store it");
		return;
	}
	if (have < m->total_bytes)
		answer(l, row->id, have, false, "");
	else
		check(l, row->id, m);
}
