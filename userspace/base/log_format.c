/* SPDX-License-Identifier: Apache-2.0 */
/* Log messages as text lines and as journal datagrams (KEY=value, or KEY, length, bytes). */
#include "userspace/base/log_format.h"

#include <ctype.h>
#include <endian.h>
#include <stdio.h>

#include "base/clock.h"

/* Keeps our fields apart from everybody else's in the journal. */
#define PREFIX "HOLDFAST_"

const char *hf_log_level_name(enum hf_log_level level)
{
	switch (level) {
	case HF_LOG_ERROR:
		return "error";
	case HF_LOG_WARN:
		return "warn";
	case HF_LOG_NOTICE:
		return "notice";
	case HF_LOG_INFO:
		return "info";
	case HF_LOG_DEBUG:
		return "debug";
	}
	return NULL;
}

void hf_log_tame(char *text)
{
	bool utf8 = hf_utf8_valid(text, strlen(text));

	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (*p == '\n' || *p == '\t')
			*p = ' ';
		else if (*p < 0x20 || *p == 0x7f || (*p >= 0x80 && !utf8))
			*p = '?';
		else if (*p == 0xc2 && p[1] < 0xa0)
			p[0] = p[1] = '?'; /* U+0080..U+009F: a terminal may take it for ESC [ */
	}
}

static bool key_valid(const char *key)
{
	if (!*key || *key == '_')
		return false; /* the journal keeps a leading '_' to itself */
	return key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == '\0';
}

static int append_line_field(struct hf_buf *out, const struct hf_log_field *f)
{
	const char *bare = hf_startswith(f->key, PREFIX) ? f->key + strlen(PREFIX) : f->key;
	char key[64], value[HF_LOG_TEXT_MAX];
	bool quote;

	(void)hf_strlcpy(key, bare, sizeof(key));
	for (char *p = key; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	(void)hf_strlcpy(value, f->value ? f->value : "", sizeof(value));
	hf_log_tame(value);
	quote = !*value || strpbrk(value, " \"=");
	return hf_buf_appendf(out, quote ? " %s=\"%s\"" : " %s=%s", key, value);
}

int hf_log_format_line(struct hf_buf *out, uint64_t realtime_ns, const char *name, pid_t pid,
		       enum hf_log_level level, const char *text, const struct hf_log_field *fields)
{
	char time[HF_RFC3339_SIZE], tamed[HF_LOG_TEXT_MAX];
	const char *level_name = hf_log_level_name(level);
	int r;

	hf_format_rfc3339(realtime_ns, time);
	(void)hf_strlcpy(tamed, text, sizeof(tamed));
	hf_log_tame(tamed);
	/* Milliseconds are enough for people: 23 characters up to the third digit. */
	r = hf_buf_appendf(out, "%.23sZ %s[%d] %s: %s", time, name, (int)pid,
			   level_name ? level_name : "?", tamed);
	for (unsigned i = 0; r == 0 && fields && fields[i].key && i < HF_LOG_FIELDS_MAX; i++)
		if (key_valid(fields[i].key))
			r = append_line_field(out, &fields[i]);
	if (r < 0)
		return r;
	return hf_buf_append(out, "\n", 1);
}

/* TIME NAME[PID] LEVEL: TEXT */
static bool parse_head(char *line, struct hf_log_line *ret)
{
	char *name = strchr(line, ' '), *level = name ? strchr(name + 1, ' ') : NULL, *end;
	int r;

	if (!level || level == line || level[-1] != ']' || *line < '0' || *line > '9')
		return false;
	level++;
	end = strstr(level, ": ");
	if (!end)
		return false;
	*end = 0;
	r = hf_log_level_from_name(level);
	if (r < 0) {
		*end = ':';
		return false;
	}
	ret->level = (enum hf_log_level)r;
	ret->text = end + 2;
	return true;
}

void hf_log_parse_line(char *line, struct hf_log_line *ret)
{
	static const char cause[] = " cause=";
	char *last;

	*ret = (struct hf_log_line){.level = HF_LOG_WARN, .text = line};
	if (!parse_head(line, ret))
		return;
	last = strrchr(ret->text, ' ');
	if (!last || !hf_startswith(last, cause) || !last[strlen(cause)] ||
	    last[strspn(last + strlen(cause), "abcdefghijklmnopqrstuvwxyz_") + strlen(cause)])
		return;
	*last = 0;
	ret->cause = last + strlen(cause);
}

static int append_journal_field(struct hf_buf *out, const char *key, const char *value)
{
	uint64_t size = htole64(strlen(value));
	int r;

	if (!strchr(value, '\n'))
		return hf_buf_appendf(out, "%s=%s\n", key, value);
	r = hf_buf_appendf(out, "%s\n", key);
	if (r == 0)
		r = hf_buf_append(out, &size, sizeof(size));
	if (r == 0)
		r = hf_buf_appendf(out, "%s\n", value);
	return r;
}

int hf_log_format_journal(struct hf_buf *out, const char *name, enum hf_log_level level,
			  const char *text, const struct hf_log_field *fields)
{
	char tamed[HF_LOG_TEXT_MAX];
	int r;

	(void)hf_strlcpy(tamed, text, sizeof(tamed));
	hf_log_tame(tamed);
	r = hf_buf_appendf(out, "PRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nMESSAGE=%s\n", (int)level, name,
			   tamed);
	for (unsigned i = 0; r == 0 && fields && fields[i].key && i < HF_LOG_FIELDS_MAX; i++) {
		char value[HF_LOG_TEXT_MAX];

		if (!key_valid(fields[i].key) || !fields[i].value)
			continue;
		/* Kept apart, a value may have newlines; its length says where it ends. */
		(void)hf_strlcpy(value, fields[i].value, sizeof(value));
		r = append_journal_field(out, fields[i].key, value);
	}
	return r;
}
