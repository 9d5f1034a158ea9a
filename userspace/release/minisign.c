/* SPDX-License-Identifier: Apache-2.0 */
/*
 * minisign's three files. Silent.
 *
 * I1 a trusted comment is handed out only after its signature was verified.
 * I2 a secret key file cannot make us take more memory than the strongest file we write.
 */
#include "userspace/release/minisign.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/random.h"
#include "userspace/release/blake2b.h"

#define UNTRUSTED     "untrusted comment: "
#define TRUSTED       "trusted comment: "

#define CHECKSUM_SIZE 32
#define SALT_SIZE     32

struct public_blob {
	uint8_t algorithm[2];
	uint8_t id[HF_KEY_ID_SIZE];
	uint8_t point[HF_KEY_SIZE];
} __attribute__((packed));

struct secret_part {
	uint8_t id[HF_KEY_ID_SIZE];
	uint8_t seed[HF_KEY_SIZE];
	uint8_t point[HF_KEY_SIZE];
	uint8_t checksum[CHECKSUM_SIZE];
} __attribute__((packed));

struct secret_blob {
	uint8_t algorithm[2];
	uint8_t kdf[2];
	uint8_t checksum_kind[2];
	uint8_t salt[SALT_SIZE];
	uint8_t ops[8];
	uint8_t mem[8];
	struct secret_part part;
} __attribute__((packed));

struct signature_blob {
	uint8_t algorithm[2];
	uint8_t id[HF_KEY_ID_SIZE];
	uint8_t sig[HF_SIGNATURE_SIZE];
} __attribute__((packed));

_Static_assert(sizeof(struct public_blob) == 42, "as minisign has it");
_Static_assert(sizeof(struct secret_part) == 104, "as minisign has it");
_Static_assert(sizeof(struct secret_blob) == 158, "as minisign has it");
_Static_assert(sizeof(struct signature_blob) == 74, "as minisign has it");

#define BLOB_MAX sizeof(struct secret_blob)

static const struct {
	uint64_t ops, mem;
} costs[] = {
	[HF_MINISIGN_KDF_SENSITIVE] = {UINT64_C(1) << 25, UINT64_C(1) << 30},
	[HF_MINISIGN_KDF_INTERACTIVE] = {UINT64_C(1) << 19, UINT64_C(1) << 24},
};
_Static_assert(HF_ARRAY_SIZE(costs) == _HF_MINISIGN_KDF_MAX, "a cost for each");

static void put_le64(uint8_t dst[static 8], uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		dst[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le64(const uint8_t src[static 8])
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)src[i] << (8 * i);
	return v;
}

/* ---- lines ------------------------------------------------------------------------------------ */

static bool comment_ok(const char *comment)
{
	size_t len = strlen(comment);

	if (len >= HF_MINISIGN_COMMENT_MAX || !hf_utf8_valid(comment, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)comment[i] < 0x20 || comment[i] == 0x7f)
			return false;
	return true;
}

static int append_blob(struct hf_buf *out, const void *blob, size_t len)
{
	char text[4 * ((BLOB_MAX + 2) / 3) + 1];
	int r;

	hf_assert(len <= BLOB_MAX);
	(void)hf_base64_encode(text, blob, len); /* its length is known */
	r = hf_buf_appendf(out, "%s\n", text);
	hf_wipe(text, sizeof(text));
	return r;
}

/* Takes a line off [*p, end); a CR before the LF is tolerated as minisign does. */
static bool take_line(const char **p, const char *end, const char **ret, size_t *ret_len)
{
	const char *nl;

	if (*p == end)
		return false;
	nl = memchr(*p, '\n', (size_t)(end - *p));
	*ret = *p;
	*ret_len = (size_t)((nl ? nl : end) - *p);
	*p = nl ? nl + 1 : end;
	if (*ret_len > 0 && (*ret)[*ret_len - 1] == '\r')
		(*ret_len)--;
	return true;
}

/* A comment line and a line of base64 with exactly len bytes. */
static int take_pair(const char **p, const char *end, const char *prefix, void *blob, size_t len,
		     const char **ret_comment, size_t *ret_comment_len, struct hf_err *err)
{
	const char *comment, *data;
	size_t comment_len, data_len, got = len, prefix_len = strlen(prefix);

	if (!take_line(p, end, &comment, &comment_len) || comment_len < prefix_len ||
	    memcmp(comment, prefix, prefix_len) != 0)
		return hf_err_set(err, -EBADMSG, "no line '%s…'", prefix);
	if (!take_line(p, end, &data, &data_len))
		return hf_err_set(err, -EBADMSG, "the line after '%s…' is missing", prefix);
	if (hf_base64_decode(blob, &got, data, data_len) < 0 || got != len)
		return hf_err_set(err, -EBADMSG, "the line after '%s…' is not %zu bytes in base64",
				  prefix, len);
	if (ret_comment) {
		*ret_comment = comment + prefix_len;
		*ret_comment_len = comment_len - prefix_len;
	}
	return 0;
}

static int no_more(const char *p, const char *end, struct hf_err *err)
{
	return p == end ? 0 : hf_err_set(err, -EBADMSG, "more lines than it should have");
}

/* ---- public keys ------------------------------------------------------------------------------ */

static struct public_blob public_blob(const struct hf_public_key *k)
{
	struct public_blob b = {.algorithm = "Ed"};

	memcpy(b.id, k->id, sizeof(b.id));
	memcpy(b.point, k->point, sizeof(b.point));
	return b;
}

int hf_minisign_format_public_word(const struct hf_public_key *k, struct hf_buf *out)
{
	struct public_blob b = public_blob(k);
	char text[4 * ((sizeof(b) + 2) / 3) + 1];

	(void)hf_base64_encode(text, &b, sizeof(b)); /* its length is known */
	return hf_buf_appendf(out, "%s", text);
}

int hf_minisign_format_public(const struct hf_public_key *k, const char *comment,
			      struct hf_buf *out)
{
	struct public_blob b = public_blob(k);
	int r;

	if (!comment_ok(comment))
		return -EINVAL;
	r = hf_buf_appendf(out, UNTRUSTED "%s\n", comment);
	return r < 0 ? r : append_blob(out, &b, sizeof(b));
}

int hf_minisign_parse_public(const char *text, size_t len, struct hf_public_key *ret,
			     struct hf_err *err)
{
	const char *p = text, *end = text + len;
	struct public_blob b;
	int r;

	r = take_pair(&p, end, UNTRUSTED, &b, sizeof(b), NULL, NULL, err);
	if (r == 0)
		r = no_more(p, end, err);
	if (r < 0)
		return r;
	if (memcmp(b.algorithm, "Ed", 2) != 0)
		return hf_err_set(err, -EBADMSG, "not an Ed25519 key");
	memcpy(ret->id, b.id, sizeof(ret->id));
	memcpy(ret->point, b.point, sizeof(ret->point));
	return 0;
}

/* ---- secret keys ------------------------------------------------------------------------------ */

/*
 * scrypt's N, r, p from libsodium's two limits: r is 8; as much memory as allowed (128·N·r bytes),
 * unless the allowed operations (4·N·r·p) end first; p takes the operations that are left.
 */
static void pick_scrypt(uint64_t ops, uint64_t mem, uint64_t *ret_n, uint64_t *ret_p)
{
	uint64_t max_n, n = 2;

	if (ops < mem / 32)
		max_n = ops / 32;
	else
		max_n = mem / 1024;
	while (n <= max_n / 2)
		n *= 2;
	*ret_n = n;
	*ret_p = ops < mem / 32 ? 1 : ops / 4 / n / 8;
}

/* Covers or uncovers the secret part. */
static int apply_keystream(struct secret_blob *b, const char *passphrase, struct hf_err *err)
{
	uint64_t ops = get_le64(b->ops), mem = get_le64(b->mem), n, p;
	uint8_t stream[sizeof(b->part)], *part = (uint8_t *)&b->part;

	if (ops < 32768 || ops > costs[HF_MINISIGN_KDF_SENSITIVE].ops || mem < UINT64_C(1) << 20 ||
	    mem > costs[HF_MINISIGN_KDF_SENSITIVE].mem)
		return hf_err_set(err, -EBADMSG,
				  "the cost of the passphrase is outside what is sane");
	pick_scrypt(ops, mem, &n, &p);
	if (hf_key_scrypt(passphrase, b->salt, sizeof(b->salt), n, p, stream, sizeof(stream)) < 0)
		return hf_err_set(err, -ENOMEM, "scrypt needs %llu MiB of memory",
				  (unsigned long long)(mem >> 20));
	for (size_t i = 0; i < sizeof(stream); i++)
		part[i] ^= stream[i];
	hf_wipe(stream, sizeof(stream));
	return 0;
}

static void checksum(const struct secret_blob *b, uint8_t dst[static CHECKSUM_SIZE])
{
	uint8_t data[2 + offsetof(struct secret_part, checksum)];

	memcpy(data, b->algorithm, 2);
	memcpy(data + 2, &b->part, sizeof(data) - 2);
	hf_blake2b(dst, CHECKSUM_SIZE, data, sizeof(data));
	hf_wipe(data, sizeof(data));
}

int hf_minisign_format_secret(const struct hf_secret_key *k, const char *comment,
			      const char *passphrase, enum hf_minisign_kdf kdf, struct hf_buf *out)
{
	struct secret_blob b = {.algorithm = "Ed", .checksum_kind = "B2"};
	int r = 0;

	if (!comment_ok(comment))
		return -EINVAL;
	memcpy(b.part.id, k->pub.id, sizeof(b.part.id));
	memcpy(b.part.seed, k->seed, sizeof(b.part.seed));
	memcpy(b.part.point, k->pub.point, sizeof(b.part.point));
	checksum(&b, b.part.checksum);
	if (passphrase) {
		memcpy(b.kdf, "Sc", 2);
		hf_random_bytes(b.salt, sizeof(b.salt));
		put_le64(b.ops, costs[kdf].ops);
		put_le64(b.mem, costs[kdf].mem);
		r = apply_keystream(&b, passphrase, NULL);
	}
	if (r == 0)
		r = hf_buf_appendf(out, UNTRUSTED "%s\n", comment);
	if (r == 0)
		r = append_blob(out, &b, sizeof(b));
	hf_wipe(&b, sizeof(b));
	return r;
}

static int open_secret(struct secret_blob *b, const char *passphrase, struct hf_err *err)
{
	static const uint8_t none[CHECKSUM_SIZE];
	uint8_t sum[CHECKSUM_SIZE];
	bool encrypted = memcmp(b->kdf, "Sc", 2) == 0;
	int r;

	if (memcmp(b->algorithm, "Ed", 2) != 0 || memcmp(b->checksum_kind, "B2", 2) != 0)
		return hf_err_set(err, -EBADMSG, "not an Ed25519 key");
	if (encrypted) {
		if (!passphrase)
			return hf_err_set(err, -ENOKEY, "the key is encrypted");
		r = apply_keystream(b, passphrase, err);
		if (r < 0)
			return r;
	} else if (memcmp(b->kdf, none, 2) != 0) {
		return hf_err_set(err, -EBADMSG, "encrypted in a way that is not known");
	}
	checksum(b, sum);
	/* minisign leaves the checksum of a key without passphrase empty. */
	if (hf_equal_secret(sum, b->part.checksum, sizeof(sum)) ||
	    (!encrypted && memcmp(b->part.checksum, none, sizeof(none)) == 0))
		return 0;
	return encrypted ? hf_err_set(err, -EKEYREJECTED, "wrong passphrase")
			 : hf_err_set(err, -EBADMSG, "the key is damaged");
}

int hf_minisign_parse_secret(const char *text, size_t len, const char *passphrase,
			     struct hf_secret_key *ret, struct hf_err *err)
{
	_cleanup_(hf_key_wipe) struct hf_secret_key k = {};
	const char *p = text, *end = text + len;
	struct secret_blob b;
	int r;

	r = take_pair(&p, end, UNTRUSTED, &b, sizeof(b), NULL, NULL, err);
	if (r == 0)
		r = no_more(p, end, err);
	if (r < 0)
		return r;
	r = open_secret(&b, passphrase, err);
	if (r == 0 && hf_key_from_seed(b.part.id, b.part.seed, &k) < 0)
		r = hf_err_set(err, -EIO, "the library refuses the key");
	if (r == 0 && memcmp(k.pub.point, b.part.point, sizeof(k.pub.point)) != 0)
		r = hf_err_set(err, -EBADMSG, "the public half does not fit the secret one");
	if (r == 0)
		*ret = k;
	hf_wipe(&b, sizeof(b));
	return r;
}

/* ---- signatures ------------------------------------------------------------------------------- */

static int prehash(int fd, uint8_t dst[static HF_DIGEST_SIZE_MAX])
{
	_cleanup_(hf_digest_freep) struct hf_digest *d = NULL;
	uint8_t buf[64 * 1024];
	ssize_t n;
	int r;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	r = hf_digest_new(HF_DIGEST_BLAKE2B512, &d);
	if (r < 0)
		return r;
	while ((n = hf_read_full(fd, buf, sizeof(buf))) > 0) {
		r = hf_digest_add(d, buf, (size_t)n);
		if (r < 0)
			return r;
	}
	return n < 0 ? (int)n : hf_digest_end(d, dst);
}

struct global {
	uint8_t data[HF_SIGNATURE_SIZE + HF_MINISIGN_COMMENT_MAX];
	size_t len;
};

static struct global global_message(const uint8_t sig[static HF_SIGNATURE_SIZE],
				    const char *comment, size_t len)
{
	struct global g = {.len = HF_SIGNATURE_SIZE + len};

	hf_assert(len < HF_MINISIGN_COMMENT_MAX);
	memcpy(g.data, sig, HF_SIGNATURE_SIZE);
	memcpy(g.data + HF_SIGNATURE_SIZE, comment, len);
	return g;
}

int hf_minisign_sign(const struct hf_secret_key *k, int fd, const char *trusted_comment,
		     struct hf_buf *out, struct hf_err *err)
{
	struct signature_blob b = {.algorithm = "ED"};
	uint8_t hash[HF_DIGEST_SIZE_MAX], global_sig[HF_SIGNATURE_SIZE];
	char id[HF_KEY_ID_TEXT_SIZE];
	struct global g;
	int r;

	if (!comment_ok(trusted_comment))
		return hf_err_set(err, -EINVAL, "the comment is not one line of printable text");
	r = prehash(fd, hash);
	if (r < 0)
		return hf_err_set(err, r, "cannot read what is to be signed: %s", strerror(-r));
	memcpy(b.id, k->pub.id, sizeof(b.id));
	r = hf_key_sign(k, hash, sizeof(hash), b.sig);
	if (r == 0) {
		g = global_message(b.sig, trusted_comment, strlen(trusted_comment));
		r = hf_key_sign(k, g.data, g.len, global_sig);
	}
	if (r < 0)
		return hf_err_set(err, r, "cannot sign");

	hf_key_id_format(k->pub.id, id);
	r = hf_buf_appendf(out, UNTRUSTED "signature of key %s\n", id);
	if (r == 0)
		r = append_blob(out, &b, sizeof(b));
	if (r == 0)
		r = hf_buf_appendf(out, TRUSTED "%s\n", trusted_comment);
	if (r == 0)
		r = append_blob(out, global_sig, sizeof(global_sig));
	return r < 0 ? hf_err_set(err, r, "out of memory") : 0;
}

int hf_minisign_verify(const struct hf_public_key *k, int fd, const char *text, size_t len,
		       char ret_comment[static HF_MINISIGN_COMMENT_MAX], struct hf_err *err)
{
	uint8_t hash[HF_DIGEST_SIZE_MAX], global_sig[HF_SIGNATURE_SIZE];
	const char *p = text, *end = text + len, *comment = NULL;
	struct signature_blob b;
	size_t comment_len = 0;
	struct global g;
	int r;

	r = take_pair(&p, end, UNTRUSTED, &b, sizeof(b), NULL, NULL, err);
	if (r == 0)
		r = take_pair(&p, end, TRUSTED, global_sig, sizeof(global_sig), &comment,
			      &comment_len, err);
	if (r == 0)
		r = no_more(p, end, err);
	if (r < 0)
		return r;
	if (memcmp(b.algorithm, "Ed", 2) == 0)
		return hf_err_set(err, -EBADMSG, "a signature in the legacy format of minisign");
	if (memcmp(b.algorithm, "ED", 2) != 0 || comment_len >= HF_MINISIGN_COMMENT_MAX ||
	    memchr(comment, '\0', comment_len))
		return hf_err_set(err, -EBADMSG, "not a signature of minisign");
	if (memcmp(b.id, k->id, sizeof(b.id)) != 0) {
		char theirs[HF_KEY_ID_TEXT_SIZE], ours[HF_KEY_ID_TEXT_SIZE];

		hf_key_id_format(b.id, theirs);
		hf_key_id_format(k->id, ours);
		return hf_err_set(err, -EKEYREJECTED, "signed by key %s, not by %s", theirs, ours);
	}
	r = prehash(fd, hash);
	if (r < 0)
		return hf_err_set(err, r, "cannot read what was signed: %s", strerror(-r));
	g = global_message(b.sig, comment, comment_len);
	if (!hf_key_verify(k, hash, sizeof(hash), b.sig))
		return hf_err_set(err, -EKEYREJECTED, "the signature is not of this file");
	if (!hf_key_verify(k, g.data, g.len, global_sig))
		return hf_err_set(err, -EKEYREJECTED, "the trusted comment was changed");
	memcpy(ret_comment, comment, comment_len);
	ret_comment[comment_len] = '\0';
	return 0;
}
