/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the kernel for its programs, one id after the other. Silent. */
#include "watchdog/kernel_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* Hosts with many containers have hundreds. */
#define PROGRAMS_MAX 4096
#define OWN_MAX      256

struct own {
	uint32_t ids[OWN_MAX];
	size_t n;
};

/* Programs and links among our own descriptors. */
static void find_own(struct own *own)
{
	DIR *d = opendir("/proc/self/fdinfo");

	if (!d)
		return;
	for (struct dirent *e; own->n < OWN_MAX && (e = readdir(d));) {
		_cleanup_free_ char *text = NULL;
		const char *p;
		size_t len;

		if (e->d_name[0] == '.' ||
		    hf_read_file(dirfd(d), e->d_name, 16384, &text, &len) < 0)
			continue;
		p = strstr(text, "prog_id:");
		if (p)
			own->ids[own->n++] = (uint32_t)strtoul(p + strlen("prog_id:"), NULL, 10);
	}
	(void)closedir(d);
}

static bool is_own(const struct own *own, uint32_t id)
{
	for (size_t i = 0; i < own->n; i++)
		if (own->ids[i] == id)
			return true;
	return false;
}

static int append(struct hf_buf *out, uint32_t id, const struct own *own)
{
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	const char *type;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno; /* gone meanwhile */
	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	type = libbpf_bpf_prog_type_str((enum bpf_prog_type)info.type);
	hf_sanitize(info.name);
	return hf_buf_appendf(out, "%u\t%s\t%s\t%u\t%d\n", id, type ? type : "unknown",
			      *info.name ? info.name : "(unnamed)", info.created_by_uid,
			      is_own(own, id));
}

int hf_kernel_list(struct hf_buf *out)
{
	struct own own = {};
	uint32_t id = 0;
	int r = 0;

	find_own(&own);
	for (int i = 0; i < PROGRAMS_MAX && r == 0; i++) {
		if (bpf_prog_get_next_id(id, &id) < 0)
			return errno == ENOENT ? 0 : -errno;
		r = append(out, id, &own);
	}
	return r;
}
