/* SPDX-License-Identifier: Apache-2.0 */
/* JSON and problem+json bodies; which status an errno becomes. */
#include "tools/portal/reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/portal/conn.h"

void hf_reply_json_with(struct hf_conn *c, unsigned status, json_t *value, const char *headers)
{
	_cleanup_free_ char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	if (!text) {
		hf_conn_reply(c, &(struct hf_reply){.status = 500, .close = true});
		return;
	}
	hf_conn_reply(c, &(struct hf_reply){.status = status,
					    .type = "application/json",
					    .body = text,
					    .len = strlen(text),
					    .headers = headers});
}

void hf_reply_json(struct hf_conn *c, unsigned status, json_t *value)
{
	hf_reply_json_with(c, status, value, NULL);
}

void hf_reply_empty(struct hf_conn *c, unsigned status)
{
	hf_conn_reply(c, &(struct hf_reply){.status = status});
}

static void problem(struct hf_conn *c, unsigned status, const char *code, const char *headers,
		    const char *detail, va_list ap) __attribute__((format(printf, 5, 0)));

static void problem(struct hf_conn *c, unsigned status, const char *code, const char *headers,
		    const char *detail, va_list ap)
{
	_cleanup_free_ char *text = NULL;
	char sentence[512];
	json_t *o;

	(void)vsnprintf(sentence, sizeof(sentence), detail, ap);
	o = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title",
		      hf_http_status_text(status), "status", (int)status, "detail", sentence,
		      "code", code);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	hf_conn_reply(c, &(struct hf_reply){.status = status,
					    .type = text ? "application/problem+json" : NULL,
					    .body = text,
					    .len = text ? strlen(text) : 0,
					    .headers = headers});
}

void hf_reply_problem(struct hf_conn *c, unsigned status, const char *code, const char *detail, ...)
{
	va_list ap;

	va_start(ap, detail);
	problem(c, status, code, NULL, detail, ap);
	va_end(ap);
}

void hf_reply_problem_with(struct hf_conn *c, unsigned status, const char *code,
			   const char *headers, const char *detail, ...)
{
	va_list ap;

	va_start(ap, detail);
	problem(c, status, code, headers, detail, ap);
	va_end(ap);
}

void hf_reply_error(struct hf_conn *c, int r, const char *what)
{
	switch (r) {
	case -ENOENT:
		hf_reply_problem(c, 404, "not_found", "%s: there is no such thing", what);
		return;
	case -EEXIST:
		hf_reply_problem(c, 409, "conflict", "%s: it exists already", what);
		return;
	case -EINVAL:
		hf_reply_problem(c, 400, "invalid", "%s: a value is not valid", what);
		return;
	case -ENOBUFS:
	case -EBUSY:
		hf_reply_problem_with(c, 503, "overloaded", "Retry-After: 5\r\n",
				      "%s: the database cannot keep up", what);
		return;
	case -ENOSPC:
		hf_reply_problem(c, 507, "disk_full", "%s: the portal's disk is full", what);
		return;
	default:
		hf_reply_problem(c, 500, "internal", "%s: %s", what, strerror(-r));
		return;
	}
}
