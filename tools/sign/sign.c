/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs share.
 *
 * I1 a key file is never overwritten, and a secret one is 0600 from its first byte.
 * I2 passphrases and secret keys are wiped from where they were read into.
 */
#include "tools/sign/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "userspace/release/minisign.h"
#include "userspace/release/text.h"

/* Its name stands in parentheses because the analyzer sees a macro of the same name. */
int(hf_sign_fail)(enum hf_sign_exit code, const char *fmt, ...)
{
	va_list ap;

	(void)fputs("holdfast-sign: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	return code;
}

int hf_sign_read(const char *path, size_t max, char **ret, size_t *ret_len)
{
	int r = hf_read_file(AT_FDCWD, path, max, ret, ret_len);

	if (r == -EFBIG)
		return hf_sign_fail(HF_SIGN_BAD, "%s: larger than %zu bytes", path, max);
	return r < 0 ? hf_sign_fail(HF_SIGN_BAD, "%s: %s", path, strerror(-r)) : HF_SIGN_OK;
}

int hf_sign_write_new(const char *path, const struct hf_buf *text, unsigned mode)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	int r;

	if (fd < 0)
		return hf_sign_fail(HF_SIGN_BAD, "%s: %s", path, strerror(errno));
	r = hf_write_full(fd, text->data, text->len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(path); /* we made it */
		return hf_sign_fail(HF_SIGN_BAD, "write %s: %s", path, strerror(-r));
	}
	return HF_SIGN_OK;
}

int hf_sign_replace(const char *path, const struct hf_buf *text, unsigned mode)
{
	int r = hf_write_file_atomic(AT_FDCWD, path, text->data, text->len, mode);

	return r < 0 ? hf_sign_fail(HF_SIGN_BAD, "write %s: %s", path, strerror(-r)) : HF_SIGN_OK;
}

int hf_sign_load_public(const char *path, struct hf_public_key *ret)
{
	_cleanup_free_ char *text = NULL;
	struct hf_err err = {};
	size_t len;
	int code = hf_sign_read(path, HF_MINISIGN_FILE_MAX, &text, &len);

	if (code != HF_SIGN_OK)
		return code;
	if (hf_minisign_parse_public(text, len, ret, &err) < 0)
		return hf_sign_fail_file(path, &err);
	return HF_SIGN_OK;
}

int hf_sign_load_secret(const char *path, const char *passphrase_file, struct hf_secret_key *ret)
{
	char passphrase[HF_SIGN_PASSPHRASE_MAX];
	char *text = NULL;
	struct hf_err err = {};
	size_t len;
	int code = hf_sign_read(path, HF_MINISIGN_FILE_MAX, &text, &len), r;

	if (code != HF_SIGN_OK)
		return code;
	r = hf_minisign_parse_secret(text, len, NULL, ret, &err);
	if (r == -ENOKEY) {
		code = hf_sign_passphrase(passphrase_file, path, false, passphrase);
		if (code == HF_SIGN_OK)
			r = hf_minisign_parse_secret(text, len, passphrase, ret, &err);
		hf_wipe(passphrase, sizeof(passphrase));
	}
	hf_wipe(text, len);
	free(text);
	if (code == HF_SIGN_OK && r < 0)
		code = hf_sign_fail_file(path, &err);
	return code;
}

int hf_sign_load_list(const char *path, struct hf_keylist **ret)
{
	_cleanup_free_ char *text = NULL;
	struct hf_err err = {};
	size_t len;
	int code = hf_sign_read(path, HF_KEYLIST_SIZE_MAX, &text, &len);

	if (code != HF_SIGN_OK)
		return code;
	if (hf_keylist_decode(text, len, ret, &err) < 0)
		return hf_sign_fail_file(path, &err);
	return HF_SIGN_OK;
}

/* ---- passphrases ------------------------------------------------------------------------------ */

/* One line without its end. Returns false at the end of the file or when it is too long. */
static bool read_line(FILE *f, char *dst, size_t size)
{
	size_t len;

	if (!fgets(dst, (int)size, f))
		return false;
	len = strcspn(dst, "\n");
	if (dst[len] != '\n' && !feof(f))
		return false;
	dst[len] = '\0';
	return true;
}

static bool ask(FILE *tty, const char *question, const char *what, char *dst, size_t size)
{
	struct termios old, quiet;
	bool known = tcgetattr(fileno(tty), &old) == 0, ok;

	if (known) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		(void)tcsetattr(fileno(tty), TCSAFLUSH, &quiet); /* else it is seen, not wrong */
	}
	(void)fprintf(tty, "%s for %s: ", question, what);
	(void)fflush(tty);
	ok = read_line(tty, dst, size);
	(void)fputc('\n', tty);
	if (known)
		(void)tcsetattr(fileno(tty), TCSAFLUSH, &old);
	return ok;
}

static int passphrase_from_terminal(const char *what, bool twice, char *dst, size_t size)
{
	_cleanup_fclose_ FILE *tty = fopen("/dev/tty", "r+e");
	char again[HF_SIGN_PASSPHRASE_MAX];
	bool same;

	if (!tty)
		return hf_sign_fail(HF_SIGN_USAGE,
				    "%s: a passphrase is needed and there is no terminal; "
				    "use --passphrase-file",
				    what);
	if (!ask(tty, "passphrase", what, dst, size))
		return hf_sign_fail(HF_SIGN_BAD, "%s: no passphrase was given", what);
	if (!twice)
		return HF_SIGN_OK;
	same = ask(tty, "the same again", what, again, sizeof(again)) && hf_streq(dst, again);
	hf_wipe(again, sizeof(again));
	return same ? HF_SIGN_OK : hf_sign_fail(HF_SIGN_BAD, "%s: the passphrases differ", what);
}

int hf_sign_passphrase(const char *file, const char *what, bool twice,
		       char ret[static HF_SIGN_PASSPHRASE_MAX])
{
	_cleanup_fclose_ FILE *f = NULL;
	int code = HF_SIGN_OK;

	if (!file) {
		code = passphrase_from_terminal(what, twice, ret, HF_SIGN_PASSPHRASE_MAX);
	} else {
		f = fopen(file, "re");
		if (!f)
			return hf_sign_fail(HF_SIGN_BAD, "%s: %s", file, strerror(errno));
		setbuf(f, NULL); /* so that no copy stays in a buffer */
		if (!read_line(f, ret, HF_SIGN_PASSPHRASE_MAX))
			return hf_sign_fail(HF_SIGN_BAD, "%s: no line of less than %d bytes", file,
					    HF_SIGN_PASSPHRASE_MAX);
	}
	if (code == HF_SIGN_OK && !*ret)
		code = hf_sign_fail(HF_SIGN_USAGE,
				    "%s: an empty passphrase; --unencrypted makes a key without",
				    what);
	return code;
}

/* ---- times and output ------------------------------------------------------------------------- */

uint64_t hf_sign_now(void)
{
	const char *fixed = getenv("SOURCE_DATE_EPOCH");
	uint64_t s;

	if (fixed && hf_parse_u64(fixed, &s) == 0 && s <= HF_TEXT_TIME_MAX)
		return s;
	return hf_now_realtime_ns() / HF_NS_PER_S;
}

int hf_sign_time(const char *s, uint64_t base_s, uint64_t *ret_s)
{
	uint64_t ms;

	if (hf_text_parse_time(s, ret_s) == 0)
		return HF_SIGN_OK;
	if (hf_parse_duration_ms(s, &ms) == 0 && base_s + ms / 1000 <= HF_TEXT_TIME_MAX) {
		*ret_s = base_s + ms / 1000;
		return HF_SIGN_OK;
	}
	return hf_sign_fail(HF_SIGN_USAGE,
			    "'%s' is neither a time such as 2027-01-02T03:04:05Z nor one from now "
			    "such as 365d",
			    s);
}

void hf_sign_print_json(json_t *object)
{
	/* A closed pipe shows in the exit code of whoever closed it. */
	(void)json_dumpf(object, stdout, JSON_COMPACT);
	(void)fputc('\n', stdout);
	json_decref(object);
}

json_t *hf_sign_json_time(uint64_t s)
{
	char text[HF_TEXT_TIME_SIZE];

	hf_text_format_time(s, text);
	return json_string(text);
}

json_t *hf_sign_json_id(const uint8_t id[static HF_KEY_ID_SIZE])
{
	char text[HF_KEY_ID_TEXT_SIZE];

	hf_key_id_format(id, text);
	return json_string(text);
}

json_t *hf_sign_json_hex(const uint8_t *data, size_t len)
{
	char text[2 * HF_SIGNATURE_SIZE + 1];

	hf_hex_encode(text, data, len < HF_SIGNATURE_SIZE ? len : HF_SIGNATURE_SIZE);
	return json_string(text);
}
