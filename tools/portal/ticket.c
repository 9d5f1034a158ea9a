/* SPDX-License-Identifier: Apache-2.0 */
/* 32 secret bytes in a file; its time of change is the age of the key. */
#include "tools/portal/ticket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/str.h"
#include "tools/portal/token.h"

#define SECRET_SIZE   32
#define AGE_MAX_S     (7u * 24 * 3600) /* as long as a ticket lives (RFC 8446 section 4.6.1) */
#define CA_BUNDLE_MAX (1u << 20)

static bool young(int dirfd, uint64_t now_unix_ns)
{
	uint64_t now_s = now_unix_ns / HF_NS_PER_S;
	struct stat st;

	/* One of the future is of a clock that was wrong: not to be trusted for its age. */
	return fstatat(dirfd, HF_TICKET_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && (st.st_mode & 077) == 0 && (uint64_t)st.st_mtime <= now_s &&
	       now_s - (uint64_t)st.st_mtime < AGE_MAX_S;
}

static int load_secret(int dirfd, uint64_t now_unix_ns, uint8_t secret[static SECRET_SIZE])
{
	char *data = NULL;
	size_t len = 0;
	int r = young(dirfd, now_unix_ns)
			? hf_read_file(dirfd, HF_TICKET_FILE, SECRET_SIZE, &data, &len)
			: -ENOENT;

	if (r == 0 && len == SECRET_SIZE) {
		memcpy(secret, data, SECRET_SIZE);
		hf_wipe(data, len);
		free(data);
		return 0;
	}
	free(data);
	hf_random_bytes(secret, SECRET_SIZE);
	return hf_write_file_atomic(dirfd, HF_TICKET_FILE, secret, SECRET_SIZE, 0600);
}

int hf_ticket_keys(int dirfd, const char *client_ca, uint64_t now_unix_ns,
		   uint8_t keys[static HF_TLS_TICKET_KEYS_SIZE], struct hf_err *err)
{
	uint8_t block[1 + SECRET_SIZE + HF_HASH_SIZE], hash[HF_HASH_SIZE];
	_cleanup_free_ char *bundle = NULL;
	size_t len;
	int r = hf_read_file(AT_FDCWD, client_ca, CA_BUNDLE_MAX, &bundle, &len);

	if (r < 0)
		return hf_err_set(err, r, "read '%s': %s", client_ca, strerror(-r));
	hf_hash_sha256(bundle, len, block + 1 + SECRET_SIZE);
	r = load_secret(dirfd, now_unix_ns, block + 1);
	if (r < 0)
		return hf_err_set(err, r, "write '" HF_TICKET_FILE "': %s", strerror(-r));
	for (size_t at = 0; at < HF_TLS_TICKET_KEYS_SIZE; at += HF_HASH_SIZE) {
		size_t rest = HF_TLS_TICKET_KEYS_SIZE - at;

		block[0] = (uint8_t)(at / HF_HASH_SIZE);
		hf_hash_sha256(block, sizeof(block), hash);
		memcpy(keys + at, hash, rest < HF_HASH_SIZE ? rest : HF_HASH_SIZE);
	}
	hf_wipe(block, sizeof(block));
	hf_wipe(hash, sizeof(hash));
	return 0;
}
