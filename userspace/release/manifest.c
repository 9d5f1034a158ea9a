/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest's text, both ways.
 *
 * I1 what decodes, encodes to the same bytes: a signature covers one meaning.
 * I2 every length is bounded before memory is taken: a manifest is read before its signature is
 *    checked.
 * I3 no path of a decoded manifest can leave the directory it is unpacked in, name a file twice, or
 *    pass through another file.
 */
#include "userspace/release/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "userspace/release/text.h"

/* "file 0444 0 <64 hex> a\n": the shortest line, which bounds the number of files. */
#define FILE_LINE_MIN (5 + 5 + 2 + 64 + 1 + 2)

struct hf_manifest *hf_manifest_free(struct hf_manifest *m)
{
	if (m)
		free(m->files);
	free(m);
	return NULL;
}

void hf_key_id_format(const uint8_t id[static HF_KEY_ID_SIZE], char dst[static HF_KEY_ID_TEXT_SIZE])
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < HF_KEY_ID_SIZE; i++) {
		dst[2 * i] = digits[id[HF_KEY_ID_SIZE - 1 - i] >> 4];
		dst[2 * i + 1] = digits[id[HF_KEY_ID_SIZE - 1 - i] & 15];
	}
	dst[2 * HF_KEY_ID_SIZE] = '\0';
}

int hf_key_id_parse(const char *s, uint8_t ret[static HF_KEY_ID_SIZE])
{
	char again[HF_KEY_ID_TEXT_SIZE];
	uint8_t reversed[HF_KEY_ID_SIZE], id[HF_KEY_ID_SIZE];

	if (hf_hex_decode(reversed, sizeof(reversed), s) < 0)
		return -EINVAL;
	for (size_t i = 0; i < HF_KEY_ID_SIZE; i++)
		id[i] = reversed[HF_KEY_ID_SIZE - 1 - i];
	hf_key_id_format(id, again);
	if (!hf_streq(again, s))
		return -EINVAL;
	memcpy(ret, id, sizeof(id));
	return 0;
}

const char *hf_manifest_path_fault(const char *path)
{
	char component[HF_MANIFEST_PATH_MAX];
	unsigned depth = 0;

	if (!*path)
		return "an empty path";
	if (*path == '/')
		return "an absolute path";
	if (strnlen(path, HF_MANIFEST_PATH_MAX) >= HF_MANIFEST_PATH_MAX)
		return "a path that is too long";
	for (const char *p = path;;) {
		size_t len = strcspn(p, "/");

		memcpy(component, p, len);
		component[len] = '\0';
		if (len == 0)
			return "an empty component";
		if (hf_streq(component, "..") || hf_streq(component, "."))
			return "a component that is '.' or '..'";
		if (!hf_text_is_word(component, sizeof(component)))
			return "a component that is no word of letters, digits and ._+@~-";
		if (++depth > HF_MANIFEST_DEPTH_MAX)
			return "a path that is too deep";
		if (!p[len])
			return NULL;
		p += len + 1;
	}
}

static int compare_files(const void *a, const void *b)
{
	const struct hf_manifest_file *x = a, *y = b;

	return strcmp(x->path, y->path);
}

void hf_manifest_sort(struct hf_manifest *m)
{
	if (m->n_files > 1)
		qsort(m->files, m->n_files, sizeof(*m->files), compare_files);
}

/* Files are sorted; whether some directory of this path is a file. */
static bool passes_through_a_file(const struct hf_manifest *m, const char *path)
{
	struct hf_manifest_file parent;

	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		memcpy(parent.path, path, (size_t)(slash - path));
		parent.path[slash - path] = '\0';
		if (bsearch(&parent, m->files, m->n_files, sizeof(*m->files), compare_files))
			return true;
	}
	return false;
}

/* One file, and its place after the one before. NULL or what is wrong. */
static const char *file_fault(const struct hf_manifest_file *f, const struct hf_manifest_file *prev)
{
	const char *fault = hf_manifest_path_fault(f->path);

	if (fault)
		return fault;
	if (f->mode & 07000)
		return "a setuid, setgid or sticky bit";
	if (f->mode != 0444 && f->mode != 0555)
		return "a mode that is neither 0444 nor 0555";
	if (f->size > HF_MANIFEST_FILE_MAX)
		return "a file that is too large";
	if (prev && strcmp(prev->path, f->path) == 0)
		return "a path that is there twice";
	if (prev && strcmp(prev->path, f->path) > 0)
		return "paths that are not sorted";
	return NULL;
}

/* What holds over all files. Sets payload_bytes. */
static const char *files_fault(const struct hf_manifest *m, uint64_t *ret_payload)
{
	uint64_t sum = 0;

	if (m->n_files == 0)
		return "no file";
	if (m->n_files > HF_MANIFEST_FILES_MAX)
		return "too many files";
	for (size_t i = 0; i < m->n_files; i++) {
		if (passes_through_a_file(m, m->files[i].path))
			return "a path that passes through another file";
		sum += m->files[i].size; /* 1024 files of 256 MiB are far from an overflow */
	}
	if (sum > HF_MANIFEST_PAYLOAD_MAX)
		return "files that are too large together";
	*ret_payload = sum;
	return NULL;
}

/* The numbers that hf_text has no words for. */
static const char *fields_fault(const struct hf_manifest *m)
{
	if (!hf_version_valid(m->version))
		return "a version that is not semantic";
	if (!hf_version_valid(m->min_from_version))
		return "a min-from-version that is not semantic";
	if (m->expires_s <= m->created_s)
		return "an expiry that is not after the creation";
	return NULL;
}

static void take_version(struct hf_text *t, const char *key, char *dst)
{
	if (hf_text_take(t, key) == 0 && !hf_version_valid(t->value))
		(void)hf_text_fault(t, "'%.64s' is no semantic version", t->value);
	if (t->r == 0)
		(void)hf_strlcpy(dst, t->value, HF_VERSION_MAX); /* a valid one fits */
}

static void take_word(struct hf_text *t, const char *key, char dst[static HF_MANIFEST_WORD_MAX])
{
	(void)hf_text_take_word(t, key, dst, HF_MANIFEST_WORD_MAX); /* a fault stays in t */
}

static int take_head(struct hf_text *t, struct hf_manifest *m)
{
	uint64_t format = 0;

	if (hf_text_take_number(t, "holdfast-manifest", UINT32_MAX, &format) == 0 && format != 1)
		(void)hf_text_fault(t, "manifest format %" PRIu64 ", this program knows 1", format);
	take_word(t, "product", m->product);
	take_word(t, "component", m->component);
	take_version(t, "version", m->version);
	take_word(t, "os", m->os);
	take_word(t, "arch", m->arch);
	take_word(t, "distro", m->distro);
	take_word(t, "libc", m->libc);
	take_word(t, "environment", m->environment);
	(void)hf_text_take_number(t, "security-epoch", HF_MANIFEST_EPOCH_MAX, &m->security_epoch);
	take_version(t, "min-from-version", m->min_from_version);
	(void)hf_text_take_time(t, "created", &m->created_s);
	(void)hf_text_take_time(t, "expires", &m->expires_s);
	if (hf_text_take(t, "key") == 0 && hf_key_id_parse(t->value, m->key_id) < 0)
		(void)hf_text_fault(t, "'%.64s' is no key id", t->value);
	return t->r;
}

static int take_file(struct hf_text *t, struct hf_manifest *m)
{
	struct hf_manifest_file *f = &m->files[m->n_files];
	char *rest = t->value, *mode, *size, *digest;
	const char *fault;

	(void)hf_text_take(t, "file"); /* faults stay in t */
	(void)hf_text_split(t, &rest, &mode);
	(void)hf_text_split(t, &rest, &size);
	(void)hf_text_split(t, &rest, &digest);
	(void)hf_text_number(t, size, HF_MANIFEST_FILE_MAX, &f->size);
	(void)hf_text_hex(t, digest, f->sha256, sizeof(f->sha256));
	if (t->r < 0)
		return t->r;
	/* Up to five digits, so that 04755 is called what it is. */
	if (strlen(mode) < 4 || strlen(mode) > 5 || strspn(mode, "01234567") != strlen(mode))
		return hf_text_fault(t, "'%.64s' is no mode", mode);
	f->mode = (uint32_t)strtoul(mode, NULL, 8);
	if (!hf_strlcpy(f->path, rest, sizeof(f->path)))
		return hf_text_fault(t, "a path that is too long");
	fault = file_fault(f, m->n_files ? f - 1 : NULL);
	if (fault)
		return hf_text_fault(t, "file '%.191s': %s", f->path, fault);
	m->n_files++;
	return 0;
}

int hf_manifest_decode(const void *text, size_t len, struct hf_manifest **ret, struct hf_err *err)
{
	_cleanup_(hf_manifest_freep) struct hf_manifest *m = NULL;
	struct hf_buf again = {};
	struct hf_text t;
	const char *fault;
	bool same;
	int r;

	if (len > HF_MANIFEST_SIZE_MAX)
		return hf_err_set(err, -EFBIG, "a manifest of %zu bytes, %zu are allowed", len,
				  HF_MANIFEST_SIZE_MAX);
	hf_text_init(&t, text, len, err);
	m = calloc(1, sizeof(*m));
	if (!m)
		return hf_err_set(err, -ENOMEM, "out of memory");
	r = take_head(&t, m);
	if (r < 0)
		return r;
	m->files = calloc(len / FILE_LINE_MIN + 1, sizeof(*m->files));
	if (!m->files)
		return hf_err_set(err, -ENOMEM, "out of memory");
	while (t.p < t.end) {
		if (m->n_files == HF_MANIFEST_FILES_MAX)
			return hf_text_fault(&t, "more than %u files", HF_MANIFEST_FILES_MAX);
		r = take_file(&t, m);
		if (r < 0)
			return r;
	}
	fault = fields_fault(m);
	if (!fault)
		fault = files_fault(m, &m->payload_bytes);
	if (fault)
		return hf_err_set(err, -EBADMSG, "the manifest has %s", fault);

	r = hf_manifest_encode(m, &again, err);
	same = r == 0 && again.len == len && memcmp(again.data, text, len) == 0;
	hf_buf_done(&again);
	if (r < 0)
		return r;
	if (!same)
		return hf_err_set(err, -EBADMSG, "the manifest is not in its canonical form");
	*ret = TAKE_PTR(m);
	return 0;
}

static int encode_head(const struct hf_manifest *m, struct hf_buf *out)
{
	char created[HF_TEXT_TIME_SIZE], expires[HF_TEXT_TIME_SIZE], key[HF_KEY_ID_TEXT_SIZE];

	hf_text_format_time(m->created_s, created);
	hf_text_format_time(m->expires_s, expires);
	hf_key_id_format(m->key_id, key);
	return hf_buf_appendf(out,
			      "holdfast-manifest 1\n"
			      "product %s\ncomponent %s\nversion %s\n"
			      "os %s\narch %s\ndistro %s\nlibc %s\nenvironment %s\n"
			      "security-epoch %" PRIu64 "\nmin-from-version %s\n"
			      "created %s\nexpires %s\nkey %s\n",
			      m->product, m->component, m->version, m->os, m->arch, m->distro,
			      m->libc, m->environment, m->security_epoch, m->min_from_version,
			      created, expires, key);
}

static int check_words(const struct hf_manifest *m, struct hf_err *err)
{
	const struct {
		const char *name, *value;
	} words[] = {
		{"product", m->product},
		{"component", m->component},
		{"os", m->os},
		{"arch", m->arch},
		{"distro", m->distro},
		{"libc", m->libc},
		{"environment", m->environment},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(words); i++)
		if (!hf_text_is_word(words[i].value, HF_MANIFEST_WORD_MAX))
			return hf_err_set(
				err, -EINVAL,
				"%s '%s' is no word of 1 to %d letters, digits and ._+@~-",
				words[i].name, words[i].value, HF_MANIFEST_WORD_MAX - 1);
	return 0;
}

int hf_manifest_encode(const struct hf_manifest *m, struct hf_buf *out, struct hf_err *err)
{
	size_t start = out->len;
	const char *fault;
	uint64_t payload;
	int r;

	r = check_words(m, err);
	if (r < 0)
		return r;
	fault = fields_fault(m);
	if (!fault &&
	    (m->security_epoch > HF_MANIFEST_EPOCH_MAX || m->expires_s > HF_TEXT_TIME_MAX))
		fault = "a number that is too large";
	for (size_t i = 0; i < m->n_files && !fault; i++)
		fault = file_fault(&m->files[i], i ? &m->files[i - 1] : NULL);
	if (!fault)
		fault = files_fault(m, &payload);
	if (fault)
		return hf_err_set(err, -EINVAL, "the manifest has %s", fault);

	r = encode_head(m, out);
	for (size_t i = 0; i < m->n_files && r == 0; i++) {
		const struct hf_manifest_file *f = &m->files[i];
		char digest[2 * HF_SHA256_SIZE + 1];

		hf_hex_encode(digest, f->sha256, sizeof(f->sha256));
		r = hf_buf_appendf(out, "file %04o %" PRIu64 " %s %s\n", f->mode, f->size, digest,
				   f->path);
	}
	if (r < 0)
		return hf_err_set(err, r, "out of memory");
	if (out->len - start > HF_MANIFEST_SIZE_MAX)
		return hf_err_set(err, -EINVAL, "the manifest has more than %zu bytes",
				  HF_MANIFEST_SIZE_MAX);
	return 0;
}
