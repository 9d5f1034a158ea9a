/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Line by line, each rule on what the one before left. It errs on the side of taking out too much:
 * a value that was none costs a look at the host, one that was left in costs a key.
 */
#include "userspace/collect/redact.h"

#include <ctype.h>
#include <errno.h>

#include "base/cleanup.h"

#define BEGIN "-----BEGIN "
#define END   "-----END "
#define KEY   "PRIVATE KEY-----"

struct redaction {
	struct hf_buf *out;
	bool in_key;
	size_t base64_from; /* where the present run of base64 lines begins in out */
	bool base64_run;
	long n;
	bool failed;
};

static void put(struct redaction *r, const char *s, size_t len)
{
	if (hf_buf_append(r->out, s, len) < 0)
		r->failed = true;
}

static void put_redacted(struct redaction *r)
{
	put(r, HF_REDACTED, strlen(HF_REDACTED));
	r->n++;
}

static const char *find(const char *s, const char *end, const char *what)
{
	return s < end ? memmem(s, (size_t)(end - s), what, strlen(what)) : NULL;
}

/* The mark of a private key of any kind ("RSA ", "EC ", "ENCRYPTED "), and where it ends. */
static const char *find_key_mark(const char *s, const char *end, const char *mark,
				 const char **ret_end)
{
	while ((s = find(s, end, mark))) {
		const char *key = find(s, end, KEY), *next = find(s + 1, end, "-----");

		/* No other dashes between. */
		if (key && (!next || next >= key + strlen("PRIVATE KEY"))) {
			*ret_end = key + strlen(KEY);
			return s;
		}
		s++;
	}
	return NULL;
}

/* ---- values ------------------------------------------------------------------------------------ */

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-';
}

/* Whose value is secret, whatever stands around it: "portal_api_token", "X-Auth-Token". */
static const char *const secret_words[] = {
	"password",      "passwd",  "passphrase", "secret",      "token",      "api_key",
	"apikey",        "api-key", "access_key", "private_key", "privatekey", "credential",
	"authorization", "cookie",  "session_id", "auth_key",    "psk",
};

static bool is_secret_key(const char *s, size_t len)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(secret_words); i++) {
		size_t n = strlen(secret_words[i]);

		for (size_t at = 0; at + n <= len; at++)
			if (strncasecmp(s + at, secret_words[i], n) == 0)
				return true;
	}
	return false;
}

static bool takes_whole_line(const char *s, size_t len)
{
	return (len >= 13 && strncasecmp(s + len - 13, "authorization", 13) == 0) ||
	       (len >= 6 && strncasecmp(s + len - 6, "cookie", 6) == 0);
}

/* The end of a value that begins at s; escaped: its quotes are those of JSON within a string. */
static const char *value_end(const char *s, const char *end, bool line, bool escaped)
{
	if (s < end && (*s == '"' || *s == '\'')) {
		char quote = *s;

		for (s++; s < end && *s != quote; s++)
			if (*s == '\\' && s + 1 < end && !escaped)
				s++;
		return s < end ? s + 1 : end;
	}
	if (line)
		return end; /* a header has many forms, and nothing behind it */
	while (s < end && !isspace((unsigned char)*s) && !strchr(",;&}])\"'", *s))
		s++;
	return s;
}

/* Numbers of JSON, words that are no secret, and the beginning of what has keys of its own. */
static bool is_harmless(const char *s, const char *end)
{
	static const char *const words[] = {"true", "false", "null"};

	if (*s == '{' || *s == '[')
		return true;
	for (size_t i = 0; i < HF_ARRAY_SIZE(words); i++)
		if ((size_t)(end - s) >= strlen(words[i]) &&
		    strncmp(s, words[i], strlen(words[i])) == 0)
			return true;
	return end - s >= 2 && s[0] == '"' && s[1] == '"';
}

/* What stood in quotes still does: JSON stays JSON. */
static void put_value(struct redaction *r, const char *s, const char *end)
{
	bool quoted = end - s >= 2 && (*s == '"' || *s == '\'') && end[-1] == *s;
	bool escaped = quoted && end - s >= 3 && end[-2] == '\\' && s[-1] == '\\';

	if (quoted)
		put(r, s, 1);
	put_redacted(r);
	if (escaped)
		put(r, "\\", 1);
	if (quoted)
		put(r, s, 1);
}

/*
 * At a word: is it the key of a secret value? Returns where the value begins, with its separator
 * before it ("token=", "\"token\": ", "--token "); NULL: it is not.
 */
static const char *secret_value(const char *word, const char *word_end, const char *end)
{
	const char *p = word_end;
	bool option = word[0] == '-';

	if (!is_secret_key(word, (size_t)(word_end - word)))
		return NULL;
	if (p < end && *p == '\\')
		p++; /* JSON within a string */
	if (p < end && (*p == '"' || *p == '\''))
		p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	if (p < end && (*p == '=' || *p == ':')) {
		p++;
		while (p < end && (*p == ' ' || *p == '\t' || *p == '\\'))
			p++;
	} else if (!option || p == word_end) {
		return NULL;
	}
	return p < end ? p : NULL;
}

/* ---- other forms of secrets --------------------------------------------------------------------------- */

static size_t span(const char *s, const char *end, const char *set)
{
	size_t n = 0;

	while (s + n < end && s[n] && strchr(set, s[n]))
		n++;
	return n;
}

#define HEX    "0123456789abcdef"
#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
#define URL64  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

/* What of the text at s is kept and what is taken, when a secret begins here by its own form. */
static bool own_form(const char *s, const char *end, size_t *ret_keep, size_t *ret_take)
{
	size_t id, secret;

	/* hfe_<id>_<64 hex digits>; a cut one counts too */
	if (end - s > 8 && s[0] == 'h' && s[1] == 'f' && strchr("epa", s[2]) && s[3] == '_') {
		id = span(s + 4, end, HEX);
		secret = s + 4 + id < end && s[4 + id] == '_' ? span(s + 5 + id, end, HEX) : 0;
		if (id >= 16 && secret > 0) {
			*ret_keep = 5 + id;
			*ret_take = secret;
			return true;
		}
	}
	if (end - s > 24 && strncmp(s, "eyJ", 3) == 0 && span(s, end, URL64) > 24) {
		*ret_keep = 0;
		*ret_take = span(s, end, URL64);
		return true;
	}
	if (end - s > 7 &&
	    (strncasecmp(s, "Bearer ", 7) == 0 || strncasecmp(s, "Basic ", 6) == 0)) {
		*ret_keep = (size_t)(strchr(s, ' ') - s) + 1;
		*ret_take = span(s + *ret_keep, end, BASE64 URL64 "~");
		return *ret_take >= 8; /* "basic rules" is no secret */
	}
	/* ://user:password@ */
	if (end - s > 4 && strncmp(s, "://", 3) == 0) {
		const char *at = s + 3;

		while (at < end && !isspace((unsigned char)*at) && !strchr("/\"'?#@", *at))
			at++;
		if (at < end && *at == '@' && memchr(s + 3, ':', (size_t)(at - s - 3))) {
			*ret_keep = 3;
			*ret_take = (size_t)(at - s - 3);
			return true;
		}
	}
	return false;
}

/* A line, or a part of one, in which no private key is. */
static void redact_part(struct redaction *r, const char *s, const char *end)
{
	while (s < end) {
		const char *word_end = s, *value;
		size_t keep, take;

		if (own_form(s, end, &keep, &take)) {
			put(r, s, keep);
			put_redacted(r);
			s += keep + take;
			continue;
		}
		while (word_end < end && is_word(*word_end))
			word_end++;
		value = word_end > s ? secret_value(s, word_end, end) : NULL;
		if (value && !is_harmless(value, end)) {
			bool line = takes_whole_line(s, (size_t)(word_end - s));

			put(r, s, (size_t)(value - s));
			s = value_end(value, end, line, value[-1] == '\\');
			put_value(r, value, s);
			continue;
		}
		word_end += word_end == s;
		put(r, s, (size_t)(word_end - s));
		s = word_end;
	}
}

/* ---- private keys -------------------------------------------------------------------------------- */

static bool is_base64_line(const char *s, const char *end)
{
	return end - s >= 16 && span(s, end, BASE64) == (size_t)(end - s);
}

/* The text may begin within a key: what looked like lines of it is taken back. */
static void end_of_key(struct redaction *r)
{
	if (!r->in_key && r->base64_run)
		r->out->len = r->base64_from;
	if (!r->in_key)
		put_redacted(r);
	r->in_key = r->base64_run = false;
}

static void redact_line(struct redaction *r, const char *s, const char *end)
{
	const char *mark, *mark_end;

	while (true) {
		mark = find_key_mark(s, end, r->in_key ? END : BEGIN, &mark_end);
		if (r->in_key && !mark)
			return;
		if (r->in_key) {
			end_of_key(r);
			s = mark_end;
			continue;
		}
		if (!mark)
			break;
		redact_part(r, s, mark);
		put_redacted(r);
		r->in_key = true;
		s = mark_end;
	}
	mark = find_key_mark(s, end, END, &mark_end);
	if (mark) {
		end_of_key(r);
		s = mark_end;
	}
	if (!is_base64_line(s, end)) {
		r->base64_run = false;
	} else if (!r->base64_run) {
		r->base64_run = true;
		r->base64_from = r->out->len;
	}
	redact_part(r, s, end);
}

long hf_redact(const char *text, size_t len, struct hf_buf *out)
{
	struct redaction r = {.out = out};
	const char *end = text + len;

	while (text < end && !r.failed) {
		const char *eol = memchr(text, '\n', (size_t)(end - text));
		bool was_in_key = r.in_key;
		size_t before = out->len;

		redact_line(&r, text, eol ? eol : end);
		/* Lines of a key leave none behind; where it began there is one already. */
		if (eol && (!was_in_key || out->len > before))
			put(&r, "\n", 1);
		text = eol ? eol + 1 : end;
	}
	return r.failed ? -ENOMEM : r.n;
}
