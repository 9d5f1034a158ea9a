/* SPDX-License-Identifier: Apache-2.0 */
/*
 * URLs, request targets and their queries. Nothing is guessed: a character outside RFC 3986, an
 * unfinished escape or an escape that hides a control character is -EINVAL.
 */
#include "userspace/net/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* plus: '+' is a space (queries). -EINVAL, -ENOBUFS. */
static int percent_decode(const char *s, size_t len, bool plus, char *dst, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			if (i + 2 >= len || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0)
				return -EINVAL;
			c = hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c < 0x20 || c == 0x7f)
			return -EINVAL;
		if (n + 1 >= size)
			return -ENOBUFS;
		dst[n++] = (char)c;
	}
	dst[n] = '\0';
	return 0;
}

static bool has_dot_dot(const char *path)
{
	for (const char *s = path; s; s = strchr(s, '/')) {
		if (*s == '/')
			s++;
		if (s[0] == '.' && s[1] == '.' && (s[2] == '/' || s[2] == '\0'))
			return true;
	}
	return false;
}

int hf_http_split_target(const char *target, char *path, size_t path_size, const char **ret_query)
{
	const char *query;
	size_t len;
	int r;

	/* absolute-form, which a server must accept: the authority is the Host header's business. */
	if (target[0] != '/') {
		const char *rest = strstr(target, "://");

		if (!rest)
			return -EINVAL;
		target = rest + 3 + strcspn(rest + 3, "/?");
		if (target[0] != '/')
			return -EINVAL;
	}
	query = strchr(target, '?');
	len = query ? (size_t)(query - target) : strlen(target);
	r = percent_decode(target, len, false, path, path_size);
	if (r < 0)
		return -EINVAL;
	if (has_dot_dot(path) || !hf_utf8_valid(path, strlen(path)))
		return -EINVAL;
	if (ret_query)
		*ret_query = query ? query + 1 : "";
	return 0;
}

int hf_http_query(const char *query, const char *key, char *dst, size_t size)
{
	char name[128];

	if (!query)
		return -ENOENT;
	while (*query) {
		size_t len = strcspn(query, "&"), name_len = strcspn(query, "=&");
		int r = percent_decode(query, name_len, true, name, sizeof(name));

		if (r == -EINVAL)
			return r;
		/* A name too long to hold is none of ours. */
		if (r == 0 && hf_streq(name, key)) {
			size_t skip = name_len < len ? name_len + 1 : name_len;

			r = percent_decode(query + skip, len - skip, true, dst, size);
			if (r < 0)
				return r;
			return hf_utf8_valid(dst, strlen(dst)) ? 0 : -EINVAL;
		}
		query += len;
		if (*query == '&')
			query++;
	}
	return -ENOENT;
}

/* ---- URLs ------------------------------------------------------------------------------------ */

static int parse_port(const char *s, size_t len, uint16_t *ret)
{
	char text[6];
	uint32_t port;

	/* "host:" means the default port (RFC 3986 section 6.2.3). */
	if (len == 0)
		return 0;
	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, len);
	text[len] = '\0';
	if (hf_parse_u32(text, &port) < 0 || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

/* "[2001:db8::1]" or, with a zone, "[fe80::1%25eth0]" (RFC 6874). s is behind the bracket. */
static int parse_ipv6(const char *s, size_t len, struct hf_url *u)
{
	struct in6_addr addr;
	char bare[INET6_ADDRSTRLEN];
	const char *zone = memchr(s, '%', len);
	size_t addr_len = zone ? (size_t)(zone - s) : len;

	if (addr_len >= sizeof(bare) || len >= sizeof(u->host))
		return -EINVAL;
	memcpy(bare, s, addr_len);
	bare[addr_len] = '\0';
	if (inet_pton(AF_INET6, bare, &addr) != 1)
		return -EINVAL;
	if (zone) {
		size_t zone_len = len - addr_len - 1;

		if (zone_len < 3 || zone[1] != '2' || zone[2] != '5' || zone_len - 2 > 15)
			return -EINVAL;
		for (size_t i = 3; i <= zone_len; i++)
			if (zone[i] <= ' ' || zone[i] >= 0x7f || strchr("/[]%", zone[i]))
				return -EINVAL;
		(void)hf_strf(u->host, sizeof(u->host), "%s%%%.*s", bare, (int)(zone_len - 2),
			      zone + 3);
	} else {
		(void)hf_strlcpy(u->host, bare, sizeof(u->host));
	}
	u->ipv6 = true;
	return 0;
}

/* A DNS name or an IPv4 address. Internationalised names come as "xn--…". */
static int parse_host(const char *s, size_t len, struct hf_url *u)
{
	size_t label = 0;

	/* 253 visible characters are DNS's limit, and one more for the final dot. */
	if (len == 0 || len > 254)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (c == '.') {
			if (label == 0)
				return -EINVAL;
			label = 0;
		} else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
			   c == '_') {
			if (++label > 63)
				return -EINVAL;
		} else {
			return -EINVAL;
		}
		u->host[i] = c;
	}
	u->host[len] = '\0';
	return 0;
}

static int parse_authority(const char *s, size_t len, struct hf_url *u)
{
	const char *at = memrchr(s, '@', len), *end = s + len, *colon;
	int r;

	if (at) {
		r = percent_decode(s, (size_t)(at - s), false, u->userinfo, sizeof(u->userinfo));
		if (r < 0)
			return -EINVAL;
		s = at + 1;
	}
	if (s < end && *s == '[') {
		const char *close = memchr(s, ']', (size_t)(end - s));

		if (!close)
			return -EINVAL;
		r = parse_ipv6(s + 1, (size_t)(close - s - 1), u);
		if (r < 0)
			return r;
		colon = close + 1;
		if (colon < end && *colon != ':')
			return -EINVAL;
	} else {
		colon = memchr(s, ':', (size_t)(end - s));
		if (!colon)
			colon = end;
		r = parse_host(s, (size_t)(colon - s), u);
		if (r < 0)
			return r;
	}
	return colon < end ? parse_port(colon + 1, (size_t)(end - colon - 1), &u->port) : 0;
}

static int parse_scheme(const char *s, struct hf_url *u, const char **ret_rest)
{
	static const struct {
		const char *prefix;
		bool tls;
	} schemes[] = {{"https://", true}, {"http://", false}, {"wss://", true}, {"ws://", false}};

	for (size_t i = 0; i < HF_ARRAY_SIZE(schemes); i++) {
		size_t len = strlen(schemes[i].prefix);

		if (strncasecmp(s, schemes[i].prefix, len) != 0)
			continue;
		u->tls = schemes[i].tls;
		u->port = schemes[i].tls ? 443 : 80;
		*ret_rest = s + len;
		return 0;
	}
	return -EINVAL;
}

int hf_url_parse(const char *s, struct hf_url *ret)
{
	struct hf_url u = {};
	const char *path;
	size_t len;
	int r;

	r = parse_scheme(s, &u, &s);
	if (r < 0)
		return r;
	len = strcspn(s, "/?#");
	path = s + len;
	r = parse_authority(s, len, &u);
	if (r < 0)
		goto cleanup;
	for (const char *c = path; *c; c++)
		if (*c <= 0x20 || *c >= 0x7f || *c == '#')
			r = -EINVAL;
	if (r == 0 && !hf_strf(u.path, sizeof(u.path), "%s%s", *path == '/' ? "" : "/", path))
		r = -EINVAL;
	if (r == 0)
		*ret = u;
cleanup:
	hf_wipe(u.userinfo, sizeof(u.userinfo));
	return r;
}

void hf_url_authority(const struct hf_url *u, char *dst, size_t size)
{
	/* A zone is this host's business and never leaves it. */
	int len = (int)strcspn(u->host, "%");

	(void)hf_strf(dst, size, u->ipv6 ? "[%.*s]:%u" : "%.*s:%u", len, u->host, u->port);
}
