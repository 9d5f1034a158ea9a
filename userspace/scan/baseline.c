/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline's text, one line at a time. */
#include "userspace/scan/baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/scan/walk.h"

#define MAGIC "holdfast-baseline 1"

void hf_baseline_escape(const char *path, char *dst)
{
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (c <= ' ' || c >= 0x7f || c == '\\') {
			*dst++ = '\\';
			*dst++ = (char)('0' + (c >> 6));
			*dst++ = (char)('0' + (c >> 3 & 7));
			*dst++ = (char)('0' + (c & 7));
		} else {
			*dst++ = (char)c;
		}
	}
	*dst = 0;
}

bool hf_baseline_unescape(const char *text, char dst[static 4096])
{
	size_t n = 0;

	for (; *text; text++) {
		unsigned value = (unsigned char)*text;

		if (*text == '\\') {
			value = 0;
			for (int i = 1; i <= 3; i++) {
				if (text[i] < '0' || text[i] > '7')
					return false;
				value = value << 3 | (unsigned)(text[i] - '0');
			}
			text += 3;
		}
		if (value == 0 || value > 255 || n == 4095)
			return false;
		dst[n++] = (char)value;
	}
	dst[n] = 0;
	return n > 0;
}

int hf_baseline_parse(const char *line, struct hf_baseline_entry *ret)
{
	int at = 0;

	if (sscanf(line, "%" SCNo32 " %" SCNu32 " %" SCNu32 " %" SCNu64 " %64[0-9a-f-] %n",
		   &ret->mode, &ret->uid, &ret->gid, &ret->size, ret->digest, &at) != 5 ||
	    at == 0 || (!hf_streq(ret->digest, "-") && strlen(ret->digest) != 64))
		return -EBADMSG;
	return hf_baseline_unescape(line + at, ret->path) && ret->path[0] == '/' ? 0 : -EBADMSG;
}

void hf_baseline_format(const struct hf_baseline_entry *e, char *dst)
{
	int n = snprintf(dst, 256, "%" PRIo32 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %s ", e->mode,
			 e->uid, e->gid, e->size, e->digest);

	hf_baseline_escape(e->path, dst + n);
	n += (int)strlen(dst + n);
	dst[n] = '\n';
	dst[n + 1] = 0;
}

/* The next line without its newline; NULL: the text ends or is cut off. */
static char *read_line(struct hf_baseline_reader *b)
{
	size_t n;

	if (!fgets(b->line, HF_BASELINE_LINE_MAX, b->file))
		return NULL;
	n = strlen(b->line);
	if (n == 0 || b->line[n - 1] != '\n')
		return NULL;
	b->line[n - 1] = 0;
	return b->line;
}

static int take_line(struct hf_baseline_reader *b, const char *line)
{
	uint64_t count;
	int r;

	b->has = false;
	if (!line)
		return -EBADMSG;
	if (hf_startswith(line, "end "))
		return hf_parse_u64(line + 4, &count) == 0 && count == b->entries ? 0 : -EBADMSG;
	r = hf_baseline_parse(line, &b->entry);
	if (r < 0)
		return r;
	if (b->last[0] && hf_path_compare(b->last, b->entry.path) >= 0)
		return -EBADMSG;
	(void)hf_strlcpy(b->last, b->entry.path, sizeof(b->last));
	b->entries++;
	b->has = true;
	return 0;
}

int hf_baseline_next(struct hf_baseline_reader *b)
{
	return take_line(b, read_line(b));
}

static int read_head(struct hf_baseline_reader *b)
{
	char *line = read_line(b), path[4096];

	if (!line || !hf_streq(line, MAGIC))
		return -EBADMSG;
	while ((line = read_line(b)) && hf_startswith(line, "watch ")) {
		if (b->watched_n == HF_SCAN_PATHS_MAX || !hf_baseline_unescape(line + 6, path))
			return -EBADMSG;
		b->watched[b->watched_n] = strdup(path);
		if (!b->watched[b->watched_n])
			return -ENOMEM;
		b->watched_n++;
	}
	return take_line(b, line);
}

int hf_baseline_open(struct hf_baseline_reader *b, int fd)
{
	_cleanup_close_ int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int r;

	*b = (struct hf_baseline_reader){};
	if (copy < 0 || lseek(copy, 0, SEEK_SET) < 0)
		return -errno;
	b->line = malloc(HF_BASELINE_LINE_MAX);
	b->file = fdopen(copy, "r");
	if (!b->file || !b->line) {
		hf_baseline_close(b);
		return -ENOMEM;
	}
	(void)TAKE_FD(copy);
	r = read_head(b);
	if (r < 0)
		hf_baseline_close(b);
	return r;
}

void hf_baseline_close(struct hf_baseline_reader *b)
{
	if (b->file)
		(void)fclose(b->file);
	while (b->watched_n > 0)
		free(b->watched[--b->watched_n]);
	free(b->line);
	*b = (struct hf_baseline_reader){};
}
