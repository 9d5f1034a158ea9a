/* SPDX-License-Identifier: Apache-2.0 */
/* The journal's records of one unit. */
#include <errno.h>
#include <stdlib.h>

#include <systemd/sd-journal.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "userspace/collect/collect.h"

/* Back from the end; a line of a log has a hundred bytes. */
#define RECORDS_MAX 20000

static void close_journal(sd_journal **j)
{
	if (*j)
		sd_journal_close(*j);
}

static int append_record(sd_journal *j, struct hf_buf *out)
{
	char when[HF_RFC3339_SIZE];
	uint64_t usec = 0;
	const void *data;
	size_t len;
	int r;

	(void)sd_journal_get_realtime_usec(j, &usec);
	hf_format_rfc3339(usec * HF_NS_PER_US, when);
	r = hf_buf_appendf(out, "%s ", when);
	if (r == 0 && sd_journal_get_data(j, "_PID", &data, &len) >= 0 && len > 5)
		r = hf_buf_appendf(out, "[%.*s] ", (int)(len - 5), (const char *)data + 5);
	if (r == 0 && sd_journal_get_data(j, "MESSAGE", &data, &len) >= 0 && len > 8)
		r = hf_buf_append(out, (const char *)data + 8, len - 8);
	return r < 0 ? r : hf_buf_append(out, "\n", 1);
}

int hf_collect_journal(const char *unit, size_t max, struct hf_buf *out, bool *ret_cut)
{
	_cleanup_(close_journal) sd_journal *j = NULL;
	char match[128];
	size_t begin = out->len;
	int r;

	*ret_cut = false;
	if (sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM) < 0)
		return -ENOENT;
	(void)hf_strf(match, sizeof(match), "_SYSTEMD_UNIT=%s", unit);
	r = sd_journal_add_match(j, match, 0);
	if (r >= 0)
		r = sd_journal_seek_tail(j);
	if (r >= 0)
		r = sd_journal_previous_skip(j, RECORDS_MAX);
	if (r <= 0)
		return r < 0 ? r : -ENOENT; /* none of this unit */
	*ret_cut = r == RECORDS_MAX;
	do {
		r = append_record(j, out);
		if (r < 0)
			return r;
		/* The newest count: room is made from the front, half of it at a time. */
		if (out->len - begin > max) {
			size_t half = (out->len - begin) / 2;

			memmove(out->data + begin, out->data + begin + half,
				out->len - begin - half);
			out->len -= half;
			*ret_cut = true;
		}
		r = sd_journal_next(j);
	} while (r > 0);
	return r;
}
