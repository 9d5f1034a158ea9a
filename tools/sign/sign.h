/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of holdfast-sign(1) share: errors, files, keys, times, output. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "userspace/release/keylist.h"
#include "userspace/release/keys.h"

enum hf_sign_exit {
	HF_SIGN_OK = 0,
	HF_SIGN_BAD = 1, /* the answer is bad news, or it could not be done */
	HF_SIGN_USAGE = 2,
};

struct hf_sign {
	bool json;
};

/* argv[0] is the verb's last word. Returns an exit code. */
int hf_sign_root_key(const struct hf_sign *s, int argc, char **argv);
int hf_sign_release_key(const struct hf_sign *s, int argc, char **argv);
int hf_sign_keys(const struct hf_sign *s, int argc, char **argv);
int hf_sign_bundle_build(const struct hf_sign *s, int argc, char **argv);
int hf_sign_bundle_sign(const struct hf_sign *s, int argc, char **argv);
int hf_sign_bundle_verify(const struct hf_sign *s, int argc, char **argv);
int hf_sign_show(const struct hf_sign *s, int argc, char **argv);

/* Prints one line "holdfast-sign: …" to stderr; returns code. */
int hf_sign_fail(enum hf_sign_exit code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
#ifdef __clang_analyzer__
/* The analyzer looks into no other file: tell it that the code comes back. */
#define hf_sign_fail(code, ...)                             \
	({                                                  \
		int _code = (code);                         \
		(void)(hf_sign_fail)((_code), __VA_ARGS__); \
		_code;                                      \
	})
#endif

/* The same with "path: why". */
static inline int hf_sign_fail_file(const char *path, const struct hf_err *err)
{
	return hf_sign_fail(HF_SIGN_BAD, "%s: %s", path, err->msg);
}

/* *ret is owned by the caller and has a NUL behind its end. All print why and return an exit code. */
int hf_sign_read(const char *path, size_t max, char **ret, size_t *ret_len);
/* A new file; an existing one is never overwritten. */
int hf_sign_write_new(const char *path, const struct hf_buf *text, unsigned mode);
/* The old or the new content, whole. */
int hf_sign_replace(const char *path, const struct hf_buf *text, unsigned mode);
int hf_sign_load_public(const char *path, struct hf_public_key *ret);
/* passphrase_file NULL: asks on the terminal if the key is encrypted. */
int hf_sign_load_secret(const char *path, const char *passphrase_file, struct hf_secret_key *ret);
/* A decoded list; free(). */
int hf_sign_load_list(const char *path, struct hf_keylist **ret);

#define HF_SIGN_PASSPHRASE_MAX 1024
/* From the file's first line or, with NULL, the terminal; asked twice when it is a new one. */
int hf_sign_passphrase(const char *file, const char *what, bool twice,
		       char ret[static HF_SIGN_PASSPHRASE_MAX]);

/* "2027-01-02T03:04:05Z", or "365d" after base_s. */
int hf_sign_time(const char *s, uint64_t base_s, uint64_t *ret_s);
/* SOURCE_DATE_EPOCH or now. */
uint64_t hf_sign_now(void);

/* Consumes object. */
void hf_sign_print_json(json_t *object);
json_t *hf_sign_json_time(uint64_t s);
json_t *hf_sign_json_id(const uint8_t id[static HF_KEY_ID_SIZE]);
json_t *hf_sign_json_hex(const uint8_t *data, size_t len);

#define HF_SIGN_OPTION_HELP "see 'holdfast-sign --help' or holdfast-sign(1)"
