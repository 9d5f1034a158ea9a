/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The web page's files, linked into the binary plain and gzipped (ui_assets.S, ui.mk). Served with
 * an ETag and a content security policy that allows nothing but these files and our own API.
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/token.h"

#define ASSET(name)                                                                     \
	extern const uint8_t hf_ui_##name[], hf_ui_##name##_end[], hf_ui_##name##_gz[], \
		hf_ui_##name##_gz_end[]

ASSET(index_html);
ASSET(app_js);
ASSET(lib_js);
ASSET(endpoints_js);
ASSET(app_css);
ASSET(icon_svg);

/* clang-format off */
static const struct asset {
	const char *name; /* below /ui/; "" is the page itself */
	const char *type;
	const uint8_t *data, *data_end, *gz, *gz_end;
} assets[] = {
#define ENTRY(name, type, s) {name, type, hf_ui_##s, hf_ui_##s##_end, hf_ui_##s##_gz, hf_ui_##s##_gz_end}
	ENTRY("", "text/html; charset=utf-8", index_html),
	ENTRY("app.js", "text/javascript; charset=utf-8", app_js),
	ENTRY("lib.js", "text/javascript; charset=utf-8", lib_js),
	ENTRY("endpoints.js", "text/javascript; charset=utf-8", endpoints_js),
	ENTRY("app.css", "text/css; charset=utf-8", app_css),
	ENTRY("icon.svg", "image/svg+xml", icon_svg),
#undef ENTRY
};
/* clang-format on */

#define POLICY                                                                               \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; " \
	"img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "          \
	"frame-ancestors 'none'\r\nX-Frame-Options: DENY\r\n"

static void etag_of(const struct asset *a, char dst[static 40])
{
	uint8_t hash[HF_HASH_SIZE];

	hf_hash_sha256(a->data, (size_t)(a->data_end - a->data), hash);
	dst[0] = '"';
	hf_hex_encode(dst + 1, hash, 16);
	(void)hf_strlcpy(dst + 33, "\"", 2);
}

void hf_ui_asset(struct hf_portal *p, struct hf_request *rq)
{
	const struct asset *a = NULL;
	const char *known = hf_http_header(rq->msg, "If-None-Match");
	bool gzip = hf_http_has_token(rq->msg, "Accept-Encoding", "gzip");
	char etag[40], headers[512];

	(void)p;
	for (size_t i = 0; i < HF_ARRAY_SIZE(assets) && !a; i++) {
		if (hf_streq(assets[i].name, rq->id))
			a = &assets[i];
	}
	if (!a) {
		hf_reply_problem(rq->conn, 404, "not_found", "there is no such file");
		return;
	}
	etag_of(a, etag);
	(void)hf_strf(headers, sizeof(headers),
		      "ETag: %s\r\nVary: Accept-Encoding\r\nCache-Control: no-cache\r\n%s" POLICY,
		      etag, gzip ? "Content-Encoding: gzip\r\n" : "");
	if (known && strstr(known, etag)) {
		hf_conn_reply(rq->conn, &(struct hf_reply){.status = 304,
							   .headers = headers,
							   .cacheable = true});
		return;
	}
	hf_conn_reply(rq->conn, &(struct hf_reply){.status = 200,
						   .type = a->type,
						   .body = gzip ? a->gz : a->data,
						   .len = gzip ? (size_t)(a->gz_end - a->gz)
							       : (size_t)(a->data_end - a->data),
						   .headers = headers,
						   .cacheable = true});
}
