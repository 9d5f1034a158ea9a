/* SPDX-License-Identifier: Apache-2.0 */
/* Membership in the bus's group, from /etc/group and /proc: both are the kernel's or root's word. */
#include "userspace/proto/bus_access.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

bool hf_bus_in_groups(uint32_t gid, const char *groups, int64_t bus_gid)
{
	if (bus_gid < 0)
		return false;
	if (gid == (uint32_t)bus_gid)
		return true;
	for (const char *p = groups; p && *p;) {
		char *end;
		unsigned long g;

		p += strspn(p, " \t");
		g = strtoul(p, &end, 10);
		if (end == p)
			break;
		if (g == (unsigned long)bus_gid)
			return true;
		p = end;
	}
	return false;
}

int64_t hf_bus_group_in(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		uint64_t gid;
		char number[16];
		const char *p;

		line += *line == '\n';
		if (strncmp(line, name, n) != 0 || line[n] != ':')
			continue;
		p = strchr(line + n + 1, ':');
		if (!p)
			return -1;
		hf_strf(number, sizeof(number), "%.*s", (int)strspn(p + 1, "0123456789"), p + 1);
		return hf_parse_u64(number, &gid) < 0 || gid >= UINT32_MAX ? -1 : (int64_t)gid;
	}
	return -1;
}

int64_t hf_bus_group(void)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (hf_read_file(AT_FDCWD, "/etc/group", 1u << 20, &text, &len) < 0)
		return -1;
	return hf_bus_group_in(text, HF_BUS_GROUP);
}

bool hf_bus_in_group(uint32_t gid, pid_t pid, int64_t bus_gid)
{
	_cleanup_free_ char *status = NULL;
	char path[48], *groups;
	size_t len;

	if (bus_gid < 0 || hf_bus_in_groups(gid, NULL, bus_gid))
		return bus_gid >= 0;
	if (pid <= 0)
		return false;
	hf_strf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (hf_read_file(AT_FDCWD, path, 65536, &status, &len) < 0)
		return false;
	groups = strstr(status, "\nGroups:");
	if (!groups)
		return false;
	groups += strlen("\nGroups:");
	groups[strcspn(groups, "\n")] = 0;
	return hf_bus_in_groups(gid, groups, bus_gid);
}
