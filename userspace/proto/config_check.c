/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms of configuration values: URLs, addresses, pins, names. They refuse what could never work,
 * so that the mistake is found by `holdfast config check` and not by an outage; whether a host
 * exists is not asked here.
 */
#include "userspace/proto/config_check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "holdfast/config.h"

#define LETTERS_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* RFC 1035 2.3.4: 253 characters of a name as text. */
#define HOST_MAX 253

static bool only(const char *text, const char *alphabet)
{
	return *text && text[strspn(text, alphabet)] == '\0';
}

static bool valid_host(const char *host, bool bracketed)
{
	struct in6_addr v6;

	if (bracketed)
		return inet_pton(AF_INET6, host, &v6) == 1;
	return strlen(host) <= HOST_MAX && only(host, LETTERS_DIGITS "-._") && *host != '.' &&
	       *host != '-';
}

int hf_config_split_host_port(const char *text, char *host, size_t host_size, uint16_t *ret_port)
{
	bool bracketed = *text == '[';
	const char *start = text + bracketed;
	const char *end = bracketed ? strchr(text, ']') : strchr(text, ':');
	char copy[HOST_MAX + 1];
	uint32_t port;
	size_t len;

	if (!end)
		return -EINVAL;
	len = (size_t)(end - start);
	if (len >= sizeof(copy) || len >= host_size)
		return -EINVAL;
	memcpy(copy, start, len);
	copy[len] = '\0';
	if (!valid_host(copy, bracketed) || end[bracketed] != ':')
		return -EINVAL;
	if (hf_parse_u32(end + bracketed + 1, &port) < 0 || port > UINT16_MAX)
		return -EINVAL;
	memcpy(host, copy, len + 1);
	*ret_port = (uint16_t)port;
	return 0;
}

/* What stands between "//" and the path: a host, with a port or without. */
static bool valid_authority(const char *text, size_t len, bool need_port)
{
	char authority[HOST_MAX + 16], host[HOST_MAX + 1];
	uint16_t port;

	if (len + sizeof(":443") > sizeof(authority))
		return false;
	memcpy(authority, text, len);
	authority[len] = '\0';
	if (hf_config_split_host_port(authority, host, sizeof(host), &port) == 0)
		return port > 0;
	if (need_port)
		return false;
	memcpy(authority + len, ":443", sizeof(":443"));
	return hf_config_split_host_port(authority, host, sizeof(host), &port) == 0;
}

static bool valid_url(const char *text, const char *scheme)
{
	size_t len;

	if (!hf_startswith(text, scheme))
		return false;
	text += strlen(scheme);
	len = strcspn(text, "/?#");
	if (!valid_authority(text, len, false))
		return false;
	/* The rest goes into a request line as it is; a fragment never does. */
	for (text += len; *text; text++)
		if (*text <= ' ' || *text > '~' || *text == '#')
			return false;
	return true;
}

const char *hf_check_environment(const char *text)
{
	return only(text, "abcdefghijklmnopqrstuvwxyz0123456789-_")
		       ? NULL
		       : "a word of a-z, 0-9, '-' and '_', such as prod or dev";
}

const char *hf_check_portal_url(const char *text)
{
	return valid_url(text, "wss://") || valid_url(text, "https://")
		       ? NULL
		       : "a URL such as wss://portal.example.com/v1/opamp";
}

const char *hf_check_public_url(const char *text)
{
	return valid_url(text, "https://") ? NULL : "a URL such as https://portal.example.com";
}

const char *hf_check_proxy(const char *text)
{
	static const char expected[] = "a proxy such as http://proxy.example.com:3128";
	const char *at;

	if (!hf_startswith(text, "http://"))
		return expected;
	text += strlen("http://");
	at = strrchr(text, '@');
	if (at) {
		/* user or user:password, percent-encoded where needed */
		for (const char *p = text; p < at; p++)
			if (*p <= ' ' || *p > '~' || *p == '/' || *p == '@')
				return expected;
		if (at == text || *text == ':')
			return expected;
		text = at + 1;
	}
	if (hf_endswith(text, "/"))
		return valid_authority(text, strlen(text) - 1, true) ? NULL : expected;
	return valid_authority(text, strlen(text), true) ? NULL : expected;
}

const char *hf_check_no_proxy(const char *text)
{
	return only(text, LETTERS_DIGITS "-._:/[]*") ? NULL : "a host, .domain, address or network";
}

const char *hf_check_pin(const char *text)
{
	static const char expected[] = "a pin as sha256/ and the base64 of 32 bytes";
	uint8_t digest[32];
	size_t len = sizeof(digest);

	if (!hf_startswith(text, "sha256/"))
		return expected;
	text += strlen("sha256/");
	if (hf_base64_decode(digest, &len, text, strlen(text)) < 0 || len != sizeof(digest))
		return expected;
	return NULL;
}

const char *hf_check_user(const char *text)
{
	uint32_t uid;

	/* (uid_t)-1 means "no change" to the kernel. */
	if (hf_parse_u32(text, &uid) == 0)
		return uid != UINT32_MAX ? NULL : "a user name or number";
	/* useradd(8) allows these, at most 32. */
	if (strlen(text) <= 32 && only(text, LETTERS_DIGITS "-_.") && *text != '-' && *text != '.')
		return NULL;
	return "a user name or number";
}

const char *hf_check_listen(const char *text)
{
	char host[HOST_MAX + 1];
	uint16_t port;

	return hf_config_split_host_port(text, host, sizeof(host), &port) == 0
		       ? NULL
		       : "an address such as 0.0.0.0:4320 or [::]:4320";
}

const char *hf_check_loopback_listen(const char *text)
{
	char host[HOST_MAX + 1];
	uint16_t port;

	struct in_addr v4;

	if (hf_config_split_host_port(text, host, sizeof(host), &port) == 0 && port > 0 &&
	    (hf_streq(host, "::1") || hf_streq(host, "localhost") ||
	     (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127)))
		return NULL;
	return "a loopback address such as 127.0.0.1:9464 or [::1]:9464";
}

/* As a scan compares it with what it meets: no "..", no "//", no newline (parameters are lines). */
const char *hf_check_absolute_path(const char *text)
{
	static const char expected[] = "an absolute path such as /etc, without '..' and '//'";
	size_t len = strlen(text);

	if (*text != '/' || len >= 4096 || strstr(text, "//") || strstr(text, "/../") ||
	    strstr(text, "/./") || hf_endswith(text, "/..") || hf_endswith(text, "/.") ||
	    (len > 1 && text[len - 1] == '/'))
		return expected;
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return expected;
	return NULL;
}

const char *hf_check_port(const char *text)
{
	uint32_t port;

	return hf_parse_u32(text, &port) == 0 && port >= 1 && port <= UINT16_MAX
		       ? NULL
		       : "a port from 1 to 65535";
}

const char *hf_check_unit(const char *text)
{
	/* What systemd allows in a unit's name, escapes included; the kernel side keeps 95 bytes. */
	return strlen(text) <= 95 && only(text, LETTERS_DIGITS ":-_.\\@") && *text != '.'
		       ? NULL
		       : "a unit such as nginx.service";
}

const char *hf_check_drop_reason(const char *text)
{
	return strlen(text) <= 63 && only(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
		       ? NULL
		       : "a reason such as NETFILTER_DROP";
}
