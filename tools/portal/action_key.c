/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I1. A damaged file is an error for a person: a key made in its place would be trusted by nobody.
 * I2. The file is replaced as a whole, under a lock on the directory: no link of the chain is lost.
 */
#include "tools/portal/action_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/random.h"
#include "holdfast/action.h"
#include "userspace/proto/frame.h"
#include "userspace/release/keys.h"

#define FILE_MAX 8192u

struct hf_action_key {
	Action__KeyFile *file;
	struct hf_secret_key secret;
	uint64_t created_ns;
};

/* Signs prefix, NUL and what. */
static int sign(const struct hf_secret_key *key, const char *purpose, const struct hf_buf *what,
		uint8_t signature[static HF_SIGNATURE_SIZE])
{
	_cleanup_(hf_buf_done) struct hf_buf text = {};
	int r = hf_buf_append(&text, purpose, strlen(purpose) + 1);

	if (r == 0)
		r = hf_buf_append(&text, what->data, what->len);
	return r < 0 ? r : hf_key_sign(key, text.data, text.len, signature);
}

/* The last link names the secret's public half. */
static int take_secret(struct hf_action_key *k)
{
	_cleanup_pb_ Action__Key *last = NULL;
	const Action__KeyFile *f = k->file;
	const ProtobufCBinaryData *link;

	if (f->n_chain == 0 || f->n_chain > HF_ACTION_KEYS_MAX || f->seed.len != HF_KEY_SIZE)
		return -EBADMSG;
	link = &f->chain[f->n_chain - 1]->link;
	if (hf_pb_unpack(&action__key__descriptor, link->data, link->len, &last) < 0 ||
	    last->key_id.len != HF_KEY_ID_SIZE || last->point.len != HF_KEY_SIZE)
		return -EBADMSG;
	if (hf_key_from_seed(last->key_id.data, f->seed.data, &k->secret) < 0)
		return -EIO;
	k->created_ns = last->created_unix_ns;
	return memcmp(k->secret.pub.point, last->point.data, HF_KEY_SIZE) == 0 ? 0 : -EBADMSG;
}

static int load(int dirfd, struct hf_action_key **ret, struct hf_err *err)
{
	_cleanup_(hf_action_key_freep) struct hf_action_key *k = calloc(1, sizeof(*k));
	_cleanup_free_ char *data = NULL;
	size_t len = 0;
	int r;

	if (!k)
		return hf_err_set(err, -ENOMEM, "out of memory");
	r = hf_read_file(dirfd, HF_ACTION_KEY_FILE, FILE_MAX, &data, &len);
	if (r == -ENOENT)
		return r;
	if (r == 0)
		r = hf_pb_unpack(&action__key_file__descriptor, data, len, &k->file);
	if (r == 0)
		r = take_secret(k);
	if (data)
		hf_wipe(data, len);
	if (r < 0)
		return hf_err_set(err, r == -ENOMEM ? r : -EBADMSG,
				  "'" HF_ACTION_KEY_FILE
				  "' is damaged: restore it from a backup; without "
				  "it every endpoint has to be enrolled again (%s)",
				  strerror(-r));
	*ret = TAKE_PTR(k);
	return 0;
}

/* The new key's link, signed by the old one, or by itself when it is the first. */
static int make_link(const struct hf_secret_key *fresh, const struct hf_secret_key *old,
		     uint64_t unix_ns, struct hf_buf *link,
		     uint8_t signature[static HF_SIGNATURE_SIZE])
{
	Action__Key m = ACTION__KEY__INIT;
	int r;

	m.key_id = (ProtobufCBinaryData){.data = (uint8_t *)fresh->pub.id, .len = HF_KEY_ID_SIZE};
	m.point = (ProtobufCBinaryData){.data = (uint8_t *)fresh->pub.point, .len = HF_KEY_SIZE};
	m.created_unix_ns = unix_ns;
	if (old)
		m.previous_key_id = (ProtobufCBinaryData){.data = (uint8_t *)old->pub.id,
							  .len = HF_KEY_ID_SIZE};
	r = hf_pb_pack(&m.base, link);
	return r < 0 ? r : sign(old ? old : fresh, HF_ACTION_SIGN_KEY, link, signature);
}

static int write_file(int dirfd, const struct hf_action_key *old, uint64_t unix_ns)
{
	_cleanup_(hf_key_wipe) struct hf_secret_key fresh = {};
	_cleanup_(hf_buf_done) struct hf_buf link = {};
	struct hf_buf out = {};
	uint8_t signature[HF_SIGNATURE_SIZE];
	Action__KeyLink *chain[HF_ACTION_KEYS_MAX], last = ACTION__KEY_LINK__INIT;
	Action__KeyFile m = ACTION__KEY_FILE__INIT;
	size_t skip = 0;
	int r = hf_key_generate(&fresh);

	hf_assert(!old || old->file); /* it was loaded from one */

	if (r == 0)
		r = make_link(&fresh, old ? &old->secret : NULL, unix_ns, &link, signature);
	if (r < 0)
		return r;
	/* The oldest goes when there are too many: who still trusts it has to enrol again. */
	if (old && old->file->n_chain >= HF_ACTION_KEYS_MAX)
		skip = old->file->n_chain - HF_ACTION_KEYS_MAX + 1;
	for (size_t i = skip; old && i < old->file->n_chain; i++)
		chain[m.n_chain++] = old->file->chain[i];
	last.link = (ProtobufCBinaryData){.data = link.data, .len = link.len};
	last.signature = (ProtobufCBinaryData){.data = signature, .len = sizeof(signature)};
	chain[m.n_chain++] = &last;
	m.chain = chain;
	m.seed = (ProtobufCBinaryData){.data = fresh.seed, .len = HF_KEY_SIZE};
	r = hf_pb_pack(&m.base, &out);
	if (r == 0)
		r = hf_write_file_atomic(dirfd, HF_ACTION_KEY_FILE, out.data, out.len, 0600);
	if (out.data)
		hf_wipe(out.data, out.len);
	hf_buf_done(&out);
	return r;
}

int hf_action_key_open(int dirfd, uint64_t unix_ns, struct hf_action_key **ret, struct hf_err *err)
{
	int r = load(dirfd, ret, err);

	if (r != -ENOENT)
		return r;
	r = write_file(dirfd, NULL, unix_ns);
	if (r < 0)
		return hf_err_set(err, r, "make '" HF_ACTION_KEY_FILE "': %s", strerror(-r));
	return load(dirfd, ret, err);
}

struct hf_action_key *hf_action_key_free(struct hf_action_key *k)
{
	if (!k)
		return NULL;
	hf_key_wipe(&k->secret);
	if (k->file) {
		hf_wipe(k->file->seed.data, k->file->seed.len);
		action__key_file__free_unpacked(k->file, NULL);
	}
	free(k);
	return NULL;
}

int hf_action_key_rotate(int dirfd, uint64_t unix_ns, struct hf_err *err)
{
	_cleanup_(hf_action_key_freep) struct hf_action_key *old = NULL;
	_cleanup_close_ int lock = -1;
	int r;

	/* A description of its own: the lock is this call's. */
	lock = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return hf_err_set(err, -errno, "lock the state directory: %s", strerror(errno));
	r = hf_action_key_open(dirfd, unix_ns, &old, err);
	if (r < 0)
		return r;
	r = write_file(dirfd, old, unix_ns);
	return r < 0 ? hf_err_set(err, r, "write '" HF_ACTION_KEY_FILE "': %s", strerror(-r)) : 0;
}

void hf_action_key_id(const struct hf_action_key *k, char dst[static 17])
{
	hf_hex_encode(dst, k->secret.pub.id, HF_KEY_ID_SIZE);
}

uint64_t hf_action_key_created_ns(const struct hf_action_key *k)
{
	return k->created_ns;
}

size_t hf_action_key_count(const struct hf_action_key *k)
{
	return k->file->n_chain;
}

int hf_action_key_chain(const struct hf_action_key *k, const uint8_t endpoint[static HF_ID_SIZE],
			struct hf_buf *ret)
{
	Action__Keys m = ACTION__KEYS__INIT;
	char id[HF_UUID_TEXT_SIZE];

	hf_uuid_format(endpoint, id);
	m.endpoint_id = id;
	m.n_chain = k->file->n_chain;
	m.chain = k->file->chain;
	return hf_pb_pack(&m.base, ret);
}

int hf_action_key_seal(const struct hf_action_key *k, Action__Body *b, struct hf_buf *ret)
{
	_cleanup_(hf_buf_done) struct hf_buf body = {};
	Action__Envelope m = ACTION__ENVELOPE__INIT;
	uint8_t signature[HF_SIGNATURE_SIZE];
	size_t start = ret->len;
	int r;

	b->key_id =
		(ProtobufCBinaryData){.data = (uint8_t *)k->secret.pub.id, .len = HF_KEY_ID_SIZE};
	r = hf_pb_pack(&b->base, &body);
	if (r == 0)
		r = sign(&k->secret, HF_ACTION_SIGN_BODY, &body, signature);
	if (r < 0)
		return r;
	m.body = (ProtobufCBinaryData){.data = body.data, .len = body.len};
	m.signature = (ProtobufCBinaryData){.data = signature, .len = sizeof(signature)};
	r = hf_pb_pack(&m.base, ret);
	return r < 0 ? r : ret->len - start > HF_ACTION_ENVELOPE_MAX ? -EMSGSIZE : 0;
}

int hf_action_key_stamp(const struct hf_action_key *k, const uint8_t endpoint[static HF_ID_SIZE],
			const ProtobufCBinaryData *nonce, uint64_t unix_ns, struct hf_buf *ret)
{
	_cleanup_(hf_buf_done) struct hf_buf stamp = {};
	Action__Stamp s = ACTION__STAMP__INIT;
	Action__Time m = ACTION__TIME__INIT;
	uint8_t signature[HF_SIGNATURE_SIZE];
	char id[HF_UUID_TEXT_SIZE];
	int r;

	hf_uuid_format(endpoint, id);
	s.endpoint_id = id;
	s.nonce = *nonce;
	s.unix_ns = unix_ns;
	s.key_id =
		(ProtobufCBinaryData){.data = (uint8_t *)k->secret.pub.id, .len = HF_KEY_ID_SIZE};
	r = hf_pb_pack(&s.base, &stamp);
	if (r == 0)
		r = sign(&k->secret, HF_ACTION_SIGN_TIME, &stamp, signature);
	if (r < 0)
		return r;
	m.stamp = (ProtobufCBinaryData){.data = stamp.data, .len = stamp.len};
	m.signature = (ProtobufCBinaryData){.data = signature, .len = sizeof(signature)};
	return hf_pb_pack(&m.base, ret);
}
