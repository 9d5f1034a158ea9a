/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The twin-slot file of component records.
 *
 * I1. A write goes to the slot that does not hold the newest valid generation.
 * I2. Nothing read is trusted before checksum, format and every text's terminator are checked.
 */
#include "watchdog/records.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/fd.h"
#include "base/str.h"

#define RECORDS_MAGIC UINT64_C(0x31636572646c6668) /* "hfldrec1" */
/* Slots begin on pages, so that one torn page cannot hurt both. */
#define SLOT_BYTES 16384

struct slot {
	uint64_t magic;
	uint32_t size; /* sizeof(struct slot): another build's layout is another format */
	uint32_t crc;  /* over the whole slot with crc = 0 */
	uint64_t generation;
	uint8_t boot_id[16];
	uint32_t n;
	uint32_t reserved;
	struct hf_record record[HF_RECORDS_MAX];
};
_Static_assert(sizeof(struct slot) <= SLOT_BYTES, "a slot fits");

struct hf_records {
	int fd;
	struct slot current;
};

static uint32_t checksum(const struct slot *s)
{
	struct slot copy;

	memcpy(&copy, s, sizeof(copy)); /* with its padding */
	copy.crc = 0;
	return hf_crc32c(0, &copy, sizeof(copy));
}

static bool terminated(const char *text, size_t size)
{
	return strnlen(text, size) < size;
}

static bool valid(const struct slot *s)
{
	if (s->magic != RECORDS_MAGIC || s->size != sizeof(*s) || s->n > HF_RECORDS_MAX ||
	    s->crc != checksum(s))
		return false;
	for (uint32_t i = 0; i < s->n; i++) {
		const struct hf_record *r = &s->record[i];

		if (!terminated(r->name, sizeof(r->name)) ||
		    !terminated(r->version, sizeof(r->version)) ||
		    !terminated(r->last_exit.by_comm, sizeof(r->last_exit.by_comm)) ||
		    !terminated(r->last_exit.text, sizeof(r->last_exit.text)) ||
		    r->last_exit.cause >= _HF_EXIT_MAX)
			return false;
	}
	return true;
}

static void load(struct hf_records *r, const uint8_t boot_id[static 16])
{
	struct slot s;

	for (int i = 0; i < 2; i++)
		if (pread(r->fd, &s, sizeof(s), (off_t)i * SLOT_BYTES) == (ssize_t)sizeof(s) &&
		    valid(&s) && s.generation > r->current.generation)
			r->current = s;
	if (memcmp(r->current.boot_id, boot_id, 16) != 0)
		for (uint32_t i = 0; i < r->current.n; i++) {
			r->current.record[i].pid = 0;
			r->current.record[i].want_up = 1; /* a boot starts everything */
		}
	memcpy(r->current.boot_id, boot_id, 16);
	r->current.magic = RECORDS_MAGIC;
	r->current.size = sizeof(r->current);
}

int hf_records_open(int dirfd, const char *path, struct hf_records **ret)
{
	_cleanup_(hf_records_freep) struct hf_records *r = NULL;
	uint8_t boot_id[16];
	int e;

	e = hf_boot_id(boot_id);
	if (e < 0)
		return e;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->fd = openat(dirfd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->fd < 0)
		return -errno;
	load(r, boot_id);
	*ret = TAKE_PTR(r);
	return 0;
}

struct hf_records *hf_records_free(struct hf_records *r)
{
	if (!r)
		return NULL;
	(void)hf_close(r->fd);
	free(r);
	return NULL;
}

const struct hf_record *hf_records_find(const struct hf_records *r, const char *name)
{
	for (uint32_t i = 0; i < r->current.n; i++)
		if (hf_streq(r->current.record[i].name, name))
			return &r->current.record[i];
	return NULL;
}

int hf_records_save(struct hf_records *r, const struct hf_record *record)
{
	struct hf_record *dst = (struct hf_record *)hf_records_find(r, record->name);

	if (!dst) {
		if (r->current.n == HF_RECORDS_MAX)
			return -ENOSPC;
		dst = &r->current.record[r->current.n++];
	}
	/* Padding is part of the checksum: copy the caller's bytes as they are. */
	memcpy(dst, record, sizeof(*dst));
	r->current.generation++;
	r->current.crc = checksum(&r->current);
	return hf_pwrite_full(r->fd, &r->current, sizeof(r->current),
			      (off_t)(r->current.generation % 2) * SLOT_BYTES);
}
