/* SPDX-License-Identifier: Apache-2.0 */
/*
 * URLs, targets, queries and no_proxy lists. What is accepted and written again is read as the
 * same; a decoded path never climbs.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "userspace/net/dial.h"
#include "userspace/net/http.h"

static void url(const char *text)
{
	char authority[300], again[3000];
	struct hf_url u, v;

	if (hf_url_parse(text, &u) < 0)
		return;
	hf_assert(u.port != 0 && u.host[0] && u.path[0] == '/');
	for (const char *c = u.userinfo; *c; c++)
		hf_assert((unsigned char)*c >= 0x20);
	hf_url_authority(&u, authority, sizeof(authority));
	hf_assert(!strpbrk(authority, " \r\n/@"));
	hf_assert(hf_strf(again, sizeof(again), "%s://%s%s", u.tls ? "https" : "http", authority,
			  u.path));
	hf_assert(hf_url_parse(again, &v) == 0);
	hf_assert(v.port == u.port && v.tls == u.tls && hf_streq(v.path, u.path));
	hf_assert(strncmp(v.host, u.host, strcspn(u.host, "%")) == 0);
}

static void target(const char *text)
{
	char path[256], value[16];
	const char *query;

	if (hf_http_split_target(text, path, sizeof(path), &query) < 0)
		return;
	hf_assert(path[0] == '/' && !strstr(path, "/../") && !hf_endswith(path, "/.."));
	hf_assert(hf_utf8_valid(path, strlen(path)));
	if (hf_http_query(query, "key", value, sizeof(value)) == 0)
		hf_assert(strlen(value) < sizeof(value) && hf_utf8_valid(value, strlen(value)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *comma;

	hf_assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	url(text);
	target(text);
	comma = strchr(text, '|');
	if (comma) {
		*comma = '\0';
		(void)hf_no_proxy_matches(text, comma + 1);
	}
	free(text);
	return 0;
}
