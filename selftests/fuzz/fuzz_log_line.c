/* SPDX-License-Identifier: Apache-2.0 */
/* What a component writes to stderr, on its way into the journal; and lines of /proc/PID/mountinfo. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "userspace/base/log_format.h"
#include "watchdog/confine.h"

static void log_line(char *line, size_t size)
{
	const struct hf_log_field fields[] = {{"HOLDFAST_COMPONENT", "agent"}, {}};
	struct hf_buf out = {};
	struct hf_log_line l;

	hf_log_parse_line(line, &l);
	hf_assert(l.text >= line && l.text <= line + size);
	hf_assert(l.level >= HF_LOG_ERROR && l.level <= HF_LOG_DEBUG);
	/* A field is one word: it can end no line of the journal's protocol and begin no other. */
	hf_assert(!l.cause || (*l.cause && !strpbrk(l.cause, "\n= ")));
	hf_assert(hf_log_format_journal(&out, "agent", l.level, l.text, fields) == 0);
	hf_assert(memchr(out.data, '\n', out.len) && !memcmp(out.data, "PRIORITY=", 9));
	for (size_t i = 0, lines = 0; i < out.len; i++) {
		lines += out.data[i] == '\n';
		hf_assert(lines <= 4);
	}
	hf_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_mount_line m;
	char *text = malloc(size + 1);

	hf_assert(text);
	memcpy(text, data, size);
	text[size] = '\0';
	log_line(text, size);
	memcpy(text, data, size);
	if (hf_mount_line_parse(text, &m) == 0)
		hf_assert(m.path[0] == '/' && m.path + strlen(m.path) <= text + size);
	free(text);
	return 0;
}
