/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast-sign bundle build, bundle sign, bundle verify. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "tools/sign/sign.h"
#include "userspace/release/bundle.h"
#include "userspace/release/minisign.h"
#include "userspace/release/text.h"

/* ---- a bundle's file, written beside and moved into place -------------------------------------- */

struct output {
	const char *path;
	char *temp;
	int fd;
};

static void output_done(struct output *o)
{
	if (o->fd >= 0 && o->temp)
		(void)unlink(o->temp); /* it was not finished */
	(void)hf_close(o->fd);
	free(o->temp);
}

static int output_open(struct output *o, const char *path)
{
	o->path = path;
	o->temp = hf_asprintf("%s.XXXXXX", path);
	if (!o->temp)
		return hf_sign_fail(HF_SIGN_BAD, "out of memory");
	o->fd = mkostemp(o->temp, O_CLOEXEC);
	if (o->fd < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", path, strerror(errno));
	return HF_SIGN_OK;
}

static int output_finish(struct output *o)
{
	if (fchmod(o->fd, 0644) < 0 || fsync(o->fd) < 0 || rename(o->temp, o->path) < 0)
		return hf_sign_fail(HF_SIGN_BAD, "write %s: %s", o->path, strerror(errno));
	o->fd = hf_close(o->fd);
	return HF_SIGN_OK;
}

/* ---- build ------------------------------------------------------------------------------------- */

struct build {
	struct hf_manifest m;
	const char *files, *out, *expires, *created;
};

static void build_done(struct build *b)
{
	free(b->m.files);
}

/* Options whose value is a word of the manifest, at its place there. */
static const struct {
	const char *name;
	size_t offset, size;
} words[] = {
#define WORD(name, member)                                        \
	{                                                         \
		name, offsetof(struct hf_manifest, member),       \
			sizeof(((struct hf_manifest *)0)->member) \
	}
	WORD("product", product),
	WORD("component", component),
	WORD("version", version),
	WORD("os", os),
	WORD("arch", arch),
	WORD("distro", distro),
	WORD("libc", libc),
	WORD("environment", environment),
	WORD("min-from", min_from_version),
#undef WORD
};

enum { OPT_WORDS = 256, OPT_FILES = 512, OPT_OUT, OPT_EPOCH, OPT_EXPIRES, OPT_CREATED };

static void build_options(struct option dst[static HF_ARRAY_SIZE(words) + 6])
{
	static const struct option others[] = {
		{"files", required_argument, NULL, OPT_FILES},
		{"out", required_argument, NULL, OPT_OUT},
		{"epoch", required_argument, NULL, OPT_EPOCH},
		{"expires", required_argument, NULL, OPT_EXPIRES},
		{"created", required_argument, NULL, OPT_CREATED},
		{},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(words); i++)
		dst[i] =
			(struct option){words[i].name, required_argument, NULL, OPT_WORDS + (int)i};
	memcpy(dst + HF_ARRAY_SIZE(words), others, sizeof(others));
}

static int take_build_option(struct build *b, int c)
{
	char *base = (char *)&b->m;

	switch (c) {
	case OPT_FILES:
		b->files = optarg;
		return HF_SIGN_OK;
	case OPT_OUT:
		b->out = optarg;
		return HF_SIGN_OK;
	case OPT_EXPIRES:
		b->expires = optarg;
		return HF_SIGN_OK;
	case OPT_CREATED:
		b->created = optarg;
		return HF_SIGN_OK;
	case OPT_EPOCH:
		if (hf_parse_u64(optarg, &b->m.security_epoch) < 0)
			return hf_sign_fail(HF_SIGN_USAGE, "'%s' is no security epoch", optarg);
		return HF_SIGN_OK;
	default:
		break;
	}
	if (c < OPT_WORDS)
		return hf_sign_fail(HF_SIGN_USAGE, HF_SIGN_OPTION_HELP);
	if (!hf_strlcpy(base + words[c - OPT_WORDS].offset, optarg, words[c - OPT_WORDS].size))
		return hf_sign_fail(HF_SIGN_USAGE, "--%s: more than %zu characters",
				    words[c - OPT_WORDS].name, words[c - OPT_WORDS].size - 1);
	return HF_SIGN_OK;
}

static int parse_build(struct build *b, int argc, char **argv)
{
	struct option options[HF_ARRAY_SIZE(words) + 6];
	struct utsname here;
	int c, code;

	b->m = (struct hf_manifest){.product = "holdfast",
				    .os = "linux",
				    .distro = HF_MANIFEST_ANY,
				    .libc = HF_MANIFEST_ANY,
				    .environment = HF_MANIFEST_ANY,
				    .min_from_version = "0.0.0"};
	if (uname(&here) == 0)
		(void)hf_strlcpy(b->m.arch, here.machine, sizeof(b->m.arch)); /* the usual case */
	build_options(options);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		code = take_build_option(b, c);
		if (code != HF_SIGN_OK)
			return code;
	}
	if (optind != argc || !b->m.component[0] || !b->m.version[0] || !b->files || !b->out)
		return hf_sign_fail(
			HF_SIGN_USAGE,
			"--component, --version, --files and --out are needed; " HF_SIGN_OPTION_HELP);
	b->m.created_s = hf_sign_now();
	code = b->created ? hf_sign_time(b->created, b->m.created_s, &b->m.created_s) : HF_SIGN_OK;
	if (code == HF_SIGN_OK)
		code = hf_sign_time(b->expires ? b->expires : "365d", b->m.created_s,
				    &b->m.expires_s);
	return code;
}

int hf_sign_bundle_build(const struct hf_sign *s, int argc, char **argv)
{
	_cleanup_(build_done) struct build b = {};
	_cleanup_(output_done) struct output o = {.fd = -1};
	_cleanup_close_ int files = -1;
	struct hf_err err = {};
	int code = parse_build(&b, argc, argv);

	if (code != HF_SIGN_OK)
		return code;
	files = open(b.files, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", b.files, strerror(errno));
	code = output_open(&o, b.out);
	if (code != HF_SIGN_OK)
		return code;
	if (hf_bundle_build(&b.m, files, o.fd, &err) < 0)
		return hf_sign_fail_file(b.files, &err);
	code = output_finish(&o);
	if (code != HF_SIGN_OK)
		return code;
	if (s->json)
		hf_sign_print_json(json_pack("{s:s,s:s,s:s,s:i,s:I}", "file", b.out, "component",
					     b.m.component, "version", b.m.version, "files",
					     (int)b.m.n_files, "bytes",
					     (json_int_t)b.m.payload_bytes));
	else
		(void)printf("%s: %s %s, %zu files of %llu bytes; not signed yet\n", b.out,
			     b.m.component, b.m.version, b.m.n_files,
			     (unsigned long long)b.m.payload_bytes);
	return HF_SIGN_OK;
}

/* ---- sign -------------------------------------------------------------------------------------- */

static int write_detached(const char *path, const struct hf_secret_key *k, int fd)
{
	_cleanup_free_ char *sig_path = hf_asprintf("%s.minisig", path);
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	const struct hf_manifest *m;
	struct hf_buf text = {};
	struct hf_err err = {};
	char comment[256];
	int code = HF_SIGN_OK;

	if (!sig_path)
		return hf_sign_fail(HF_SIGN_BAD, "out of memory");
	if (hf_bundle_open(fd, &b, &err) < 0)
		return hf_sign_fail_file(path, &err);
	m = hf_bundle_manifest(b);
	(void)hf_strf(comment, sizeof(comment), "%s %s %s %s/%s", m->product, m->component,
		      m->version, m->os, m->arch);
	if (hf_minisign_sign(k, fd, comment, &text, &err) < 0)
		code = hf_sign_fail_file(path, &err);
	if (code == HF_SIGN_OK)
		code = hf_sign_replace(sig_path, &text, 0644);
	hf_buf_done(&text);
	return code;
}

int hf_sign_bundle_sign(const struct hf_sign *s, int argc, char **argv)
{
	static const struct option options[] = {
		{"key", required_argument, NULL, 'k'},
		{"passphrase-file", required_argument, NULL, 'p'},
		{},
	};
	_cleanup_(hf_key_wipe) struct hf_secret_key k = {};
	_cleanup_(output_done) struct output o = {.fd = -1};
	_cleanup_close_ int in = -1, signed_fd = -1;
	const char *key = NULL, *passphrase_file = NULL, *path;
	struct hf_err err = {};
	int c, code;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'k')
			key = optarg;
		else if (c == 'p')
			passphrase_file = optarg;
		else
			return hf_sign_fail(HF_SIGN_USAGE, HF_SIGN_OPTION_HELP);
	}
	if (optind + 1 != argc || !key)
		return hf_sign_fail(HF_SIGN_USAGE, "--key and one BUNDLE are needed");
	path = argv[optind];
	in = open(path, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", path, strerror(errno));
	code = hf_sign_load_secret(key, passphrase_file, &k);
	if (code == HF_SIGN_OK)
		code = output_open(&o, path);
	if (code != HF_SIGN_OK)
		return code;
	if (hf_bundle_sign(in, &k, o.fd, &err) < 0)
		return hf_sign_fail_file(path, &err);
	code = output_finish(&o);
	if (code != HF_SIGN_OK)
		return code;
	signed_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (signed_fd < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", path, strerror(errno));
	code = write_detached(path, &k, signed_fd);
	if (code != HF_SIGN_OK)
		return code;
	if (s->json) {
		hf_sign_print_json(
			json_pack("{s:s,s:o}", "file", path, "key", hf_sign_json_id(k.pub.id)));
	} else {
		char id[HF_KEY_ID_TEXT_SIZE];

		hf_key_id_format(k.pub.id, id);
		(void)printf("%s, %s.minisig: signed by %s\n", path, path, id);
	}
	return HF_SIGN_OK;
}

/* ---- verify ------------------------------------------------------------------------------------ */

struct verify {
	const char *path, *keys, *trusted, *signature;
	uint64_t now_s;
};

static int parse_verify(struct verify *v, int argc, char **argv)
{
	static const struct option options[] = {
		{"keys", required_argument, NULL, 'k'},
		{"trusted", required_argument, NULL, 't'},
		{"signature", required_argument, NULL, 's'},
		{"now", required_argument, NULL, 'n'},
		{},
	};
	int c, code;

	v->now_s = hf_now_realtime_ns() / HF_NS_PER_S;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'k':
			v->keys = optarg;
			break;
		case 't':
			v->trusted = optarg;
			break;
		case 's':
			v->signature = optarg;
			break;
		case 'n':
			code = hf_sign_time(optarg, v->now_s, &v->now_s);
			if (code != HF_SIGN_OK)
				return code;
			break;
		default:
			return hf_sign_fail(HF_SIGN_USAGE, HF_SIGN_OPTION_HELP);
		}
	}
	if (optind + 1 != argc || !v->keys)
		return hf_sign_fail(HF_SIGN_USAGE, "--keys and one BUNDLE are needed");
	v->path = argv[optind];
	return HF_SIGN_OK;
}

/* The embedded signature, the dates, and the bytes; not whether it fits some host. */
static enum hf_refusal judge(const struct verify *v, struct hf_bundle *b, struct hf_keylist *keys,
			     struct hf_keylist *trusted, struct hf_err *err)
{
	struct hf_release_question q = {.keys = keys, .now_s = v->now_s};
	enum hf_refusal refusal = hf_keylist_judge(keys, trusted, err);

	if (refusal == HF_RELEASE_OK) {
		q.manifest = hf_bundle_manifest(b);
		q.manifest_text = hf_bundle_manifest_text(b, &q.manifest_len);
		q.signature = hf_bundle_signature(b);
		refusal = hf_release_verify_signature(&q, err);
	}
	if (refusal == HF_RELEASE_OK)
		refusal = hf_release_verify_times(&q, err);
	return refusal;
}

static int check_detached(const struct verify *v, const struct hf_keylist_key *k, int fd,
			  struct hf_err *err)
{
	char comment[HF_MINISIGN_COMMENT_MAX];
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	if (hf_sign_read(v->signature, HF_MINISIGN_FILE_MAX, &text, &len) != HF_SIGN_OK)
		return hf_err_set(err, -ENOENT, "the detached signature cannot be read");
	r = hf_minisign_verify(&k->key, fd, text, len, comment, err);
	if (r < 0)
		(void)hf_err_wrap(err, "%s", v->signature);
	return r;
}

static int tell_verdict(const struct hf_sign *s, const struct verify *v, const struct hf_bundle *b,
			const char *verdict, const struct hf_err *err)
{
	const struct hf_manifest *m = hf_bundle_manifest(b);
	bool ok = hf_streq(verdict, "ok");

	if (s->json)
		hf_sign_print_json(json_pack("{s:s,s:s,s:s?,s:s,s:s,s:o,s:o}", "file", v->path,
					     "verdict", verdict, "detail", ok ? NULL : err->msg,
					     "component", m->component, "version", m->version,
					     "key", hf_sign_json_id(m->key_id), "hash",
					     hf_sign_json_hex(hf_bundle_hash(b), HF_SHA256_SIZE)));
	else if (ok)
		(void)printf("%s: ok: %s %s for %s/%s, %zu files\n", v->path, m->component,
			     m->version, m->os, m->arch, m->n_files);
	else
		(void)hf_sign_fail(HF_SIGN_BAD, "%s: %s: %s", v->path, verdict, err->msg);
	return ok ? HF_SIGN_OK : HF_SIGN_BAD;
}

int hf_sign_bundle_verify(const struct hf_sign *s, int argc, char **argv)
{
	_cleanup_(hf_bundle_freep) struct hf_bundle *b = NULL;
	_cleanup_free_ struct hf_keylist *keys = NULL, *trusted = NULL;
	_cleanup_close_ int fd = -1;
	struct verify v = {};
	struct hf_err err = {};
	enum hf_refusal refusal;
	const char *verdict = "ok";
	int code = parse_verify(&v, argc, argv);

	if (code != HF_SIGN_OK)
		return code;
	fd = open(v.path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", v.path, strerror(errno));
	code = hf_sign_load_list(v.keys, &keys);
	if (code == HF_SIGN_OK && v.trusted)
		code = hf_sign_load_list(v.trusted, &trusted);
	if (code != HF_SIGN_OK)
		return code;
	if (hf_bundle_open(fd, &b, &err) < 0)
		return hf_sign_fail_file(v.path, &err);
	refusal = judge(&v, b, keys, trusted, &err);
	if (refusal != HF_RELEASE_OK)
		verdict = hf_refusal_name(refusal);
	else if (hf_bundle_check_files(b, &err) < 0)
		verdict = "files";
	else if (v.signature &&
		 check_detached(&v, hf_keylist_find(keys, hf_bundle_manifest(b)->key_id), fd,
				&err) < 0)
		verdict = "detached_signature";
	return tell_verdict(s, &v, b, verdict, &err);
}
