/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast-sign show: what a bundle, a list of keys or a public key says; verifies nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "tools/sign/sign.h"
#include "userspace/release/bundle.h"
#include "userspace/release/minisign.h"

static json_t *files_json(const struct hf_manifest *m)
{
	json_t *files = json_array();

	for (size_t i = 0; i < m->n_files; i++) {
		const struct hf_manifest_file *f = &m->files[i];
		char mode[8];

		(void)hf_strf(mode, sizeof(mode), "%04o", f->mode);
		(void)json_array_append_new(
			files, json_pack("{s:s,s:s,s:I,s:o}", "path", f->path, "mode", mode, "size",
					 (json_int_t)f->size, "sha256",
					 hf_sign_json_hex(f->sha256, sizeof(f->sha256))));
	}
	return files;
}

static int show_bundle(const struct hf_sign *s, const char *path, int fd)
{
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	const struct hf_manifest *m;
	struct hf_err err = {};
	const uint8_t *text;
	size_t len;

	if (hf_bundle_open(fd, &b, &err) < 0)
		return hf_sign_fail_file(path, &err);
	m = hf_bundle_manifest(b);
	if (!s->json) {
		/* The signed text itself. */
		text = hf_bundle_manifest_text(b, &len);
		(void)fwrite(text, 1, len, stdout);
		return HF_SIGN_OK;
	}
	hf_sign_print_json(json_pack(
		"{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:s,s:o,s:o,s:o,s:o,s:o}", "kind",
		"bundle", "product", m->product, "component", m->component, "version", m->version,
		"os", m->os, "arch", m->arch, "distro", m->distro, "libc", m->libc, "environment",
		m->environment, "security_epoch", (json_int_t)m->security_epoch, "min_from_version",
		m->min_from_version, "created", hf_sign_json_time(m->created_s), "expires",
		hf_sign_json_time(m->expires_s), "key", hf_sign_json_id(m->key_id), "hash",
		hf_sign_json_hex(hf_bundle_hash(b), HF_SHA256_SIZE), "files", files_json(m)));
	return HF_SIGN_OK;
}

static json_t *keylist_json(const struct hf_keylist *l)
{
	json_t *roots = json_array(), *keys = json_array(), *revoked = json_array(),
	       *signatures = json_array();

	for (size_t i = 0; i < l->n_roots; i++)
		(void)json_array_append_new(roots, hf_sign_json_id(l->roots[i].id));
	for (size_t i = 0; i < l->n_keys; i++)
		(void)json_array_append_new(keys,
					    json_pack("{s:o,s:o,s:o,s:s}", "id",
						      hf_sign_json_id(l->keys[i].key.id), "from",
						      hf_sign_json_time(l->keys[i].from_s), "until",
						      hf_sign_json_time(l->keys[i].until_s),
						      "environment", l->keys[i].environment));
	for (size_t i = 0; i < l->n_revoked; i++)
		(void)json_array_append_new(
			revoked, json_pack("{s:o,s:o}", "id", hf_sign_json_id(l->revoked[i].id),
					   "since", hf_sign_json_time(l->revoked[i].since_s)));
	for (size_t i = 0; i < l->n_signatures; i++)
		(void)json_array_append_new(signatures, hf_sign_json_id(l->signatures[i].id));
	return json_pack("{s:s,s:I,s:o,s:o,s:i,s:o,s:o,s:o,s:o}", "kind", "keys", "version",
			 (json_int_t)l->version, "created", hf_sign_json_time(l->created_s),
			 "expires", hf_sign_json_time(l->expires_s), "threshold", (int)l->threshold,
			 "roots", roots, "keys", keys, "revoked", revoked, "signed_by", signatures);
}

static int show_keys(const struct hf_sign *s, const char *path)
{
	_cleanup_free_ struct hf_keylist *l = NULL;
	int code = hf_sign_load_list(path, &l);
	struct hf_buf text = {};
	struct hf_err err = {};

	if (code != HF_SIGN_OK)
		return code;
	if (s->json) {
		hf_sign_print_json(keylist_json(l));
	} else if (hf_keylist_encode(l, true, &text, &err) < 0) {
		code = hf_sign_fail_file(path, &err);
	} else {
		(void)fwrite(text.data, 1, text.len, stdout);
	}
	hf_buf_done(&text);
	return code;
}

static int show_public(const struct hf_sign *s, const char *path)
{
	struct hf_public_key k;
	struct hf_buf word = {};
	char id[HF_KEY_ID_TEXT_SIZE];
	int code = hf_sign_load_public(path, &k);

	if (code != HF_SIGN_OK)
		return code;
	hf_key_id_format(k.id, id);
	if (hf_minisign_format_public_word(&k, &word) < 0 || hf_buf_append(&word, "", 1) < 0)
		return hf_sign_fail(HF_SIGN_BAD, "out of memory");
	if (s->json)
		hf_sign_print_json(json_pack("{s:s,s:s,s:s}", "kind", "public_key", "id", id,
					     "public", (char *)word.data));
	else
		(void)printf("public key %s  %s\n", id, (char *)word.data);
	hf_buf_done(&word);
	return HF_SIGN_OK;
}

int hf_sign_show(const struct hf_sign *s, int argc, char **argv)
{
	_cleanup_close_ int fd = -1;
	char start[24] = "";
	ssize_t n;

	if (argc != 2 || argv[1][0] == '-')
		return hf_sign_fail(HF_SIGN_USAGE, "one FILE is needed");
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", argv[1], strerror(errno));
	n = hf_read_full(fd, start, sizeof(start) - 1);
	if (n < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", argv[1], strerror((int)-n));
	if (hf_startswith(start, HF_BUNDLE_MAGIC))
		return show_bundle(s, argv[1], fd);
	if (hf_startswith(start, "holdfast-keys "))
		return show_keys(s, argv[1]);
	if (hf_startswith(start, "untrusted comment: "))
		return show_public(s, argv[1]);
	return hf_sign_fail(HF_SIGN_BAD, "%s: neither a bundle nor a list of keys nor a public key",
			    argv[1]);
}
