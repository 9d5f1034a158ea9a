/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twin records. Silent.
 *
 * I1 the newest valid record is never written to: at every moment, and after a power cut at any of
 *    them, it or its successor can be read.
 * I2 hf_twin_save() returns success only when what is on the disk was read back.
 */
#include "userspace/release/twin.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

#define MAGIC  "HFTWIN\r\n" /* a copy in text mode shows */
#define FORMAT 1u

static const char *const names[2] = {"state.a", "state.b"};

/* Little-endian, without padding; the CRC is of all other bytes. */
struct on_disk_slot {
	char version[HF_VERSION_MAX];
	uint8_t hash[HF_SHA256_SIZE];
	uint64_t security_epoch;
};

struct on_disk {
	char magic[8];
	uint32_t format;
	uint32_t crc;
	uint64_t generation;
	uint32_t phase, tries_left, refunds_left, reason;
	char component[HF_MANIFEST_WORD_MAX];
	struct on_disk_slot active, previous, candidate;
	uint64_t security_epoch, healthy_ms, changed_s;
	uint8_t boot_id[16];
	uint8_t bad[HF_RELEASE_BAD_MAX][HF_RELEASE_BAD_SIZE];
	uint8_t zero[8];
};

_Static_assert(sizeof(struct on_disk) == HF_TWIN_SIZE, "one sector");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the record is the struct");

static struct on_disk_slot encode_slot(const struct hf_release_slot *s)
{
	struct on_disk_slot d = {.security_epoch = s->security_epoch};

	(void)hf_strlcpy(d.version, s->version, sizeof(d.version)); /* the same size */
	memcpy(d.hash, s->hash, sizeof(d.hash));
	return d;
}

static bool decode_slot(const struct on_disk_slot *d, struct hf_release_slot *ret)
{
	if (memchr(d->version, '\0', sizeof(d->version)) == NULL ||
	    (d->version[0] && !hf_version_valid(d->version)))
		return false;
	memcpy(ret->version, d->version, sizeof(ret->version));
	memcpy(ret->hash, d->hash, sizeof(ret->hash));
	ret->security_epoch = d->security_epoch;
	return true;
}

static uint32_t crc_of(struct on_disk d)
{
	d.crc = 0;
	return hf_crc32c(0, &d, sizeof(d));
}

void hf_twin_encode(const struct hf_release_record *r, uint8_t dst[static HF_TWIN_SIZE])
{
	struct on_disk d = {
		.magic = MAGIC,
		.format = FORMAT,
		.generation = r->generation,
		.phase = r->phase,
		.tries_left = r->tries_left,
		.refunds_left = r->refunds_left,
		.reason = r->reason,
		.active = encode_slot(&r->active),
		.previous = encode_slot(&r->previous),
		.candidate = encode_slot(&r->candidate),
		.security_epoch = r->security_epoch,
		.healthy_ms = r->healthy_ms,
		.changed_s = r->changed_s,
	};

	(void)hf_strlcpy(d.component, r->component, sizeof(d.component)); /* the same size */
	memcpy(d.boot_id, r->boot_id, sizeof(d.boot_id));
	memcpy(d.bad, r->bad, sizeof(d.bad));
	d.crc = crc_of(d);
	memcpy(dst, &d, sizeof(d));
}

int hf_twin_decode(const uint8_t src[static HF_TWIN_SIZE], struct hf_release_record *ret)
{
	struct hf_release_record r = {};
	struct on_disk d;

	memcpy(&d, src, sizeof(d));
	if (memcmp(d.magic, MAGIC, sizeof(d.magic)) != 0 || d.format != FORMAT ||
	    d.crc != crc_of(d) || !memchr(d.component, '\0', sizeof(d.component)) ||
	    !decode_slot(&d.active, &r.active) || !decode_slot(&d.previous, &r.previous) ||
	    !decode_slot(&d.candidate, &r.candidate))
		return -EBADMSG;
	r.generation = d.generation;
	r.phase = d.phase;
	r.tries_left = d.tries_left;
	r.refunds_left = d.refunds_left;
	r.reason = d.reason;
	r.security_epoch = d.security_epoch;
	r.healthy_ms = d.healthy_ms;
	r.changed_s = d.changed_s;
	memcpy(r.component, d.component, sizeof(r.component));
	memcpy(r.boot_id, d.boot_id, sizeof(r.boot_id));
	memcpy(r.bad, d.bad, sizeof(r.bad));
	*ret = r;
	return 0;
}

/* 0, -ENOENT, -EBADMSG, or what the disk says. */
static int read_one(const struct hf_io *io, int dir, const char *name,
		    struct hf_release_record *ret)
{
	uint8_t buf[HF_TWIN_SIZE];
	int fd = io->open_file(io, dir, name, false);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = io->read(io, fd, buf, sizeof(buf), 0);
	io->close(io, fd);
	if (n < 0)
		return (int)n;
	return n == sizeof(buf) ? hf_twin_decode(buf, ret) : -EBADMSG;
}

int hf_twin_load(struct hf_twin *t, const struct hf_io *io, int dir, struct hf_release_record *ret)
{
	struct hf_release_record r[2];
	int found[2];

	*t = (struct hf_twin){.io = io, .dir = dir, .newest = -1};
	for (int i = 0; i < 2; i++) {
		found[i] = read_one(io, dir, names[i], &r[i]);
		/* A lack of descriptors says nothing about the record; an older one would be wrong. */
		if (found[i] < 0 && found[i] != -ENOENT && found[i] != -EBADMSG && found[i] != -EIO)
			return found[i];
		if (found[i] == 0 && (t->newest < 0 || r[i].generation > t->generation)) {
			t->newest = i;
			t->generation = r[i].generation;
		}
	}
	if (t->newest < 0)
		return found[0] == -ENOENT && found[1] == -ENOENT ? -ENOENT : -EBADMSG;
	*ret = r[t->newest];
	return 0;
}

static int write_one(const struct hf_twin *t, const char *name, const uint8_t *buf)
{
	uint8_t again[HF_TWIN_SIZE];
	int fd = t->io->open_file(t->io, t->dir, name, true), r;
	bool made = fd == -ENOENT;

	if (made)
		fd = t->io->create(t->io, t->dir, name);
	if (fd < 0)
		return fd;
	r = t->io->write(t->io, fd, buf, HF_TWIN_SIZE, 0);
	if (r == 0)
		r = t->io->sync(t->io, fd);
	if (r == 0 && made)
		r = t->io->sync(t->io, t->dir);
	if (r == 0 && (t->io->read(t->io, fd, again, sizeof(again), 0) != sizeof(again) ||
		       memcmp(buf, again, sizeof(again)) != 0))
		r = -EIO;
	t->io->close(t->io, fd);
	return r;
}

int hf_twin_save(struct hf_twin *t, struct hf_release_record *r)
{
	int older = t->newest == 0 ? 1 : 0, e;
	uint8_t buf[HF_TWIN_SIZE];
	struct hf_release_record next = *r;

	next.generation = t->generation + 1;
	hf_twin_encode(&next, buf);
	e = write_one(t, names[older], buf);
	if (e < 0)
		return e;
	t->newest = older;
	t->generation = next.generation;
	r->generation = next.generation;
	return 0;
}
