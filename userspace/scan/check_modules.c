/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules, by what the kernel itself says of them: /proc/modules and its taint flags. */
#include "userspace/scan/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "userspace/scan/modules.h"

static const struct {
	char letter;
	enum hf_severity severity;
	const char *id, *says, *fix;
} flags[] = {
	{'F', HF_SEVERITY_HIGH, "modules.forced", "was loaded by force, against its version",
	 "unload it and install the module that belongs to this kernel"},
	{'E', HF_SEVERITY_MEDIUM, "modules.unsigned", "has no signature that this kernel trusts",
	 "find out who built it; sign it, or require signatures (module.sig_enforce=1)"},
	{'O', HF_SEVERITY_LOW, "modules.out_of_tree", "does not come with the kernel",
	 "none needed if you installed it"},
	{'P', HF_SEVERITY_INFO, "modules.proprietary", "has a licence of its own",
	 "none needed if you installed it"},
};

bool hf_module_parse(const char *line, char name[static HF_MODULE_NAME_MAX], char taint[static 16])
{
	size_t n = strcspn(line, " ");
	const char *end = strrchr(line, ' ');

	/* "wireguard 94208 0 - Live 0x0000000000000000 (OE)" */
	if (n == 0 || n >= HF_MODULE_NAME_MAX || line[n] != ' ')
		return false;
	memcpy(name, line, n);
	name[n] = 0;
	taint[0] = 0;
	if (end && end[1] == '(') {
		size_t len = strcspn(end + 2, ")");

		if (len < 16 && end[2 + len] == ')')
			(void)hf_strf(taint, 16, "%.*s", (int)len, end + 2);
	}
	return true;
}

static void judge(struct hf_scan *s, const char *line)
{
	char name[HF_MODULE_NAME_MAX], taint[16];

	if (!hf_module_parse(line, name, taint))
		return;
	s->state[s->current].looked_at++;
	/* Its worst flag speaks for it. */
	for (size_t i = 0; i < HF_ARRAY_SIZE(flags); i++)
		if (strchr(taint, flags[i].letter)) {
			hf_scan_found(s, flags[i].severity, flags[i].id, name, flags[i].fix,
				      "%s (flags %s)", flags[i].says, taint);
			return;
		}
}

int hf_check_modules(struct hf_scan *s)
{
	_cleanup_free_ char *text = NULL, *tainted = NULL;
	char *save = NULL;
	size_t len;
	int r;

	r = s->proc < 0 ? -ENOENT : hf_read_file(s->proc, "modules", 4u << 20, &text, &len);
	if (r == -ENOENT) {
		hf_scan_not_checked(s, "this kernel has no modules");
		return 0;
	}
	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		judge(s, line);
	if (hf_read_file(s->proc, "sys/kernel/tainted", 64, &tainted, &len) == 0) {
		unsigned long long bits = strtoull(tainted, NULL, 10);

		/* A bit stays when the module that set it is gone: 1 forced, 12 O, 13 E. */
		if (bits >> 1 & 1)
			hf_scan_found(s, HF_SEVERITY_MEDIUM, "modules.kernel_tainted",
				      "/proc/sys/kernel/tainted", "reboot to get rid of it",
				      "a module was loaded by force since boot (tainted %llu)",
				      bits);
	}
	return 0;
}
