/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of strangers that the portal takes apart: tokens, Cookie headers, paths. What is taken is
 * of its form; what a path matches is within bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/str.h"
#include "tools/portal/auth.h"
#include "tools/portal/router.h"
#include "tools/portal/token.h"

static void path(const char *text)
{
	char decoded[HF_HTTP_TARGET_MAX], id[64], value[32];
	const char *query;
	size_t n;
	const struct hf_route *routes = hf_router_table(&n);

	if (hf_http_split_target(text, decoded, sizeof(decoded), &query) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		memset(id, 'x', sizeof(id));
		if (hf_router_match(routes[i].path, decoded, id, sizeof(id)) &&
		    strstr(routes[i].path, "{id}"))
			hf_assert(memchr(id, '\0', sizeof(id)) && !strchr(id, '/') && id[0]);
	}
	if (query)
		(void)hf_http_query(query, "limit", value, sizeof(value)); /* any answer is right */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), value[65];
	struct hf_secret s;

	hf_assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	if (hf_secret_parse(text, &s) == 0)
		hf_assert(s.kind < _HF_SECRET_KIND_MAX &&
			  (strlen(s.id) == 16 || strlen(s.id) == 32));
	if (hf_cookie_value(text, HF_SESSION_COOKIE, value, sizeof(value)))
		hf_assert(strlen(value) < sizeof(value) && !strchr(value, ';'));
	if (hf_name_valid(text, 64))
		hf_assert(strlen(text) < 64 && hf_utf8_valid(text, strlen(text)));
	path(text);
	free(text);
	return 0;
}
