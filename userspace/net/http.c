/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 message parser. It gathers lines into one buffer until the empty line, cuts that
 * buffer up in place (so that header pointers live as long as the parser), then follows the body's
 * framing byte by byte.
 *
 * States: HEAD -> LENGTH | CHUNK_SIZE | UNTIL_EOF -> DONE, and FAILED from everywhere.
 *
 * I1  What is accepted never depends on how the bytes were cut into calls: a line is judged when
 *     its LF is there, and limits count bytes, not calls. Prevents a split that smuggles.
 * I2  A body has exactly one possible length: any doubt about framing is -EBADMSG.
 * I3  Nothing is allocated by what a peer announces, only by what it has sent.
 */
#include "userspace/net/http.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "base/assert.h"

/* An honest chunk line is a handful of hex digits; extensions have no user here. */
#define CHUNK_LINE_MAX 256u
/* Interim answers (100, 103) before the real one; more is a peer that keeps us busy. */
#define INTERIM_MAX 4u
#define METHOD_MAX  32u

enum state { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_EOF, DONE, FAILED };

struct hf_http_parser {
	enum hf_http_kind kind;
	enum state state;
	bool no_body;
	bool started; /* the start line's first byte is there */
	unsigned interim;
	int error;
	size_t max_body;
	uint64_t left;     /* of the body or the chunk */
	size_t line_start; /* in head: where the unfinished line begins */
	size_t trailer_len;
	struct hf_buf head; /* start line and headers */
	struct hf_buf line; /* the unfinished chunk or trailer line */
	struct hf_buf body;
	struct hf_http_message msg;
};

int hf_http_parser_new(enum hf_http_kind kind, size_t max_body, bool no_body,
		       struct hf_http_parser **ret)
{
	struct hf_http_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->kind = kind;
	p->max_body = max_body;
	p->no_body = no_body;
	*ret = p;
	return 0;
}

/* Tokens and cookies were in here. */
static void wipe_done(struct hf_buf *b)
{
	if (b->data)
		hf_wipe(b->data, b->cap);
	hf_buf_done(b);
}

/* Ready for the next head; how many interim messages came before it is kept. */
static void start_over(struct hf_http_parser *p)
{
	wipe_done(&p->head);
	wipe_done(&p->line);
	wipe_done(&p->body);
	p->state = HEAD;
	p->started = false;
	p->error = 0;
	p->left = 0;
	p->line_start = p->trailer_len = 0;
	memset(&p->msg, 0, sizeof(p->msg));
}

struct hf_http_parser *hf_http_parser_free(struct hf_http_parser *p)
{
	if (!p)
		return NULL;
	start_over(p);
	free(p);
	return NULL;
}

void hf_http_parser_reset(struct hf_http_parser *p)
{
	start_over(p);
	p->interim = 0;
}

const struct hf_http_message *hf_http_parser_head(const struct hf_http_parser *p)
{
	return p->state == HEAD || p->state == FAILED ? NULL : &p->msg;
}

const struct hf_http_message *hf_http_parser_message(const struct hf_http_parser *p)
{
	return p->state == DONE ? &p->msg : NULL;
}

/* ---- characters ------------------------------------------------------------------------------ */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 9110 section 5.6.2. */
static bool is_token_char(char c)
{
	return is_digit(c) || is_alpha(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!is_token_char(s[i]))
			return false;
	return len > 0;
}

/* RFC 9110 section 5.5: VCHAR, obs-text, SP and HTAB. */
static bool is_field_value(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static bool is_visible(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] <= 0x20 || s[i] >= 0x7f)
			return false;
	return len > 0;
}

/* ---- the head -------------------------------------------------------------------------------- */

static int parse_version(const char *s, size_t len, unsigned *ret_minor)
{
	if (len != 8 || memcmp(s, "HTTP/", 5) != 0 || !is_digit(s[5]) || s[6] != '.' ||
	    !is_digit(s[7]))
		return -EBADMSG;
	if (s[5] != '1' || s[7] > '1')
		return -EPROTONOSUPPORT;
	*ret_minor = (unsigned)(s[7] - '0');
	return 0;
}

/* The forms of RFC 9112 section 3.2; what a form means is the owner's business. */
static bool is_target(const char *method, const char *s, size_t len)
{
	if (!is_visible(s, len) || memchr(s, '#', len))
		return false;
	if (s[0] == '/' || hf_streq(method, "CONNECT"))
		return true;
	if (hf_streq(method, "OPTIONS") && len == 1 && s[0] == '*')
		return true;
	return strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0;
}

/* line ends with NUL; len does not count it. */
static int parse_request_line(struct hf_http_message *m, char *line, size_t len)
{
	char *target = memchr(line, ' ', len), *version, *end = line + len;
	int r;

	if (!target || !is_token(line, (size_t)(target - line)) || target - line > METHOD_MAX)
		return -EBADMSG;
	*target++ = '\0';
	version = memchr(target, ' ', (size_t)(end - target));
	if (!version)
		return -EBADMSG;
	*version++ = '\0';
	r = parse_version(version, (size_t)(end - version), &m->minor);
	if (r < 0)
		return r;
	if (!is_target(line, target, strlen(target)))
		return -EBADMSG;
	if (strlen(target) >= HF_HTTP_TARGET_MAX)
		return -E2BIG;
	m->method = line;
	m->target = target;
	return 0;
}

static int parse_status_line(struct hf_http_message *m, char *line, size_t len)
{
	int r;

	/* "HTTP/1.1 200" and an optional " reason"; some servers leave even the space away. */
	if (len < 12 || line[8] != ' ')
		return -EBADMSG;
	r = parse_version(line, 8, &m->minor);
	if (r < 0)
		return r;
	for (unsigned i = 9; i < 12; i++)
		if (!is_digit(line[i]))
			return -EBADMSG;
	if (len > 12 && line[12] != ' ')
		return -EBADMSG;
	m->status = (unsigned)(line[9] - '0') * 100 + (unsigned)(line[10] - '0') * 10 +
		    (unsigned)(line[11] - '0');
	if (m->status < 100 || m->status > 599)
		return -EBADMSG;
	m->reason = len > 12 ? line + 13 : line + len;
	if (!is_field_value(m->reason, (size_t)(line + len - m->reason)))
		return -EBADMSG;
	return 0;
}

static int parse_header_line(struct hf_http_message *m, char *line, size_t len)
{
	char *colon = memchr(line, ':', len), *value, *end = line + len;

	/* Folding and a space before the colon fail here: neither SP nor HTAB is a token's. */
	if (!colon || !is_token(line, (size_t)(colon - line)))
		return -EBADMSG;
	value = colon + 1;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (!is_field_value(value, (size_t)(end - value)))
		return -EBADMSG;
	if (m->n_headers == HF_HTTP_HEADERS_MAX)
		return -E2BIG;
	*colon = '\0';
	*end = '\0';
	m->headers[m->n_headers++] = (struct hf_http_header){.name = line, .value = value};
	return 0;
}

/* How many lines of this name; the first one's value. */
static unsigned count_header(const struct hf_http_message *m, const char *name,
			     const char **ret_first)
{
	unsigned n = 0;

	*ret_first = NULL;
	for (size_t i = 0; i < m->n_headers; i++)
		if (strcasecmp(m->headers[i].name, name) == 0 && n++ == 0)
			*ret_first = m->headers[i].value;
	return n;
}

static int content_length(const struct hf_http_message *m, bool *ret_given, uint64_t *ret)
{
	const char *first;
	int r;

	*ret_given = count_header(m, "Content-Length", &first) > 0;
	if (!*ret_given)
		return 0;
	for (size_t i = 0; i < m->n_headers; i++)
		if (strcasecmp(m->headers[i].name, "Content-Length") == 0 &&
		    !hf_streq(m->headers[i].value, first))
			return -EBADMSG;
	r = hf_parse_u64(first, ret);
	if (r == -ERANGE)
		return -EMSGSIZE;
	return r < 0 ? -EBADMSG : 0;
}

/* RFC 9112 section 6.3, with every doubtful case refused. */
static int decide_framing(struct hf_http_parser *p)
{
	const struct hf_http_message *m = &p->msg;
	const char *coding;
	unsigned codings = count_header(m, "Transfer-Encoding", &coding);
	bool has_length;
	uint64_t length = 0;
	int r;

	r = content_length(m, &has_length, &length);
	if (r < 0)
		return r;
	if (codings > 0 && (has_length || m->minor == 0))
		return -EBADMSG;
	if (codings > 1 || (codings == 1 && strcasecmp(coding, "chunked") != 0))
		return -ENOSYS;
	if (p->kind == HF_HTTP_RESPONSE &&
	    (p->no_body || m->status < 200 || m->status == 204 || m->status == 304)) {
		p->state = DONE;
		return 0;
	}
	if (codings == 1) {
		p->state = CHUNK_SIZE;
		return 0;
	}
	if (!has_length) {
		p->state = p->kind == HF_HTTP_REQUEST || p->no_body ? DONE : UNTIL_EOF;
		return 0;
	}
	if (length > p->max_body)
		return -EMSGSIZE;
	p->left = length;
	p->state = length > 0 ? LENGTH : DONE;
	return 0;
}

static int check_head(struct hf_http_parser *p)
{
	struct hf_http_message *m = &p->msg;
	const char *host;
	unsigned hosts;

	if (p->kind == HF_HTTP_REQUEST) {
		hosts = count_header(m, "Host", &host);
		if (hosts > 1 || (hosts == 0 && m->minor == 1))
			return -EBADMSG;
	}
	m->keep_alive = m->minor == 1 ? !hf_http_has_token(m, "Connection", "close")
				      : hf_http_has_token(m, "Connection", "keep-alive");
	m->upgrade_websocket = m->minor == 1 && hf_http_has_token(m, "Connection", "upgrade") &&
			       hf_http_has_token(m, "Upgrade", "websocket");
	m->expect_continue = m->minor == 1 && hf_http_has_token(m, "Expect", "100-continue");
	return decide_framing(p);
}

/* Cuts the complete head up in place. Every line ends with CRLF and has no other CR or LF. */
static int parse_head(struct hf_http_parser *p)
{
	char *line = (char *)p->head.data, *end = line + p->head.len;
	bool first = true;
	int r;

	for (;;) {
		char *lf = memchr(line, '\n', (size_t)(end - line));
		size_t len = (size_t)(lf - line) - 1;

		if (len == 0)
			break;
		line[len] = '\0';
		if (!first)
			r = parse_header_line(&p->msg, line, len);
		else if (p->kind == HF_HTTP_REQUEST)
			r = parse_request_line(&p->msg, line, len);
		else
			r = parse_status_line(&p->msg, line, len);
		if (r < 0)
			return r;
		first = false;
		line = lf + 1;
	}
	p->msg.kind = p->kind;
	return check_head(p);
}

/*
 * Moves bytes up to and including LF into buf. Returns 1 when a line is complete, 0 when all bytes
 * were taken, -EBADMSG for a CR or NUL in the wrong place or an LF without CR.
 */
static int take_line(struct hf_buf *buf, size_t *start, size_t max, const uint8_t *data, size_t len,
		     size_t *ret_used)
{
	const uint8_t *lf = memchr(data, '\n', len);
	size_t n = lf ? (size_t)(lf - data) + 1 : len, line_len;
	const uint8_t *line;
	int r;

	if (n > max - buf->len)
		return -E2BIG;
	r = hf_buf_append(buf, data, n);
	if (r < 0)
		return r;
	*ret_used = n;
	if (!lf)
		return 0;
	line = buf->data + *start;
	line_len = buf->len - *start;
	if (line_len < 2 || memchr(line, '\r', line_len) != line + line_len - 2 ||
	    memchr(line, '\0', line_len))
		return -EBADMSG;
	return 1;
}

static int feed_head(struct hf_http_parser *p, const uint8_t *data, size_t len, size_t *ret_used)
{
	int r = take_line(&p->head, &p->line_start, HF_HTTP_HEAD_MAX, data, len, ret_used);
	bool empty;

	if (r <= 0)
		return r;
	empty = p->head.len - p->line_start == 2;
	p->line_start = p->head.len;
	if (!empty) {
		p->started = true;
		return 0;
	}
	if (!p->started) {
		/* One empty line before a request is forgiven (RFC 9112 section 2.2). */
		if (p->kind == HF_HTTP_RESPONSE || p->interim > 0)
			return -EBADMSG;
		p->interim = 1;
		p->head.len = p->line_start = 0;
		return 0;
	}
	r = parse_head(p);
	if (r < 0)
		return r;
	if (p->kind == HF_HTTP_RESPONSE && p->msg.status < 200 && p->msg.status != 101) {
		if (++p->interim > INTERIM_MAX)
			return -EBADMSG;
		start_over(p);
	}
	return 0;
}

/* ---- the body -------------------------------------------------------------------------------- */

static int add_body(struct hf_http_parser *p, const uint8_t *data, size_t len)
{
	if (len > p->max_body - p->body.len)
		return -EMSGSIZE;
	return hf_buf_append(&p->body, data, len);
}

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* chunk-size [ BWS ";" anything ] CRLF. Extensions are checked for shape and thrown away. */
static int parse_chunk_size(struct hf_http_parser *p)
{
	const char *s = (const char *)p->line.data;
	size_t len = p->line.len - 2, i = 0;
	uint64_t size = 0;

	for (; i < len && hex_value(s[i]) >= 0; i++) {
		if (size >> 60)
			return -EMSGSIZE;
		size = size << 4 | (uint64_t)hex_value(s[i]);
	}
	if (i == 0 || (i < len && s[i] != ';') || !is_field_value(s + i, len - i))
		return -EBADMSG;
	if (size > p->max_body - p->body.len)
		return -EMSGSIZE;
	p->left = size;
	p->state = size > 0 ? CHUNK_DATA : TRAILER;
	return 0;
}

static int feed_chunk_size(struct hf_http_parser *p, const uint8_t *data, size_t len,
			   size_t *ret_used)
{
	size_t start = 0;
	int r = take_line(&p->line, &start, CHUNK_LINE_MAX, data, len, ret_used);

	if (r == -E2BIG)
		return -EBADMSG;
	if (r <= 0)
		return r;
	r = parse_chunk_size(p);
	p->line.len = 0;
	return r;
}

static int feed_chunk_end(struct hf_http_parser *p, const uint8_t *data, size_t *ret_used)
{
	/* left counts the two bytes CR LF up from zero. */
	if (data[0] != (p->left == 0 ? '\r' : '\n'))
		return -EBADMSG;
	*ret_used = 1;
	if (p->left++ == 1)
		p->state = CHUNK_SIZE;
	return 0;
}

/* Trailer fields have no user here: checked, counted, dropped. */
static int feed_trailer(struct hf_http_parser *p, const uint8_t *data, size_t len, size_t *ret_used)
{
	struct hf_http_message scratch = {};
	size_t start = 0, line_len;
	int r = take_line(&p->line, &start, HF_HTTP_HEAD_MAX - p->trailer_len, data, len, ret_used);

	if (r <= 0)
		return r;
	line_len = p->line.len - 2;
	p->trailer_len += p->line.len;
	p->line.len = 0;
	if (line_len == 0) {
		p->state = DONE;
		return 0;
	}
	p->line.data[line_len] = '\0';
	return parse_header_line(&scratch, (char *)p->line.data, line_len);
}

static int feed_counted(struct hf_http_parser *p, const uint8_t *data, size_t len, enum state next,
			size_t *ret_used)
{
	size_t n = len < p->left ? len : (size_t)p->left;
	int r = add_body(p, data, n);

	if (r < 0)
		return r;
	*ret_used = n;
	p->left -= n;
	if (p->left == 0)
		p->state = next;
	return 0;
}

static int feed(struct hf_http_parser *p, const uint8_t *data, size_t len, size_t *ret_used)
{
	switch (p->state) {
	case HEAD:
		return feed_head(p, data, len, ret_used);
	case LENGTH:
		return feed_counted(p, data, len, DONE, ret_used);
	case CHUNK_SIZE:
		return feed_chunk_size(p, data, len, ret_used);
	case CHUNK_DATA:
		return feed_counted(p, data, len, CHUNK_END, ret_used);
	case CHUNK_END:
		return feed_chunk_end(p, data, ret_used);
	case TRAILER:
		return feed_trailer(p, data, len, ret_used);
	case UNTIL_EOF:
		*ret_used = len;
		return add_body(p, data, len);
	case DONE:
	case FAILED:
		break;
	}
	hf_assert(false);
}

static void finish(struct hf_http_parser *p)
{
	p->msg.body = p->body.data;
	p->msg.body_len = p->body.len;
}

ssize_t hf_http_parse(struct hf_http_parser *p, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	if (p->state == FAILED)
		return p->error;
	while (p->state != DONE && taken < len) {
		size_t used = 0;
		int r = feed(p, data + taken, len - taken, &used);

		if (r < 0) {
			p->state = FAILED;
			p->error = r;
			return r;
		}
		taken += used;
	}
	if (p->state == DONE)
		finish(p);
	return (ssize_t)taken;
}

int hf_http_parser_eof(struct hf_http_parser *p)
{
	switch (p->state) {
	case DONE:
		return 0;
	case UNTIL_EOF:
		p->state = DONE;
		p->msg.keep_alive = false;
		finish(p);
		return 0;
	case FAILED:
		return p->error;
	case HEAD:
	case LENGTH:
	case CHUNK_SIZE:
	case CHUNK_DATA:
	case CHUNK_END:
	case TRAILER:
		break;
	}
	p->state = FAILED;
	p->error = -EBADMSG;
	return p->error;
}

/* ---- looking things up ----------------------------------------------------------------------- */

const char *hf_http_header(const struct hf_http_message *m, const char *name)
{
	const char *value;

	(void)count_header(m, name, &value);
	return value;
}

static bool list_has(const char *list, const char *token)
{
	size_t want = strlen(token);

	while (*list) {
		size_t len;

		list += strspn(list, ", \t");
		len = strcspn(list, ", \t");
		if (len == want && strncasecmp(list, token, len) == 0)
			return true;
		list += len;
	}
	return false;
}

bool hf_http_has_token(const struct hf_http_message *m, const char *name, const char *token)
{
	for (size_t i = 0; i < m->n_headers; i++)
		if (strcasecmp(m->headers[i].name, name) == 0 &&
		    list_has(m->headers[i].value, token))
			return true;
	return false;
}

const char *hf_http_status_text(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} table[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{206, "Partial Content"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{407, "Proxy Authentication Required"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{421, "Misdirected Request"},
		{422, "Unprocessable Content"},
		{426, "Upgrade Required"},
		{428, "Precondition Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
		{507, "Insufficient Storage"},
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(table); i++)
		if (table[i].status == status)
			return table[i].text;
	return "Unknown";
}
