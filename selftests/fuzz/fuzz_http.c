/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP parser, both kinds. The first byte chooses kind, body rule and how the bytes are cut.
 * Beyond not crashing: whole and cut give the same answer, bounds hold, strings end inside.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/net/http.h"

#define MAX_BODY 100u

struct outcome {
	ssize_t error;
	size_t taken;
	bool complete;
	uint32_t sum; /* of everything a user of the message sees */
};

static uint32_t add(uint32_t sum, const char *s)
{
	for (; *s; s++)
		sum = sum * 31 + (unsigned char)*s;
	return sum * 31 + 1;
}

static uint32_t look_at(const struct hf_http_message *m)
{
	char path[HF_HTTP_TARGET_MAX], value[64];
	const char *query;
	uint32_t sum = m->minor + 2 * m->keep_alive + 4 * m->upgrade_websocket;

	hf_assert(m->n_headers <= HF_HTTP_HEADERS_MAX && m->body_len <= MAX_BODY);
	for (size_t i = 0; i < m->n_headers; i++)
		sum = add(add(sum, m->headers[i].name), m->headers[i].value);
	for (size_t i = 0; i < m->body_len; i++)
		sum = sum * 31 + m->body[i];
	if (m->kind == HF_HTTP_RESPONSE)
		return add(sum + m->status, m->reason);
	hf_assert(strlen(m->target) < HF_HTTP_TARGET_MAX);
	if (hf_http_split_target(m->target, path, sizeof(path), &query) == 0) {
		hf_assert(path[0] == '/' && !strstr(path, "/../"));
		(void)hf_http_query(query, "a", value, sizeof(value));
	}
	return add(add(sum, m->method), m->target);
}

static struct outcome parse(enum hf_http_kind kind, bool no_body, const uint8_t *data, size_t size,
			    size_t step, bool eof)
{
	struct outcome o = {};
	struct hf_http_parser *p;

	hf_assert(hf_http_parser_new(kind, MAX_BODY, no_body, &p) == 0);
	for (size_t at = 0; at < size && !o.complete && o.error == 0; at += step) {
		size_t n = size - at < step ? size - at : step;
		uint8_t *copy = malloc(n);
		ssize_t r;

		hf_assert(copy);
		memcpy(copy, data + at, n);
		r = hf_http_parse(p, copy, n);
		free(copy);
		if (r < 0)
			o.error = r;
		else
			o.taken += (size_t)r;
		o.complete = hf_http_parser_message(p) != NULL;
		hf_assert(r < 0 || o.complete || (size_t)r == n);
	}
	if (eof && o.error == 0 && !o.complete) {
		o.error = hf_http_parser_eof(p);
		o.complete = hf_http_parser_message(p) != NULL;
	}
	if (o.complete)
		o.sum = look_at(hf_http_parser_message(p));
	hf_http_parser_free(p);
	return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, cut;
	enum hf_http_kind kind;
	bool no_body, eof;
	size_t step;

	if (size < 2)
		return 0;
	kind = data[0] & 1 ? HF_HTTP_RESPONSE : HF_HTTP_REQUEST;
	no_body = data[0] & 2;
	eof = data[0] & 4;
	step = 1 + (data[0] >> 3);
	whole = parse(kind, no_body, data + 1, size - 1, size, eof);
	cut = parse(kind, no_body, data + 1, size - 1, step, eof);
	hf_assert(whole.error == cut.error && whole.complete == cut.complete);
	hf_assert(!whole.complete || (whole.taken == cut.taken && whole.sum == cut.sum));
	return 0;
}
