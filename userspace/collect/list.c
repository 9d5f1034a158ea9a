/* SPDX-License-Identifier: Apache-2.0 */
/* A directory's names, for who cannot look himself. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "userspace/collect/collect.h"

/* A spool has some dozens of segments. */
#define NAMES_MAX 500

int hf_collect_list(const char *path, struct hf_buf *out)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0, r;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		r = hf_buf_appendf(out, "%s: %s\n", path, strerror(errno));
		(void)hf_close(fd);
		return r;
	}
	r = hf_buf_appendf(out, "%s:\n", path);
	for (struct dirent *e; r == 0 && n < NAMES_MAX && (e = readdir(d)); n++) {
		char when[HF_RFC3339_SIZE], name[256];
		struct stat st;

		if (e->d_name[0] == '.' ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		(void)hf_strlcpy(name, e->d_name, sizeof(name));
		hf_sanitize(name);
		hf_format_rfc3339((uint64_t)st.st_mtim.tv_sec * HF_NS_PER_S, when);
		r = hf_buf_appendf(out, "  %06o %u:%u %10lld %s %s\n", st.st_mode, st.st_uid,
				   st.st_gid, (long long)st.st_size, when, name);
	}
	(void)closedir(d);
	return r;
}
