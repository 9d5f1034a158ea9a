/* SPDX-License-Identifier: Apache-2.0 */
/* The host's facts and the trusted list of keys. Silent. */
#include "watchdog/release_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define OS_RELEASE_MAX ((size_t)64 * 1024)
#define ACCEPTED       "keys"

/* ---- the host ----------------------------------------------------------------------------------- */

/* NAME=value, 'value' or "value" of one line; os-release knows no more that would be in an ID. */
static bool value_of(const char *line, size_t len, const char *name, char *dst, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || memcmp(line, name, n) != 0 || line[n] != '=')
		return false;
	line += n + 1;
	len -= n + 1;
	if (len >= 2 && (line[0] == '"' || line[0] == '\'') && line[len - 1] == line[0]) {
		line++;
		len -= 2;
	}
	if (len >= size)
		return false;
	memcpy(dst, line, len);
	dst[len] = 0;
	return true;
}

void hf_release_host_distro(const char *text, size_t len, struct hf_release_host *ret)
{
	while (len > 0) {
		const char *newline = memchr(text, '\n', len);
		size_t n = newline ? (size_t)(newline - text) : len;

		(void)(value_of(text, n, "ID", ret->distro, sizeof(ret->distro)) ||
		       value_of(text, n, "VERSION_ID", ret->distro_version,
				sizeof(ret->distro_version)));
		n += newline ? 1 : 0;
		text += n;
		len -= n;
	}
}

/* "glibc 2.36" */
static void libc_of(char *dst, size_t size)
{
	char text[64], *space;

	if (confstr(_CS_GNU_LIBC_VERSION, text, sizeof(text)) == 0)
		return;
	space = strchr(text, ' ');
	if (space)
		*space = '-';
	(void)hf_strlcpy(dst, text, size);
}

void hf_release_host(const char *environment, struct hf_release_host *ret)
{
	_cleanup_free_ char *text = NULL;
	struct utsname u;
	size_t len;

	*ret = (struct hf_release_host){.product = "holdfast", .os = "linux"};
	(void)hf_strlcpy(ret->environment, environment, sizeof(ret->environment));
	if (uname(&u) == 0)
		(void)hf_strlcpy(ret->arch, u.machine, sizeof(ret->arch));
	libc_of(ret->libc, sizeof(ret->libc));
	if (hf_read_file(AT_FDCWD, "/etc/os-release", OS_RELEASE_MAX, &text, &len) == 0)
		hf_release_host_distro(text, len, ret);
}

/* ---- keys --------------------------------------------------------------------------------------- */

/* 0 with *ret NULL: there is none. */
static int read_list(int dir, const char *path, struct hf_keylist **ret, struct hf_err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = hf_read_file(dir, path, HF_KEYLIST_SIZE_MAX, &text, &len);

	*ret = NULL;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return hf_err_set(err, r, "'%s': %s", path, strerror(-r));
	r = hf_keylist_decode(text, len, ret, err);
	if (r < 0)
		(void)hf_err_wrap(err, "'%s'", path);
	return r;
}

enum hf_refusal hf_release_keys_load(int releases, const char *etc_path, struct hf_keylist **ret,
				     struct hf_err *err)
{
	_cleanup_free_ struct hf_keylist *accepted = NULL, *given = NULL;
	enum hf_refusal refusal = HF_RELEASE_NO_KEYS;
	struct hf_err given_err = {};

	*ret = NULL;
	/* A damaged one must not stand in the way of the package's, which is not older than nothing. */
	(void)read_list(releases, ACCEPTED, &accepted, err);
	if (accepted && hf_keylist_judge(accepted, NULL, err) != HF_RELEASE_OK) {
		free(accepted);
		accepted = NULL;
	}
	if (read_list(AT_FDCWD, etc_path, &given, &given_err) < 0 && !accepted) {
		(void)hf_err_set(err, given_err.code, "%s", given_err.msg);
		return HF_RELEASE_NO_KEYS;
	}
	if (given) {
		refusal = hf_keylist_judge(given, accepted, &given_err);
		if (refusal == HF_RELEASE_OK) {
			*ret = TAKE_PTR(given);
			return HF_RELEASE_OK;
		}
	}
	if (accepted) {
		/* Said, since somebody may have meant to replace it. */
		if (given && refusal != HF_RELEASE_KEYS_OLDER)
			(void)hf_err_set(err, 0, "'%s' is not used: %s", etc_path, given_err.msg);
		*ret = TAKE_PTR(accepted);
		return HF_RELEASE_OK;
	}
	if (given)
		(void)hf_err_set(err, -EKEYREJECTED, "'%s': %s", etc_path, given_err.msg);
	else
		(void)hf_err_set(err, -ENOENT, "%s: '%s' is missing",
				 hf_refusal_text(HF_RELEASE_NO_KEYS), etc_path);
	return refusal;
}

enum hf_refusal hf_release_keys_take(int releases, const char *etc_path, const void *text,
				     size_t len, struct hf_err *err)
{
	_cleanup_free_ struct hf_keylist *trusted = NULL, *next = NULL;
	enum hf_refusal refusal;
	int r = hf_keylist_decode(text, len, &next, err);

	if (r < 0)
		return HF_RELEASE_NO_KEYS;
	refusal = hf_release_keys_load(releases, etc_path, &trusted, err);
	if (refusal != HF_RELEASE_OK)
		return refusal; /* the first one comes with the package, never from a stranger */
	refusal = hf_keylist_judge(next, trusted, err);
	if (refusal != HF_RELEASE_OK)
		return refusal;
	r = hf_write_file_atomic(releases, ACCEPTED, text, len, 0600);
	if (r < 0) {
		(void)hf_err_set(err, r, "write the list of keys: %s", strerror(-r));
		return HF_RELEASE_NO_KEYS;
	}
	err->code = 0;
	return HF_RELEASE_OK;
}
