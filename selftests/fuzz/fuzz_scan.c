/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts that a scan reads of others: dpkg's database, /proc, file capabilities, unit files, the kept
 * baseline. The first byte says which.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fd.h"
#include "userspace/scan/baseline.h"
#include "userspace/scan/bpflist.h"
#include "userspace/scan/dpkg.h"
#include "userspace/scan/filecap.h"
#include "userspace/scan/findings.h"
#include "userspace/scan/listeners.h"
#include "userspace/scan/modules.h"
#include "userspace/scan/unitfile.h"
#include "userspace/scan/walk.h"

static void status(const char *text)
{
	struct hf_dpkg_package k;

	while (hf_dpkg_status_next(&text, &k))
		hf_assert(k.name[0] && !(k.installed && k.gone));
}

static void md5(const char *text)
{
	char digest[HF_MD5_HEX + 1], path[256];

	if (hf_dpkg_md5_line(text, digest, path, sizeof(path)))
		hf_assert(path[0] == '/' && strlen(digest) == HF_MD5_HEX);
}

static void filecap(const uint8_t *data, size_t size)
{
	struct hf_filecap c;
	char text[64];

	if (hf_filecap_parse(data, size, &c) < 0)
		return;
	hf_filecap_text(&c, text, sizeof(text));
	hf_assert(strlen(text) < sizeof(text));
	(void)hf_filecap_is_root(&c);
}

/* What is read in is written out as the same. */
static void baseline_line(const char *text)
{
	struct hf_baseline_entry e, again;
	char *line = malloc(HF_BASELINE_LINE_MAX);

	if (line && hf_baseline_parse(text, &e) == 0) {
		hf_baseline_format(&e, line);
		line[strlen(line) - 1] = 0;
		hf_assert(hf_baseline_parse(line, &again) == 0);
		hf_assert(hf_streq(e.path, again.path) && e.mode == again.mode &&
			  e.size == again.size);
	}
	free(line);
}

/* Entries of a whole file come in the order of a walk. */
static void baseline_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("baseline", MFD_CLOEXEC);
	struct hf_baseline_reader b;
	char last[4096] = "";

	if (fd < 0 || hf_write_full(fd, data, size) < 0)
		abort();
	if (hf_baseline_open(&b, fd) == 0) {
		while (b.has) {
			hf_assert(!*last || hf_path_compare(last, b.entry.path) < 0);
			(void)hf_strlcpy(last, b.entry.path, sizeof(last));
			if (hf_baseline_next(&b) < 0)
				break;
		}
		hf_baseline_close(&b);
	}
	(void)hf_close(fd);
}

static void lines(const char *text)
{
	char name[HF_MODULE_NAME_MAX], taint[16], path[128], unit[HF_UNIT_MAX];
	struct hf_bpf_program program;
	struct hf_listener listener;

	if (hf_module_parse(text, name, taint))
		hf_assert(strlen(name) < sizeof(name) && strlen(taint) < sizeof(taint));
	if (hf_unit_path(text, path, sizeof(path)))
		hf_assert(path[0] == '/');
	hf_process_unit(text, unit);
	(void)hf_bpf_fdinfo_id(text);
	if (hf_bpf_program_parse(text, &program))
		hf_assert(program.id != 0);
	if (hf_listener_parse(text, "tcp", &listener))
		hf_assert(listener.port != 0);
}

static void json(const char *text)
{
	struct hf_buf b = {};

	(void)hf_findings_json_string(&b, text);
	hf_assert(b.len >= 2 && hf_utf8_valid(b.data, b.len));
	for (size_t i = 0; i < b.len; i++)
		hf_assert(b.data[i] >= 0x20);
	hf_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = strndup((const char *)data + 1, size - 1);
	if (!text)
		return 0;
	switch (data[0] % 7) {
	case 0:
		status(text);
		break;
	case 1:
		md5(text);
		break;
	case 2:
		filecap(data + 1, size - 1);
		break;
	case 3:
		baseline_line(text);
		break;
	case 4:
		baseline_file(data + 1, size - 1);
		break;
	case 5:
		lines(text);
		break;
	case 6:
		json(text);
		break;
	}
	free(text);
	return 0;
}
