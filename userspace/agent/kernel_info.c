/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parser of the watchdog's description of the running kernel. One copy of the text is kept and cut
 * into words in place; reason names point into it.
 */
#include "kernel_info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

#define RST_MAX  256
#define DROP_MAX 1024

struct hf_kernel_info {
	char *text;
	const char *assist;
	const char *reason;
	uint8_t boot_id[16];
	uint32_t cpus;
	uint32_t ring_bytes[_HF_RING_MAX];
	size_t n_programs;
	struct hf_kernel_info_program programs[HF_KERNEL_PROGRAMS_MAX];
	const char *rst[RST_MAX];
	const char *drop[DROP_MAX];
	bool abi_seen;
};

struct hf_kernel_info *hf_kernel_info_free(struct hf_kernel_info *i)
{
	if (!i)
		return NULL;
	free(i->text);
	free(i);
	return NULL;
}

HF_DEFINE_CLEANUP(struct hf_kernel_info *, hf_kernel_info_free);

/* Cuts the first word off *line; "" at its end. */
static char *word(char **line)
{
	char *w = *line;
	char *end = w + strcspn(w, " ");

	*line = *end ? end + 1 : end;
	*end = '\0';
	return w;
}

/* Names are as C writes enum members; anything else would reach people's terminals. */
static bool is_name(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	return n && n < 64 && !s[n];
}

static int parse_reason(const char **table, uint32_t max, char *rest)
{
	const char *number = word(&rest), *name = word(&rest);
	uint32_t n;

	if (hf_parse_u32(number, &n) < 0 || !is_name(name))
		return -EINVAL;
	/* More reasons than we have room for: they show as numbers. */
	if (n < max)
		table[n] = name;
	return 0;
}

static int parse_program(struct hf_kernel_info *i, char *rest)
{
	const char *name = word(&rest), *state = word(&rest);
	struct hf_kernel_info_program *p;

	if (!*name || (!hf_streq(state, "on") && !hf_streq(state, "off")))
		return -EINVAL;
	if (i->n_programs == HF_KERNEL_PROGRAMS_MAX)
		return 0;
	p = &i->programs[i->n_programs++];
	(void)hf_strlcpy(p->name, name, sizeof(p->name));
	(void)hf_strlcpy(p->reason, rest, sizeof(p->reason));
	hf_sanitize(p->name);
	hf_sanitize(p->reason);
	p->attached = hf_streq(state, "on");
	return 0;
}

static int parse_missed(struct hf_kernel_info *i, char *rest)
{
	const char *name = word(&rest), *number = word(&rest);
	uint64_t n;
	size_t p;

	if (hf_parse_u64(number, &n) < 0)
		return -EINVAL;
	for (p = 0; p < i->n_programs; p++)
		if (hf_streq(i->programs[p].name, name))
			i->programs[p].missed = n;
	return 0;
}

static int parse_ring(struct hf_kernel_info *i, char *rest)
{
	const char *name = word(&rest), *number = word(&rest);
	uint32_t n;

	if (hf_parse_u32(number, &n) < 0)
		return -EINVAL;
	if (hf_streq(name, "urgent"))
		i->ring_bytes[HF_RING_URGENT] = n;
	else if (hf_streq(name, "bulk"))
		i->ring_bytes[HF_RING_BULK] = n;
	else
		return -EINVAL;
	return 0;
}

static int parse_line(struct hf_kernel_info *i, char *line)
{
	const char *keyword = word(&line);
	uint32_t n;

	if (hf_streq(keyword, "abi")) {
		i->abi_seen = true;
		return hf_parse_u32(line, &n) < 0 || n != HF_EVENT_ABI ? -EINVAL : 0;
	}
	if (hf_streq(keyword, "assist")) {
		if (!hf_streq(line, "ebpf") && !hf_streq(line, "partial") && !hf_streq(line, "off"))
			return -EINVAL;
		i->assist = line;
		return 0;
	}
	if (hf_streq(keyword, "reason")) {
		hf_sanitize(line);
		i->reason = line;
		return 0;
	}
	if (hf_streq(keyword, "boot_id"))
		return hf_hex_decode(i->boot_id, sizeof(i->boot_id), line);
	if (hf_streq(keyword, "cpus"))
		return hf_parse_u32(line, &i->cpus);
	if (hf_streq(keyword, "ring"))
		return parse_ring(i, line);
	if (hf_streq(keyword, "program"))
		return parse_program(i, line);
	if (hf_streq(keyword, "missed"))
		return parse_missed(i, line);
	if (hf_streq(keyword, "rst"))
		return parse_reason(i->rst, RST_MAX, line);
	if (hf_streq(keyword, "drop"))
		return parse_reason(i->drop, DROP_MAX, line);
	return 0;
}

int hf_kernel_info_parse(const char *text, size_t len, struct hf_kernel_info **ret)
{
	_cleanup_(hf_kernel_info_freep) struct hf_kernel_info *i = NULL;
	char *line, *end;
	int r;

	if (len > HF_KERNEL_TEXT_MAX)
		return -EMSGSIZE;
	if (memchr(text, '\0', len))
		return -EINVAL;
	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	i->text = strndup(text, len);
	if (!i->text)
		return -ENOMEM;
	i->reason = "";
	for (line = i->text; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = '\0';
		r = parse_line(i, line);
		if (r < 0)
			return -EINVAL;
	}
	if (!i->abi_seen || !i->assist)
		return -EINVAL;
	*ret = TAKE_PTR(i);
	return 0;
}

int hf_kernel_info_read(int fd, struct hf_kernel_info **ret)
{
	_cleanup_free_ char *text = malloc(HF_KERNEL_TEXT_MAX + 1);
	size_t len = 0;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	while (len <= HF_KERNEL_TEXT_MAX) {
		n = pread(fd, text + len, HF_KERNEL_TEXT_MAX + 1 - len, (off_t)len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return hf_kernel_info_parse(text, len, ret);
}

const char *hf_kernel_info_assist(const struct hf_kernel_info *i)
{
	return i->assist;
}

const char *hf_kernel_info_reason(const struct hf_kernel_info *i)
{
	return i->reason;
}

const uint8_t *hf_kernel_info_boot_id(const struct hf_kernel_info *i)
{
	return i->boot_id;
}

uint32_t hf_kernel_info_cpus(const struct hf_kernel_info *i)
{
	return i->cpus;
}

const uint32_t *hf_kernel_info_ring_bytes(const struct hf_kernel_info *i)
{
	return i->ring_bytes;
}

const struct hf_kernel_info_program *hf_kernel_info_program(const struct hf_kernel_info *i,
							    size_t n)
{
	return n < i->n_programs ? &i->programs[n] : NULL;
}

const char *hf_kernel_info_rst(const struct hf_kernel_info *i, uint32_t n)
{
	return n < RST_MAX ? i->rst[n] : NULL;
}

const char *hf_kernel_info_drop(const struct hf_kernel_info *i, uint32_t n)
{
	return n < DROP_MAX ? i->drop[n] : NULL;
}
