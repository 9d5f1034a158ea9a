/* SPDX-License-Identifier: Apache-2.0 */
/* Hostname, distribution, kernel, boot id, machine id. */
#include "userspace/agent/host.h"

#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

bool hf_os_release_get(const char *text, const char *key, char *dst, size_t size)
{
	size_t n = strlen(key);

	for (const char *line = text; line && *line;) {
		const char *end = strchrnul(line, '\n');

		if ((size_t)(end - line) > n && strncmp(line, key, n) == 0 && line[n] == '=') {
			const char *v = line + n + 1, *v_end = end;

			/* os-release(5): the value may be in quotes; escapes are not seen in these keys. */
			if (v_end > v + 1 && (*v == '"' || *v == '\'') && v_end[-1] == *v) {
				v++;
				v_end--;
			}
			hf_strf(dst, size, "%.*s", (int)(v_end - v), v);
			hf_sanitize(dst);
			return true;
		}
		line = *end ? end + 1 : NULL;
	}
	return false;
}

static void read_distro(struct hf_host *h)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (hf_read_file(AT_FDCWD, "/etc/os-release", 16384, &text, &len) < 0 &&
	    hf_read_file(AT_FDCWD, "/usr/lib/os-release", 16384, &text, &len) < 0)
		return;
	(void)hf_os_release_get(text, "ID", h->distro, sizeof(h->distro));
	(void)hf_os_release_get(text, "VERSION_ID", h->distro_version, sizeof(h->distro_version));
	(void)hf_os_release_get(text, "PRETTY_NAME", h->pretty, sizeof(h->pretty));
}

static void read_machine_id(struct hf_host *h)
{
	_cleanup_free_ char *text = NULL;
	char salted[96];
	unsigned hash_len = sizeof(h->machine_id_hash);
	size_t len;

	if (hf_read_file(AT_FDCWD, "/etc/machine-id", 64, &text, &len) >= 0) {
		text[strcspn(text, "\r\n")] = 0;
		/* Never the id itself: it is meant to stay on the host, machine-id(5). */
		hf_strf(salted, sizeof(salted), "holdfast%s", text);
		(void)EVP_Digest(salted, strlen(salted), h->machine_id_hash, &hash_len,
				 EVP_sha256(), NULL); /* SHA-256 is always there; zeros otherwise */
	}
	hf_hex_encode(h->machine_id_hex, h->machine_id_hash, sizeof(h->machine_id_hash));
}

void hf_host_read(struct hf_host *h)
{
	struct utsname u;

	*h = (struct hf_host){};
	if (uname(&u) == 0) {
		hf_strlcpy(h->hostname, u.nodename, sizeof(h->hostname));
		hf_strlcpy(h->os, "linux", sizeof(h->os));
		hf_strlcpy(h->kernel, u.release, sizeof(h->kernel));
		hf_strlcpy(h->arch,
			   hf_streq(u.machine, "x86_64")    ? "amd64"
			   : hf_streq(u.machine, "aarch64") ? "arm64"
							    : u.machine,
			   sizeof(h->arch));
		hf_sanitize(h->hostname);
	}
	read_distro(h);
	(void)hf_boot_id(h->boot_id); /* zeros where /proc is not mounted */
	hf_uuid_format(h->boot_id, h->boot_id_text);
	read_machine_id(h);
}
