/* SPDX-License-Identifier: Apache-2.0 */
/* The store of outage records. */
#include "userspace/agent/outage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/str.h"
#include "userspace/proto/frame.h"

#define DIR_NAME   "outages"
#define FILE_MAGIC 0x314f4648u /* "HFO1" */

struct file_head {
	uint32_t magic;
	uint32_t crc; /* of everything behind it */
	uint32_t acked;
	uint32_t len; /* of the packed record */
};

struct entry {
	Bus__Outage *rec;
	bool acked;
};

struct hf_outages {
	int dirfd;
	struct hf_disk *disk;
	struct entry items[HF_OUTAGES_MAX]; /* oldest first */
	size_t n;
	uint64_t dropped, damaged;
};

static void path_of(const Bus__Outage *rec, char *dst, size_t size)
{
	hf_strf(dst, size, DIR_NAME "/%s", rec->id);
}

static void forget(struct hf_outages *o, size_t i)
{
	bus__outage__free_unpacked(o->items[i].rec, NULL);
	memmove(&o->items[i], &o->items[i + 1], (o->n - i - 1) * sizeof(o->items[0]));
	o->n--;
}

static void make_room(struct hf_outages *o)
{
	char path[HF_DISK_PATH_MAX];
	size_t victim = 0;

	if (o->n < HF_OUTAGES_MAX)
		return;
	for (size_t i = 0; i < o->n; i++) {
		if (o->items[i].acked) {
			victim = i;
			break;
		}
	}
	if (!o->items[victim].acked)
		o->dropped++;
	path_of(o->items[victim].rec, path, sizeof(path));
	(void)hf_disk_unlink(o->disk, path, NULL,
			     NULL); /* left over, it is dropped at next start */
	forget(o, victim);
}

int hf_outage_parse(const char *name, const void *data, size_t len, Bus__Outage **ret,
		    bool *ret_acked)
{
	struct file_head head;
	Bus__Outage *rec;
	int r;

	if (len < sizeof(head))
		return -EBADMSG;
	memcpy(&head, data, sizeof(head));
	if (head.magic != FILE_MAGIC || head.len != len - sizeof(head) ||
	    head.crc != hf_crc32c(0, (const uint8_t *)data + 8, len - 8))
		return -EBADMSG;
	r = hf_pb_unpack(&bus__outage__descriptor, (const uint8_t *)data + sizeof(head), head.len,
			 &rec);
	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	if (!hf_streq(rec->id, name)) {
		bus__outage__free_unpacked(rec, NULL);
		return -EBADMSG;
	}
	*ret = rec;
	*ret_acked = head.acked == 1;
	return 0;
}

static int by_detection(const void *a, const void *b)
{
	const Bus__Outage *x = ((const struct entry *)a)->rec, *y = ((const struct entry *)b)->rec;

	if (x->detected_unix_ns != y->detected_unix_ns)
		return x->detected_unix_ns < y->detected_unix_ns ? -1 : 1;
	return strcmp(x->id, y->id);
}

static int load(struct hf_outages *o)
{
	int fd = openat(o->dirfd, DIR_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
	while ((e = readdir(dir))) {
		_cleanup_free_ char *data = NULL;
		char path[300];
		size_t len;
		int r;

		if (e->d_name[0] == '.')
			continue;
		hf_strf(path, sizeof(path), DIR_NAME "/%s", e->d_name);
		if (hf_uuid_parse(e->d_name, uuid) < 0 || o->n >= HF_OUTAGES_MAX) {
			(void)unlinkat(o->dirfd, path, 0); /* a torn temporary file, or too many */
			continue;
		}
		r = hf_read_file(o->dirfd, path, HF_OUTAGE_FILE_MAX, &data, &len);
		if (r >= 0)
			r = hf_outage_parse(e->d_name, data, len, &o->items[o->n].rec,
					    &o->items[o->n].acked);
		if (r < 0) {
			o->damaged++;
			(void)unlinkat(o->dirfd, path, 0); /* counted; nothing else to do with it */
			continue;
		}
		o->n++;
	}
	(void)closedir(dir);
	if (o->n > 1)
		qsort(o->items, o->n, sizeof(o->items[0]), by_detection);
	return 0;
}

int hf_outages_open(int dirfd, struct hf_disk *disk, struct hf_outages **ret)
{
	_cleanup_(hf_outages_freep) struct hf_outages *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	o->dirfd = dirfd;
	o->disk = disk;
	r = hf_mkdir_p(dirfd, DIR_NAME, 0700);
	if (r >= 0)
		r = load(o);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(o);
	return 0;
}

struct hf_outages *hf_outages_free(struct hf_outages *o)
{
	if (!o)
		return NULL;
	while (o->n > 0)
		forget(o, o->n - 1);
	free(o);
	return NULL;
}

void hf_outage_set(char **field, const char *text)
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

Bus__Outage *hf_outages_new_record(struct hf_outages *o)
{
	Bus__Outage *rec = calloc(1, sizeof(*rec));
	Bus__Evidence *ev = calloc(1, sizeof(*ev));
	char text[HF_UUID_TEXT_SIZE];
	uint8_t uuid[16];

	if (!rec || !ev)
		goto fail;
	bus__outage__init(rec);
	bus__evidence__init(ev);
	hf_uuid_v7(uuid);
	hf_uuid_format(uuid, text);
	rec->id = strdup(text);
	if (!rec->id)
		goto fail;
	rec->evidence = ev;
	make_room(o);
	o->items[o->n++] = (struct entry){.rec = rec};
	return rec;

fail:
	free(rec);
	free(ev);
	return NULL;
}

static struct entry *entry_of(struct hf_outages *o, const Bus__Outage *rec)
{
	for (size_t i = 0; i < o->n; i++) {
		if (o->items[i].rec == rec)
			return &o->items[i];
	}
	return NULL;
}

static void store(struct hf_outages *o, const struct entry *e)
{
	struct file_head head = {.magic = FILE_MAGIC, .acked = e->acked};
	struct hf_buf buf = {};
	char path[HF_DISK_PATH_MAX];
	int r;

	r = hf_buf_append(&buf, &head, sizeof(head));
	if (r >= 0)
		r = hf_pb_pack(&e->rec->base, &buf);
	if (r >= 0 && buf.len <= HF_OUTAGE_FILE_MAX) {
		head.len = (uint32_t)(buf.len - sizeof(head));
		memcpy(buf.data, &head, sizeof(head));
		head.crc = hf_crc32c(0, buf.data + 8, buf.len - 8);
		memcpy(buf.data, &head, sizeof(head));
		path_of(e->rec, path, sizeof(path));
		/* Refused, it is still in memory, and the portal gets it from there. */
		(void)hf_disk_write_later(o->disk, path, buf.data, buf.len, 0600);
	}
	hf_buf_done(&buf);
}

void hf_outages_changed(struct hf_outages *o, const Bus__Outage *rec)
{
	const struct entry *e = entry_of(o, rec);

	hf_assert(e);
	store(o, e);
}

void hf_outage_add_attempt(Bus__Outage *rec, const Bus__Attempt *a)
{
	const size_t half = HF_OUTAGE_ATTEMPTS_MAX / 2;
	/* Only the base is const-cast away: packing does not change it. */
	Bus__Attempt *copy = hf_pb_dup((ProtobufCMessage *)&a->base);
	Bus__Attempt **more;

	rec->attempts_total++;
	if (!copy)
		return;
	if (rec->n_attempts >= HF_OUTAGE_ATTEMPTS_MAX) {
		bus__attempt__free_unpacked(rec->attempts[half], NULL);
		memmove(&rec->attempts[half], &rec->attempts[half + 1],
			(rec->n_attempts - half - 1) * sizeof(rec->attempts[0]));
		rec->attempts[rec->n_attempts - 1] = copy;
		return;
	}
	more = realloc(rec->attempts, (rec->n_attempts + 1) * sizeof(rec->attempts[0]));
	if (!more) {
		bus__attempt__free_unpacked(copy, NULL);
		return;
	}
	rec->attempts = more;
	rec->attempts[rec->n_attempts++] = copy;
}

Bus__Outage *hf_outages_find(struct hf_outages *o, const char *id)
{
	for (size_t i = 0; i < o->n; i++) {
		if (hf_streq(o->items[i].rec->id, id))
			return o->items[i].rec;
	}
	return NULL;
}

Bus__Outage *hf_outages_at(struct hf_outages *o, size_t i)
{
	return i < o->n ? o->items[i].rec : NULL;
}

size_t hf_outages_count(const struct hf_outages *o)
{
	return o->n;
}

Bus__Outage *hf_outages_next_unacked(struct hf_outages *o, const Bus__Outage *after)
{
	size_t i = 0;

	if (after) {
		while (i < o->n && o->items[i].rec != after)
			i++;
		i++;
	}
	for (; i < o->n; i++) {
		if (!o->items[i].acked && o->items[i].rec->restored_unix_ns)
			return o->items[i].rec;
	}
	return NULL;
}

bool hf_outages_ack(struct hf_outages *o, const char *id)
{
	Bus__Outage *rec = hf_outages_find(o, id);
	struct entry *e = rec ? entry_of(o, rec) : NULL;

	if (!e)
		return false;
	if (!e->acked) {
		e->acked = true;
		store(o, e);
	}
	return true;
}

uint64_t hf_outages_dropped(const struct hf_outages *o)
{
	return o->dropped;
}

uint64_t hf_outages_damaged(const struct hf_outages *o)
{
	return o->damaged;
}
