/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page holds two slots written in turn, so that a kill in the middle of a write leaves the other
 * one whole; the newer valid one counts.
 */
#include "userspace/agent/blackbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/fd.h"

#define BLACKBOX_MAGIC 0x4248464fu /* object */
#define FILE_MAGIC     0x31424248u /* "HBB1" */
#define FILE_BYTES     4096u

struct slot {
	uint32_t magic;
	uint32_t crc; /* of what follows */
	uint64_t generation;
	struct hf_blackbox_record record;
};
_Static_assert(2 * sizeof(struct slot) <= FILE_BYTES, "two slots fit the page");

struct hf_blackbox {
	unsigned magic;
	struct slot *slots;
	uint64_t generation;
	bool had_previous;
	struct hf_blackbox_record previous;
};

static uint32_t slot_crc(const struct slot *s)
{
	return hf_crc32c(0, (const uint8_t *)s + offsetof(struct slot, generation),
			 sizeof(*s) - offsetof(struct slot, generation));
}

static bool slot_valid(const struct slot *s)
{
	return s->magic == FILE_MAGIC && s->crc == slot_crc(s);
}

int hf_blackbox_open(int dirfd, const char *name, struct hf_blackbox **ret)
{
	_cleanup_(hf_blackbox_freep) struct hf_blackbox *b = calloc(1, sizeof(*b));
	_cleanup_close_ int fd = -1;
	void *map;
	int r;

	if (!b)
		return -ENOMEM;
	b->magic = BLACKBOX_MAGIC;
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* Reserved now: a full disk must not become a SIGBUS later. */
	r = posix_fallocate(fd, 0, FILE_BYTES);
	if (r != 0)
		return -r;
	map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	b->slots = map;
	for (unsigned i = 0; i < 2; i++) {
		const struct slot *s = &b->slots[i];

		if (slot_valid(s) && s->generation >= b->generation) {
			b->generation = s->generation;
			b->previous = s->record;
			b->had_previous = true;
		}
	}
	/* Texts of a file are still texts of a stranger's making until terminated. */
	b->previous.reason[sizeof(b->previous.reason) - 1] = 0;
	b->previous.outage_id[sizeof(b->previous.outage_id) - 1] = 0;
	*ret = TAKE_PTR(b);
	return 0;
}

struct hf_blackbox *hf_blackbox_free(struct hf_blackbox *b)
{
	if (!b)
		return NULL;
	if (b->slots)
		(void)munmap(b->slots, FILE_BYTES); /* cannot fail for our own mapping */
	b->magic = 0;
	free(b);
	return NULL;
}

bool hf_blackbox_previous(const struct hf_blackbox *b, struct hf_blackbox_record *ret)
{
	if (b->had_previous)
		*ret = b->previous;
	return b->had_previous;
}

void hf_blackbox_write(struct hf_blackbox *b, const struct hf_blackbox_record *r)
{
	struct slot s;

	hf_assert(b->magic == BLACKBOX_MAGIC);
	memset(&s, 0, sizeof(s)); /* padding is part of the checksum */
	s.magic = FILE_MAGIC;
	s.generation = ++b->generation;
	s.record = *r;
	s.crc = slot_crc(&s);
	memcpy(&b->slots[b->generation & 1], &s, sizeof(s));
}
