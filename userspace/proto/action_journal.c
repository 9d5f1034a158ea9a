/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record's file: head (magic, crc32c, length), packed action.Record.
 *
 * I1. A record is in memory from the moment its id was heard until it may be forgotten: an id is
 *     never new twice. (Prevents a second execution by a duplicate.)
 * I2. A file that cannot be read is a record whose outcome is lost, never a record that is not
 *     there. (Prevents a torn file from making an old action new.)
 */
#include "userspace/proto/action_journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "userspace/proto/frame.h"

#define FILE_MAGIC 0x31414648u /* "HFA1" */

struct file_head {
	uint32_t magic;
	uint32_t crc; /* of everything behind it */
	uint32_t len; /* of the packed record */
	uint32_t reserved;
};

struct hf_action_journal {
	int dirfd;
	struct hf_disk *disk;
	char dir[32];
	Action__Record *items[HF_ACTION_JOURNAL_MAX]; /* by id */
	size_t n;
	uint64_t damaged;
};

static const char *const suffixes[] = {"result", "artifact"};

/* ---- pure ------------------------------------------------------------------------------------- */

int hf_action_record_parse(const char *name, const void *data, size_t len, Action__Record **ret)
{
	struct file_head head;
	Action__Record *rec = NULL;
	int r;

	if (len < sizeof(head) || len > HF_ACTION_RECORD_MAX)
		return -EBADMSG;
	memcpy(&head, data, sizeof(head));
	if (head.magic != FILE_MAGIC || head.len != len - sizeof(head) ||
	    head.crc != hf_crc32c(0, (const uint8_t *)data + 8, len - 8))
		return -EBADMSG;
	r = hf_pb_unpack(&action__record__descriptor, (const uint8_t *)data + sizeof(head),
			 head.len, &rec);
	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	if (!hf_streq(rec->action_id, name) || rec->state >= _HF_ACTION_STATE_MAX ||
	    rec->refusal >= _HF_ACTION_REFUSED_MAX) {
		action__record__free_unpacked(rec, NULL);
		return -EBADMSG;
	}
	*ret = rec;
	return 0;
}

int hf_action_record_build(const Action__Record *rec, struct hf_buf *ret)
{
	struct file_head head = {.magic = FILE_MAGIC};
	size_t start = ret->len;
	int r = hf_buf_append(ret, &head, sizeof(head));

	if (r == 0)
		r = hf_pb_pack((ProtobufCMessage *)&rec->base, ret);
	if (r < 0)
		return r;
	if (ret->len - start > HF_ACTION_RECORD_MAX)
		return -EMSGSIZE;
	head.len = (uint32_t)(ret->len - start - sizeof(head));
	memcpy(ret->data + start, &head, sizeof(head));
	head.crc = hf_crc32c(0, ret->data + start + 8, ret->len - start - 8);
	memcpy(ret->data + start, &head, sizeof(head));
	return 0;
}

/* The latest time at which it may still start: as signed, else by the time in its id. */
static uint64_t expiry_of(const Action__Record *r)
{
	uint8_t id[16];
	uint64_t ms = 0;

	if (r->expires_unix_ns)
		return r->expires_unix_ns;
	if (hf_uuid_parse(r->action_id, id) < 0)
		return UINT64_MAX - HF_ACTION_KEEP_S * HF_NS_PER_S;
	for (size_t i = 0; i < 6; i++)
		ms = ms << 8 | id[i];
	return (ms * HF_NS_PER_MS) + HF_ACTION_TTL_MAX_S * HF_NS_PER_S;
}

bool hf_action_record_old(const Action__Record *r, uint64_t server_unix_ns)
{
	return hf_action_state_final(r->state) && r->confirmed && server_unix_ns &&
	       server_unix_ns > expiry_of(r) + HF_ACTION_KEEP_S * HF_NS_PER_S;
}

void hf_action_record_text(char **field, const char *text)
{
	char *copy;

	if (hf_streq0(*field, text))
		return;
	copy = strdup(text);
	if (!copy)
		return;
	/* protobuf-c's shared empty string is not ours to free. */
	if (*field != (char *)protobuf_c_empty_string)
		free(*field);
	*field = copy;
}

void hf_action_record_bytes(ProtobufCBinaryData *field, const void *data, size_t len)
{
	uint8_t *copy = len ? malloc(len) : NULL;

	if (len && !copy)
		return;
	if (len)
		memcpy(copy, data, len);
	free(field->data);
	field->data = copy;
	field->len = len;
}

/* ---- memory ----------------------------------------------------------------------------------- */

/* Index of id, or of the first one behind it. */
static size_t position(const struct hf_action_journal *j, const char *id, bool *ret_found)
{
	size_t lo = 0, hi = j->n;

	*ret_found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(j->items[mid]->action_id, id);

		if (c == 0) {
			*ret_found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void insert(struct hf_action_journal *j, Action__Record *r)
{
	bool found;
	size_t i = position(j, r->action_id, &found);

	hf_assert(!found && j->n < HF_ACTION_JOURNAL_MAX);
	memmove(&j->items[i + 1], &j->items[i], (j->n - i) * sizeof(j->items[0]));
	j->items[i] = r;
	j->n++;
}

static Action__Record *new_record(const char *id)
{
	Action__Record *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	action__record__init(r);
	r->action_id = strdup(id);
	if (!r->action_id) {
		free(r);
		return NULL;
	}
	return r;
}

Action__Record *hf_action_journal_find(const struct hf_action_journal *j, const char *id)
{
	bool found;
	size_t i = position(j, id, &found);

	return found ? j->items[i] : NULL;
}

Action__Record *hf_action_journal_at(const struct hf_action_journal *j, size_t i)
{
	return i < j->n ? j->items[i] : NULL;
}

size_t hf_action_journal_count(const struct hf_action_journal *j)
{
	return j->n;
}

uint64_t hf_action_journal_damaged(const struct hf_action_journal *j)
{
	return j->damaged;
}

/* ---- disk ------------------------------------------------------------------------------------- */

static void path_of(const struct hf_action_journal *j, const char *id,
		    char path[static HF_DISK_PATH_MAX])
{
	hf_assert(hf_strf(path, HF_DISK_PATH_MAX, "%s/%s", j->dir, id));
}

void hf_action_attachment_path(const struct hf_action_journal *j, const char *id,
			       const char *suffix, char path[static HF_DISK_PATH_MAX])
{
	hf_assert(hf_strf(path, HF_DISK_PATH_MAX, "%s/%s.%s", j->dir, id, suffix));
}

int hf_action_attachment_open(const struct hf_action_journal *j, const char *id, const char *suffix)
{
	char path[HF_DISK_PATH_MAX];
	int fd;

	hf_action_attachment_path(j, id, suffix, path);
	fd = openat(j->dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void hf_action_attachments_drop(struct hf_action_journal *j, const Action__Record *r)
{
	const uint64_t bytes[] = {r->result_bytes, r->artifact_bytes};
	char path[HF_DISK_PATH_MAX];

	for (size_t i = 0; i < HF_ARRAY_SIZE(suffixes); i++) {
		if (!bytes[i])
			continue;
		hf_action_attachment_path(j, r->action_id, suffixes[i], path);
		(void)hf_disk_unlink(j->disk, path, NULL,
				     NULL); /* left over: swept at next start */
	}
}

/* An attachment of a record that is there and says that it has one. */
static bool is_attachment(const struct hf_action_journal *j, const char *name)
{
	char id[HF_ACTION_ID_SIZE];
	const Action__Record *r;

	if (strlen(name) < sizeof(id) || name[sizeof(id) - 1] != '.')
		return false;
	memcpy(id, name, sizeof(id) - 1);
	id[sizeof(id) - 1] = 0;
	r = hf_action_journal_find(j, id);
	name += sizeof(id);
	return r && ((hf_streq(name, suffixes[0]) && r->result_bytes) ||
		     (hf_streq(name, suffixes[1]) && r->artifact_bytes));
}

static int load_one(struct hf_action_journal *j, const char *name)
{
	_cleanup_free_ char *data = NULL;
	Action__Record *rec = NULL;
	char path[300];
	size_t len;
	int r;

	hf_strf(path, sizeof(path), "%s/%s", j->dir, name);
	r = hf_read_file(j->dirfd, path, HF_ACTION_RECORD_MAX, &data, &len);
	if (r == 0)
		r = hf_action_record_parse(name, data, len, &rec);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		rec = new_record(name);
		if (!rec)
			return -ENOMEM;
		rec->state = HF_ACTION_INDETERMINATE;
		rec->refusal = HF_ACTION_REFUSED_LOST;
		hf_action_record_text(&rec->text, "its record was damaged on disk");
		j->damaged++;
	}
	hf_assert(rec);
	insert(j, rec);
	return 0;
}

/* One pass over the directory: records, then everything else, which is not ours any more. */
static int scan(struct hf_action_journal *j, bool records)
{
	int fd = openat(j->dirfd, j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	uint8_t uuid[16];
	struct dirent *e;
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		(void)hf_close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (e = readdir(dir))) {
		bool is_record = hf_uuid_parse(e->d_name, uuid) == 0;

		if (hf_streq(e->d_name, ".") || hf_streq(e->d_name, ".."))
			continue;
		if (records && is_record && j->n < HF_ACTION_JOURNAL_MAX)
			r = load_one(j, e->d_name);
		else if (!records && !is_record && !is_attachment(j, e->d_name))
			(void)unlinkat(dirfd(dir), e->d_name, 0); /* a torn temporary file */
	}
	(void)closedir(dir);
	return r;
}

int hf_action_journal_open(int dirfd, const char *dir, struct hf_disk *disk,
			   struct hf_action_journal **ret)
{
	_cleanup_(hf_action_journal_freep) struct hf_action_journal *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	j->dirfd = dirfd;
	j->disk = disk;
	hf_assert(hf_strlcpy(j->dir, dir, sizeof(j->dir)));
	r = hf_mkdir_p(dirfd, dir, 0700);
	if (r == 0)
		r = scan(j, true);
	if (r == 0)
		r = scan(j, false);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(j);
	return 0;
}

struct hf_action_journal *hf_action_journal_free(struct hf_action_journal *j)
{
	if (!j)
		return NULL;
	for (size_t i = 0; i < j->n; i++)
		action__record__free_unpacked(j->items[i], NULL);
	free(j);
	return NULL;
}

void hf_action_journal_remove(struct hf_action_journal *j, Action__Record *r)
{
	char path[HF_DISK_PATH_MAX];
	bool found;
	size_t i = position(j, r->action_id, &found);

	hf_assert(found && j->items[i] == r);
	hf_action_attachments_drop(j, r);
	path_of(j, r->action_id, path);
	(void)hf_disk_unlink(j->disk, path, NULL, NULL); /* left over: read again at next start */
	memmove(&j->items[i], &j->items[i + 1], (j->n - i - 1) * sizeof(j->items[0]));
	j->n--;
	action__record__free_unpacked(r, NULL);
}

static void make_room(struct hf_action_journal *j, uint64_t server_unix_ns)
{
	for (size_t i = 0; i < j->n;) {
		if (hf_action_record_old(j->items[i], server_unix_ns))
			hf_action_journal_remove(j, j->items[i]);
		else
			i++;
	}
}

int hf_action_journal_add(struct hf_action_journal *j, const char *id, uint64_t server_unix_ns,
			  Action__Record **ret)
{
	uint8_t uuid[16];
	char canonical[HF_UUID_TEXT_SIZE];
	Action__Record *r;

	/* Its text is a file's name: one spelling. */
	if (hf_uuid_parse(id, uuid) < 0)
		return -EINVAL;
	hf_uuid_format(uuid, canonical);
	if (!hf_streq(canonical, id))
		return -EINVAL;
	if (hf_action_journal_find(j, id))
		return -EEXIST;
	if (j->n >= HF_ACTION_JOURNAL_MAX / 2)
		make_room(j, server_unix_ns);
	if (j->n >= HF_ACTION_JOURNAL_MAX)
		return -ENOSPC;
	r = new_record(id);
	if (!r)
		return -ENOMEM;
	insert(j, r);
	*ret = r;
	return 0;
}

int hf_action_journal_save(struct hf_action_journal *j, const Action__Record *r,
			   hf_disk_done_fn done, void *userdata)
{
	_cleanup_(hf_buf_done) struct hf_buf buf = {};
	char path[HF_DISK_PATH_MAX];
	int e = hf_action_record_build(r, &buf);

	if (e < 0)
		return e;
	path_of(j, r->action_id, path);
	return hf_disk_write(j->disk, path, buf.data, buf.len, 0600, done, userdata);
}
