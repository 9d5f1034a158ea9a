/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast-sign root-key new, release-key new: a pair of key files as minisign(1) has them. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tools/sign/sign.h"
#include "userspace/release/minisign.h"

struct new_key {
	const char *kind; /* "root", "release" */
	const char *name; /* files NAME.key and NAME.pub */
	const char *passphrase_file;
	bool unencrypted;
};

static int parse(int argc, char **argv, struct new_key *n)
{
	static const struct option options[] = {
		{"passphrase-file", required_argument, NULL, 'p'},
		{"unencrypted", no_argument, NULL, 'u'},
		{},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'p')
			n->passphrase_file = optarg;
		else if (c == 'u')
			n->unencrypted = true;
		else
			return hf_sign_fail(HF_SIGN_USAGE, HF_SIGN_OPTION_HELP);
	}
	if (optind + 1 != argc)
		return hf_sign_fail(HF_SIGN_USAGE, "one NAME is needed for NAME.key and NAME.pub");
	if (n->unencrypted && n->passphrase_file)
		return hf_sign_fail(HF_SIGN_USAGE,
				    "--unencrypted and --passphrase-file exclude each other");
	n->name = argv[optind];
	return HF_SIGN_OK;
}

static int write_pair(const struct new_key *n, const struct hf_secret_key *k,
		      const char *passphrase, const char *secret_path, const char *public_path)
{
	char comment[128], id[HF_KEY_ID_TEXT_SIZE];
	struct hf_buf secret = {}, public = {};
	int code = HF_SIGN_OK, r;

	hf_key_id_format(k->pub.id, id);
	(void)hf_strf(comment, sizeof(comment), "holdfast %s key %s, secret%s", n->kind, id,
		      passphrase ? ", encrypted" : "");
	r = hf_minisign_format_secret(k, comment, passphrase, HF_MINISIGN_KDF_SENSITIVE, &secret);
	(void)hf_strf(comment, sizeof(comment), "holdfast %s key %s", n->kind, id);
	if (r == 0)
		r = hf_minisign_format_public(&k->pub, comment, &public);
	if (r < 0)
		code = hf_sign_fail(HF_SIGN_BAD, "make the key: %s", strerror(-r));
	if (code == HF_SIGN_OK)
		code = hf_sign_write_new(secret_path, &secret, 0600);
	if (code == HF_SIGN_OK) {
		code = hf_sign_write_new(public_path, &public, 0644);
		if (code != HF_SIGN_OK)
			(void)unlink(secret_path); /* half a pair is of no use */
	}
	hf_wipe(secret.data, secret.len);
	hf_buf_done(&secret);
	hf_buf_done(&public);
	return code;
}

static void tell(const struct hf_sign *s, const struct new_key *n, const struct hf_secret_key *k,
		 const char *secret_path, const char *public_path)
{
	char id[HF_KEY_ID_TEXT_SIZE];
	struct hf_buf word = {};

	hf_key_id_format(k->pub.id, id);
	if (hf_minisign_format_public_word(&k->pub, &word) < 0 || hf_buf_append(&word, "", 1) < 0)
		return; /* no memory for a line of text */
	if (s->json)
		hf_sign_print_json(json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "kind", n->kind, "id", id,
					     "public", (char *)word.data, "public_file",
					     public_path, "secret_file", secret_path, "encrypted",
					     !n->unencrypted));
	else
		(void)printf("%s key %s\n  public  %s  %s\n  secret  %s%s\n", n->kind, id,
			     public_path, (char *)word.data, secret_path,
			     n->unencrypted ? "  NOT encrypted" : "");
	hf_buf_done(&word);
}

static int new_key(const struct hf_sign *s, const char *kind, int argc, char **argv)
{
	_cleanup_(hf_key_wipe) struct hf_secret_key k = {};
	_cleanup_free_ char *secret_path = NULL, *public_path = NULL;
	char passphrase[HF_SIGN_PASSPHRASE_MAX];
	struct new_key n = {.kind = kind};
	int code = parse(argc, argv, &n);

	if (code != HF_SIGN_OK)
		return code;
	secret_path = hf_asprintf("%s.key", n.name);
	public_path = hf_asprintf("%s.pub", n.name);
	if (!secret_path || !public_path)
		return hf_sign_fail(HF_SIGN_BAD, "out of memory");
	/* Before a passphrase is asked for. */
	if (access(secret_path, F_OK) == 0 || access(public_path, F_OK) == 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: there is a key already", n.name);
	if (!n.unencrypted)
		code = hf_sign_passphrase(n.passphrase_file, secret_path, true, passphrase);
	if (code == HF_SIGN_OK && hf_key_generate(&k) < 0)
		code = hf_sign_fail(HF_SIGN_BAD, "the library made no key");
	if (code == HF_SIGN_OK)
		code = write_pair(&n, &k, n.unencrypted ? NULL : passphrase, secret_path,
				  public_path);
	hf_wipe(passphrase, sizeof(passphrase));
	if (code == HF_SIGN_OK)
		tell(s, &n, &k, secret_path, public_path);
	return code;
}

int hf_sign_root_key(const struct hf_sign *s, int argc, char **argv)
{
	return new_key(s, "root", argc, argv);
}

int hf_sign_release_key(const struct hf_sign *s, int argc, char **argv)
{
	return new_key(s, "release", argc, argv);
}
