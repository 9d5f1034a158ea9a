/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-sign(1): makes keys, builds bundles, signs and verifies them, on a machine that needs no
 * network and is no endpoint.
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "tools/sign/sign.h"

static const struct verb {
	const char *first, *second; /* second NULL: a verb of one word */
	int (*run)(const struct hf_sign *s, int argc, char **argv);
	const char *arguments, *summary;
} verbs[] = {
	{"root-key", "new", hf_sign_root_key, "[--passphrase-file FILE | --unencrypted] NAME",
	 "make a root key: NAME.key and NAME.pub"},
	{"release-key", "new", hf_sign_release_key, "[--passphrase-file FILE | --unencrypted] NAME",
	 "make a release key: NAME.key and NAME.pub"},
	{"keys", "sign", hf_sign_keys,
	 "[--root PUB] [--drop-root ID] [--threshold K] [--expires T] [--environment E] [--from T] "
	 "[--until T] [--add PUB] [--drop ID] [--revoke ID] [--key KEY]... "
	 "[--passphrase-file FILE] LIST",
	 "change the list of release keys, or add the signatures of root keys to it"},
	{"bundle", "build", hf_sign_bundle_build,
	 "--component C --version V --files DIR --out BUNDLE [--product P] [--os O] [--arch A] "
	 "[--distro D] [--libc L] [--environment E] [--epoch N] [--min-from V] [--created T] "
	 "[--expires T]",
	 "make an unsigned bundle of the files in a directory"},
	{"bundle", "sign", hf_sign_bundle_sign, "--key KEY [--passphrase-file FILE] BUNDLE",
	 "sign a bundle, and write BUNDLE.minisig"},
	{"bundle", "verify", hf_sign_bundle_verify,
	 "--keys LIST [--trusted LIST] [--signature FILE] [--now T] BUNDLE",
	 "whether a bundle is signed, whole and not expired"},
	{"show", NULL, hf_sign_show, "FILE", "what a bundle, a list of keys or a public key says"},
};

static void print_help(void)
{
	(void)printf("holdfast-sign: makes keys, builds bundles, signs and verifies them\n\n"
		     "usage: holdfast-sign [--json] VERB ...\n\n");
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++) {
		const struct verb *v = &verbs[i];
		char name[32];

		(void)hf_strf(name, sizeof(name), "%s%s%s", v->first, v->second ? " " : "",
			      v->second ? v->second : "");
		(void)printf("  %-15s  %s\n", name, v->summary);
	}
	(void)printf("\n  --json     machine-readable output, of every verb\n"
		     "  --help     this list; after a verb, its arguments\n"
		     "  --version  the version of this program\n\n"
		     "exit code: 0 ok, 1 the answer is bad news or it failed, 2 usage\n");
}

static const struct verb *find(int argc, char **argv)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++)
		if (hf_streq(verbs[i].first, argv[0]) &&
		    (!verbs[i].second || (argc > 1 && hf_streq(verbs[i].second, argv[1]))))
			return &verbs[i];
	return NULL;
}

static int print_verb_help(const struct verb *v)
{
	(void)printf("usage: holdfast-sign %s%s%s %s\n\n%s\n", v->first, v->second ? " " : "",
		     v->second ? v->second : "", v->arguments, v->summary);
	return HF_SIGN_OK;
}

int main(int argc, char **argv)
{
	struct hf_sign s = {};
	const struct verb *v;
	int words;

	argc--;
	argv++;
	while (argc > 0 && hf_streq(argv[0], "--json")) {
		s.json = true;
		argc--;
		argv++;
	}
	if (argc > 0 && hf_streq(argv[0], "--version")) {
		(void)printf("holdfast-sign %s\n", HF_VERSION);
		return HF_SIGN_OK;
	}
	if (argc == 0 || hf_streq(argv[0], "--help") || hf_streq(argv[0], "-h")) {
		print_help();
		return argc == 0 ? HF_SIGN_USAGE : HF_SIGN_OK;
	}
	v = find(argc, argv);
	if (!v)
		return hf_sign_fail(HF_SIGN_USAGE,
				    "no such verb '%s%s%s'; see 'holdfast-sign --help'", argv[0],
				    argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
	words = v->second ? 1 : 0;
	for (int i = words + 1; i < argc; i++) {
		if (hf_streq(argv[i], "--help") || hf_streq(argv[i], "-h"))
			return print_verb_help(v);
		if (!hf_streq(argv[i], "--json"))
			continue;
		/* Taken anywhere, as holdfast(1) does. */
		s.json = true;
		for (int k = i; k < argc; k++)
			argv[k] = argv[k + 1];
		argc--;
		i--;
	}
	return v->run(&s, argc - words, argv + words);
}
