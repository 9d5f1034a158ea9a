/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parameters as text: lines of "key value". Written by the watchdog or by holdfast(1), read here:
 *
 *	checks setuid,baseline   only these
 *	path /srv                only what is below (repeated)
 *	watch /etc               the baseline's files (repeated)
 *	exclude /etc/mtab        not this (repeated)
 *	cpu 50                   percent of one processor
 *	accept 1                 what is there becomes the baseline
 *	baseline none|new|have   nobody keeps one; there is none yet; there is one
 *	bpf have                 the list of loaded programs comes along; else "bpf <why not>"
 */
#include "userspace/scan/scan.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

int hf_scan_checks_parse(const char *text, uint64_t *ret)
{
	uint64_t bits = 0;

	while (*text) {
		size_t n = strcspn(text, ","), i = 0;

		while (i < hf_checks_n &&
		       (strlen(hf_checks[i].id) != n || strncmp(hf_checks[i].id, text, n) != 0))
			i++;
		if (i == hf_checks_n)
			return -EINVAL;
		bits |= UINT64_C(1) << i;
		text += n + (text[n] == ',');
	}
	*ret = bits;
	return 0;
}

/* Absolute, and such that comparing it with what a walk meets makes sense. */
static bool is_plain(const char *path)
{
	size_t len = strlen(path);

	return *path == '/' && len < 4096 && !strstr(path, "//") && !strstr(path, "/../") &&
	       !strstr(path, "/./") && !hf_endswith(path, "/..") && !hf_endswith(path, "/.") &&
	       (len == 1 || path[len - 1] != '/');
}

static int add_path(char *list[static HF_SCAN_PATHS_MAX], size_t *n, const char *path)
{
	if (*n == HF_SCAN_PATHS_MAX || !is_plain(path))
		return -EINVAL;
	list[*n] = strdup(path);
	if (!list[*n])
		return -ENOMEM;
	(*n)++;
	return 0;
}

static int parse_line(const char *key, const char *value, struct hf_scan_params *p)
{
	uint32_t number;

	if (hf_streq(key, "checks"))
		return hf_scan_checks_parse(value, &p->checks);
	if (hf_streq(key, "path"))
		return add_path(p->paths, &p->paths_n, value);
	if (hf_streq(key, "watch"))
		return add_path(p->watched, &p->watched_n, value);
	if (hf_streq(key, "exclude"))
		return add_path(p->exclude, &p->exclude_n, value);
	if (hf_streq(key, "cpu")) {
		if (hf_parse_u32(value, &number) < 0 || number < 1 || number > 100)
			return -EINVAL;
		p->cpu_percent = number;
		return 0;
	}
	if (hf_streq(key, "accept")) {
		p->accept = hf_streq(value, "1");
		return 0;
	}
	if (hf_streq(key, "baseline")) {
		p->have_baseline = hf_streq(value, "have");
		p->keep_baseline = p->have_baseline || hf_streq(value, "new");
		return 0;
	}
	if (hf_streq(key, "bpf")) {
		p->have_bpf = hf_streq(value, "have");
		if (!p->have_bpf)
			(void)hf_strlcpy(p->no_bpf, value, sizeof(p->no_bpf));
		return 0;
	}
	return -EINVAL;
}

int hf_scan_params_parse(char *text, struct hf_scan_params *ret, char why[static 128])
{
	struct hf_scan_params p = {.cpu_percent = 100};
	char *save = NULL;
	int r = 0;

	for (char *line = strtok_r(text, "\n", &save); line && r == 0;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (value)
			*value++ = 0;
		r = parse_line(line, value ? value : "", &p);
		if (r < 0)
			(void)hf_strf(why, 128, "parameter '%.32s': '%.64s' is not valid", line,
				      value ? value : "");
	}
	if (r < 0) {
		hf_scan_params_done(&p);
		return r;
	}
	*ret = p;
	return 0;
}

static void free_list(char *list[], size_t *n)
{
	while (*n > 0)
		free(list[--*n]);
}

void hf_scan_params_done(struct hf_scan_params *p)
{
	free_list(p->paths, &p->paths_n);
	free_list(p->watched, &p->watched_n);
	free_list(p->exclude, &p->exclude_n);
}
