/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP parser: what is refused first, then what is understood, each independent of how the
 * bytes were cut.
 */
#include "selftests/unit/test_util.h"

#include "userspace/net/http.h"

#define GET  "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

struct outcome {
	ssize_t error; /* 0 or the first negative answer */
	size_t taken;
	bool complete;
};

/* Feeds data in pieces: [0, cut), [cut, len), or single bytes when cut is SIZE_MAX. */
static struct outcome feed(struct hf_http_parser *p, const char *data, size_t len, size_t cut)
{
	struct outcome o = {};
	size_t at = 0;

	while (at < len) {
		size_t n = cut == SIZE_MAX ? 1 : at < cut ? cut - at : len - at;
		/* An exact-size copy, so that a sanitizer sees every read past the end. */
		uint8_t *piece = malloc(n);
		ssize_t r;

		assert_non_null(piece);
		memcpy(piece, data + at, n);
		r = hf_http_parse(p, piece, n);
		free(piece);
		if (r < 0) {
			o.error = r;
			break;
		}
		o.taken += (size_t)r;
		at += (size_t)r;
		if (hf_http_parser_message(p)) {
			o.complete = true;
			break;
		}
		assert_int_equal(r, n);
	}
	return o;
}

static void assert_same_however_cut(enum hf_http_kind kind, size_t max_body, const char *data,
				    size_t len, struct outcome want)
{
	/* Long floods are cut at fewer places: the quadratic test would take minutes. */
	size_t step = len > 600 ? len / 97 : 1;

	for (size_t cut = 0; cut <= len + step; cut += step) {
		_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
		struct outcome got;

		assert_ok(hf_http_parser_new(kind, max_body, false, &p));
		got = feed(p, data, len, cut > len ? SIZE_MAX : cut);
		if (got.error != want.error || got.complete != want.complete ||
		    (want.complete && got.taken != want.taken))
			fail_msg(
				"'%.60s' cut at %zu: error %zd taken %zu complete %d, wanted %zd %zu %d",
				data, cut, got.error, got.taken, got.complete, want.error,
				want.taken, want.complete);
		if (want.error < 0) {
			assert_null(hf_http_parser_message(p));
			assert_err(hf_http_parse(p, (const uint8_t *)"x", 1), want.error);
		}
	}
}

static void malformed_requests_are_refused_with_the_right_code(void **state)
{
	static const struct {
		const char *text;
		int error;
	} table[] = {
		{"\r\n\r\n" GET HOST "\r\n", -EBADMSG},
		{" GET / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET  / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET /  HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET / HTTP/1.1 \r\n" HOST "\r\n", -EBADMSG},
		{"GET /\r\n" HOST "\r\n", -EBADMSG},
		{"GET\r\n" HOST "\r\n", -EBADMSG},
		{"G\tET / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GE(T / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GETGETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET x HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET * HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET /a#b HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET /\x01 HTTP/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET / HTTP/1.2\r\n" HOST "\r\n", -EPROTONOSUPPORT},
		{"GET / HTTP/2.0\r\n" HOST "\r\n", -EPROTONOSUPPORT},
		{"PRI * HTTP/2.0\r\n\r\n", -EPROTONOSUPPORT},
		{"GET / HTTP/0.9\r\n" HOST "\r\n", -EPROTONOSUPPORT},
		{"GET / http/1.1\r\n" HOST "\r\n", -EBADMSG},
		{"GET / HTTP/11\r\n" HOST "\r\n", -EBADMSG},
		{"GET / HTTP/1.11\r\n" HOST "\r\n", -EBADMSG},
		{"GET / HTTP/1.1\n" HOST "\r\n", -EBADMSG},
		{GET "Host: a\n\r\n", -EBADMSG},
		{GET HOST "\n", -EBADMSG},
		{GET "Host: a\r\r\n\r\n", -EBADMSG},
		{GET "Host: a\rX: b\r\n\r\n", -EBADMSG},
		{GET HOST "X: a\r\n b\r\n\r\n", -EBADMSG},
		{GET HOST "X: a\r\n\tb\r\n\r\n", -EBADMSG},
		{GET HOST "X : a\r\n\r\n", -EBADMSG},
		{GET HOST "X\t: a\r\n\r\n", -EBADMSG},
		{GET HOST " X: a\r\n\r\n", -EBADMSG},
		{GET HOST ": a\r\n\r\n", -EBADMSG},
		{GET HOST "X\r\n\r\n", -EBADMSG},
		{GET HOST "X: a\x01\r\n\r\n", -EBADMSG},
		{GET HOST "X: a\x7f\r\n\r\n", -EBADMSG},
		{GET HOST "X@Y: a\r\n\r\n", -EBADMSG},
		{GET HOST "X\xe9: a\r\n\r\n", -EBADMSG},
		{GET "\r\n", -EBADMSG},
		{GET HOST HOST "\r\n", -EBADMSG},
		{GET HOST "host: b\r\n\r\n", -EBADMSG},
		{POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", -EBADMSG},
		{POST "Content-Length: 3, 3\r\n\r\nabc", -EBADMSG},
		{POST "Content-Length: +3\r\n\r\nabc", -EBADMSG},
		{POST "Content-Length: -3\r\n\r\nabc", -EBADMSG},
		{POST "Content-Length: 0x3\r\n\r\nabc", -EBADMSG},
		{POST "Content-Length: 3 4\r\n\r\nabc", -EBADMSG},
		{POST "Content-Length:\r\n\r\n", -EBADMSG},
		{POST "Content-Length: 65\r\n\r\n", -EMSGSIZE},
		{POST "Content-Length: 18446744073709551615\r\n\r\n", -EMSGSIZE},
		{POST "Content-Length: 99999999999999999999999999\r\n\r\n", -EMSGSIZE},
		{POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -EBADMSG},
		{POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", -ENOSYS},
		{POST "Transfer-Encoding: gzip, chunked\r\n\r\n", -ENOSYS},
		{POST "Transfer-Encoding: identity\r\n\r\n", -ENOSYS},
		{POST "Transfer-Encoding: \x0b"
		      "chunked\r\n\r\n",
		 -EBADMSG},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", -EBADMSG},
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
		{CHUNKED "\r\n", -EBADMSG},
		{CHUNKED "x\r\n", -EBADMSG},
		{CHUNKED "-1\r\n", -EBADMSG},
		{CHUNKED "0x1\r\na\r\n0\r\n\r\n", -EBADMSG},
		{CHUNKED "1 \r\na\r\n0\r\n\r\n", -EBADMSG},
		{CHUNKED "1\na\r\n0\r\n\r\n", -EBADMSG},
		{CHUNKED "1;a\rb\r\na\r\n0\r\n\r\n", -EBADMSG},
		{CHUNKED "1\r\nab\r\n0\r\n\r\n", -EBADMSG},
		{CHUNKED "1\r\na\n0\r\n\r\n", -EBADMSG},
		{CHUNKED "1\r\na\r0\r\n\r\n", -EBADMSG},
		{CHUNKED "41\r\n", -EMSGSIZE},
		{CHUNKED "FFFFFFFFFFFFFFFF\r\n", -EMSGSIZE},
		{CHUNKED "10000000000000000\r\n", -EMSGSIZE},
		{CHUNKED "10000000000000001\r\na\r\n", -EMSGSIZE},
		{CHUNKED
		 "3f\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n",
		 -EBADMSG},
		{CHUNKED "0\r\nX : y\r\n\r\n", -EBADMSG},
		{CHUNKED "0\r\nX\r\n\r\n", -EBADMSG},
		{CHUNKED "0\r\n\n", -EBADMSG},
		{"\x16\x03\x01\x02\r\n", 0}, /* a TLS hello: judged when the head ends … */
		{"\x16\x03\x01\x02\r\n\r\n", -EBADMSG}, /* … here */
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++)
		assert_same_however_cut(HF_HTTP_REQUEST, 64, table[i].text, strlen(table[i].text),
					(struct outcome){.error = table[i].error});
}

static void malformed_responses_are_refused(void **state)
{
	static const struct {
		const char *text;
		int error;
	} table[] = {
		{"\r\nHTTP/1.1 200 OK\r\n\r\n", -EBADMSG},
		{"HTTP/1.1\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 20\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 2000\r\n\r\n", -EBADMSG},
		{"HTTP/1.1  200 OK\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 2x0 OK\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 099 OK\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 600 OK\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 200 O\x1bK\r\n\r\n", -EBADMSG},
		{"HTTP/2.0 200 OK\r\n\r\n", -EPROTONOSUPPORT},
		{"ICY 200 OK and more\r\n\r\n", -EBADMSG},
		{"SSH-2.0-OpenSSH_9.2\r\n\r\n", -EBADMSG},
		{"HTTP/1.1 100 a\r\n\r\nHTTP/1.1 100 a\r\n\r\nHTTP/1.1 103 a\r\n\r\n"
		 "HTTP/1.1 103 a\r\n\r\nHTTP/1.1 102 a\r\n\r\nHTTP/1.1 200 a\r\n\r\n",
		 -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++)
		assert_same_however_cut(HF_HTTP_RESPONSE, 64, table[i].text, strlen(table[i].text),
					(struct outcome){.error = table[i].error});
}

static void a_nul_anywhere_in_the_head_is_refused(void **state)
{
	static const char text[] = "GET /x HTTP/1.1\r\nHost: a\r\nX: yz\r\n\r\n";

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		char copy[sizeof(text)];

		/* The final LF turned NUL only leaves the head unfinished. */
		if (text[i] == '\n')
			continue;
		memcpy(copy, text, sizeof(text));
		copy[i] = '\0';
		assert_same_however_cut(HF_HTTP_REQUEST, 64, copy, sizeof(text) - 1,
					(struct outcome){.error = -EBADMSG});
	}
}

static char *flood(const char *start, const char *unit, size_t bytes)
{
	struct hf_buf b = {};

	assert_ok(hf_buf_append(&b, start, strlen(start)));
	while (b.len < bytes)
		assert_ok(hf_buf_append(&b, unit, strlen(unit)));
	assert_ok(hf_buf_append(&b, "", 1));
	return (char *)b.data;
}

static void floods_end_at_their_bound(void **state)
{
	static const struct {
		const char *start, *unit;
		int error;
	} table[] = {
		{GET HOST, "X: y\r\n", -E2BIG},   {GET HOST "X: ", "y", -E2BIG},
		{GET HOST, "Xxxxxxxxx", -E2BIG},  {"", "GET", -E2BIG},
		{"GET /", "a", -E2BIG},           {CHUNKED "1;", "a", -EBADMSG},
		{CHUNKED "0", "0", -EBADMSG},     {CHUNKED "0\r\n", "X: y\r\n", -E2BIG},
		{CHUNKED "0\r\nX:", " ", -E2BIG}, {CHUNKED, "1\r\na\r\n", -EMSGSIZE},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		_cleanup_free_ char *text =
			flood(table[i].start, table[i].unit, 2 * HF_HTTP_HEAD_MAX);

		assert_same_however_cut(HF_HTTP_REQUEST, 64, text, strlen(text),
					(struct outcome){.error = table[i].error});
	}
}

static void more_headers_than_the_bound_are_refused(void **state)
{
	struct hf_buf b = {};
	size_t fits;

	(void)state;
	assert_ok(hf_buf_appendf(&b, GET HOST));
	for (unsigned i = 1; i < HF_HTTP_HEADERS_MAX; i++)
		assert_ok(hf_buf_appendf(&b, "X: %u\r\n", i));
	fits = b.len;
	assert_ok(hf_buf_appendf(&b, "\r\n"));
	assert_same_however_cut(HF_HTTP_REQUEST, 64, (char *)b.data, b.len,
				(struct outcome){.taken = b.len, .complete = true});
	b.len = fits;
	assert_ok(hf_buf_appendf(&b, "Y: 1\r\n\r\n"));
	assert_same_however_cut(HF_HTTP_REQUEST, 64, (char *)b.data, b.len,
				(struct outcome){.error = -E2BIG});
	hf_buf_done(&b);
}

static void a_target_of_the_longest_length_fits_and_one_more_does_not(void **state)
{
	(void)state;
	for (size_t extra = 0; extra < 2; extra++) {
		_cleanup_free_ char *target = flood("/", "a", HF_HTTP_TARGET_MAX - 1 + extra);
		_cleanup_free_ char *text = hf_asprintf("GET %s HTTP/1.1\r\n" HOST "\r\n", target);

		assert_non_null(text);
		assert_same_however_cut(HF_HTTP_REQUEST, 64, text, strlen(text),
					extra ? (struct outcome){.error = -E2BIG}
					      : (struct outcome){.taken = strlen(text),
								 .complete = true});
	}
}

static const struct hf_http_message *parse(struct hf_http_parser **p, enum hf_http_kind kind,
					   const char *text)
{
	assert_ok(hf_http_parser_new(kind, 4096, false, p));
	assert_int_equal(hf_http_parse(*p, (const uint8_t *)text, strlen(text)), strlen(text));
	return hf_http_parser_message(*p);
}

static void an_upgrade_request_is_understood(void **state)
{
	static const char text[] = "\r\nGET /v1/opamp?x=1 HTTP/1.1\r\nhost: p:4320\r\n"
				   "CONNECTION: keep-alive,Upgrade\r\nUpgrade:\t websocket \t\r\n"
				   "Empty:\r\nAuthorization: Bearer a:b\r\n\r\n";
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
	const struct hf_http_message *m = parse(&p, HF_HTTP_REQUEST, text);

	(void)state;
	assert_non_null(m);
	assert_string_equal(m->method, "GET");
	assert_string_equal(m->target, "/v1/opamp?x=1");
	assert_int_equal(m->minor, 1);
	assert_int_equal(m->n_headers, 5);
	assert_string_equal(hf_http_header(m, "Host"), "p:4320");
	assert_string_equal(hf_http_header(m, "upgrade"), "websocket");
	assert_string_equal(hf_http_header(m, "Empty"), "");
	assert_string_equal(hf_http_header(m, "Authorization"), "Bearer a:b");
	assert_null(hf_http_header(m, "Cookie"));
	assert_true(m->upgrade_websocket);
	assert_true(m->keep_alive);
	assert_false(m->expect_continue);
	assert_int_equal(m->body_len, 0);
	assert_same_however_cut(HF_HTTP_REQUEST, 64, text, strlen(text),
				(struct outcome){.taken = strlen(text), .complete = true});
}

static void what_follows_a_message_is_left(void **state)
{
	static const char *const bodies[] = {
		POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		CHUNKED "1;x=\"y\"\r\na\r\n02\r\nbc\r\n000\r\nT: u\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(bodies); i++) {
		_cleanup_free_ char *text = hf_asprintf("%sGET /next", bodies[i]);
		_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
		size_t want = strlen(bodies[i]);

		assert_non_null(text);
		assert_ok(hf_http_parser_new(HF_HTTP_REQUEST, 3, false, &p));
		assert_int_equal(hf_http_parse(p, (uint8_t *)text, strlen(text)), want);
		assert_non_null(hf_http_parser_message(p));
		assert_int_equal(hf_http_parser_message(p)->body_len, 3);
		assert_memory_equal(hf_http_parser_message(p)->body, "abc", 3);
		assert_int_equal(hf_http_parse(p, (uint8_t *)text + want, 4), 0);
		hf_http_parser_reset(p);
		assert_null(hf_http_parser_head(p));
		assert_int_equal(hf_http_parse(p, (const uint8_t *)GET HOST "\r\n", 27), 27);
		assert_non_null(hf_http_parser_message(p));
		assert_same_however_cut(HF_HTTP_REQUEST, 3, text, strlen(text),
					(struct outcome){.taken = want, .complete = true});
	}
}

static void the_head_is_readable_before_the_body(void **state)
{
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;

	(void)state;
	assert_null(parse(&p, HF_HTTP_REQUEST,
			  POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
	assert_non_null(hf_http_parser_head(p));
	assert_true(hf_http_parser_head(p)->expect_continue);
	assert_int_equal(hf_http_parse(p, (const uint8_t *)"x", 1), 1);
	assert_non_null(hf_http_parser_message(p));
}

static void persistence_follows_version_and_connection(void **state)
{
	static const struct {
		const char *text;
		bool keep;
	} table[] = {
		{GET HOST "\r\n", true},
		{GET HOST "Connection: Close\r\n\r\n", false},
		{GET HOST "Connection: a, close ,b\r\n\r\n", false},
		{GET HOST "Connection: closed\r\n\r\n", true},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++) {
		_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
		const struct hf_http_message *m = parse(&p, HF_HTTP_REQUEST, table[i].text);

		assert_non_null(m);
		assert_int_equal(m->keep_alive, table[i].keep);
		assert_false(m->upgrade_websocket);
	}
}

static void a_response_is_understood(void **state)
{
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
	const struct hf_http_message *m =
		parse(&p, HF_HTTP_RESPONSE,
		      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
		      "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nhi");

	(void)state;
	assert_non_null(m);
	assert_int_equal(m->status, 429);
	assert_string_equal(m->reason, "Too Many");
	assert_string_equal(hf_http_header(m, "retry-after"), "7");
	assert_null(hf_http_header(m, "link"));
	assert_int_equal(m->body_len, 2);
}

static void a_response_without_reason_is_understood(void **state)
{
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
	const struct hf_http_message *m =
		parse(&p, HF_HTTP_RESPONSE, "HTTP/1.1 204\r\nContent-Length: 9\r\n\r\n");

	(void)state;
	assert_non_null(m);
	assert_int_equal(m->status, 204);
	assert_string_equal(m->reason, "");
}

static void a_101_leaves_the_next_protocol_alone(void **state)
{
	static const char text[] =
		"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x82";
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;

	(void)state;
	assert_ok(hf_http_parser_new(HF_HTTP_RESPONSE, 64, false, &p));
	assert_int_equal(hf_http_parse(p, (const uint8_t *)text, strlen(text)), strlen(text) - 1);
	assert_non_null(hf_http_parser_message(p));
	assert_true(hf_http_parser_message(p)->upgrade_websocket);
}

static void a_connect_response_has_no_body(void **state)
{
	static const char text[] = "HTTP/1.1 200 ok\r\nContent-Length: 10\r\n\r\n\x16\x03";
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;

	(void)state;
	assert_ok(hf_http_parser_new(HF_HTTP_RESPONSE, 0, true, &p));
	assert_int_equal(hf_http_parse(p, (const uint8_t *)text, strlen(text)), strlen(text) - 2);
	assert_non_null(hf_http_parser_message(p));
}

static void a_response_without_length_ends_with_the_connection(void **state)
{
	_cleanup_(hf_http_parser_freep) struct hf_http_parser *p = NULL;
	const struct hf_http_message *m = parse(&p, HF_HTTP_RESPONSE, "HTTP/1.1 403 No\r\n\r\nwhy");

	(void)state;
	assert_null(m);
	assert_ok(hf_http_parser_eof(p));
	m = hf_http_parser_message(p);
	assert_non_null(m);
	assert_int_equal(m->body_len, 3);
	assert_false(m->keep_alive);
	hf_http_parser_reset(p);
	assert_err(hf_http_parser_eof(p), -EBADMSG);
	hf_http_parser_reset(p);
	assert_true(hf_http_parse(p,
				  (const uint8_t *)"HTTP/1.1 200 a\r\nContent-Length: 2\r\n\r\nx",
				  38) == 38);
	assert_err(hf_http_parser_eof(p), -EBADMSG);
	hf_http_parser_reset(p);
	/* An endless body ends at the caller's bound. */
	assert_true(hf_http_parse(p, (const uint8_t *)"HTTP/1.1 200 a\r\n\r\n", 18) == 18);
	for (unsigned i = 0; i < 4096 / 8; i++)
		assert_true(hf_http_parse(p, (const uint8_t *)"01234567", 8) == 8);
	assert_err(hf_http_parse(p, (const uint8_t *)"8", 1), -EMSGSIZE);
}

static void every_status_we_send_has_a_text(void **state)
{
	static const unsigned sent[] = {101, 200, 201, 204, 206, 400, 401, 403, 404, 405, 408,
					409, 413, 415, 416, 426, 429, 431, 500, 501, 503, 505};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(sent); i++)
		assert_string_not_equal(hf_http_status_text(sent[i]), "Unknown");
	assert_string_equal(hf_http_status_text(299), "Unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_requests_are_refused_with_the_right_code),
		cmocka_unit_test(malformed_responses_are_refused),
		cmocka_unit_test(a_nul_anywhere_in_the_head_is_refused),
		cmocka_unit_test(floods_end_at_their_bound),
		cmocka_unit_test(more_headers_than_the_bound_are_refused),
		cmocka_unit_test(a_target_of_the_longest_length_fits_and_one_more_does_not),
		cmocka_unit_test(an_upgrade_request_is_understood),
		cmocka_unit_test(what_follows_a_message_is_left),
		cmocka_unit_test(the_head_is_readable_before_the_body),
		cmocka_unit_test(persistence_follows_version_and_connection),
		cmocka_unit_test(a_response_is_understood),
		cmocka_unit_test(a_response_without_reason_is_understood),
		cmocka_unit_test(a_101_leaves_the_next_protocol_alone),
		cmocka_unit_test(a_connect_response_has_no_body),
		cmocka_unit_test(a_response_without_length_ends_with_the_connection),
		cmocka_unit_test(every_status_we_send_has_a_text),
	};

	return HF_RUN_TESTS(tests);
}
