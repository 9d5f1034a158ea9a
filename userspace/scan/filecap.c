/* SPDX-License-Identifier: Apache-2.0 */
/* security.capability: little-endian words, see <linux/capability.h>. */
#include "userspace/scan/filecap.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/str.h"

static const char *const names[] = {
	"chown",
	"dac_override",
	"dac_read_search",
	"fowner",
	"fsetid",
	"kill",
	"setgid",
	"setuid",
	"setpcap",
	"linux_immutable",
	"net_bind_service",
	"net_broadcast",
	"net_admin",
	"net_raw",
	"ipc_lock",
	"ipc_owner",
	"sys_module",
	"sys_rawio",
	"sys_chroot",
	"sys_ptrace",
	"sys_pacct",
	"sys_admin",
	"sys_boot",
	"sys_nice",
	"sys_resource",
	"sys_time",
	"sys_tty_config",
	"mknod",
	"lease",
	"audit_write",
	"audit_control",
	"setfcap",
	"mac_override",
	"mac_admin",
	"syslog",
	"wake_alarm",
	"block_suspend",
	"audit_read",
	"perfmon",
	"bpf",
	"checkpoint_restore",
};

static uint32_t word(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int hf_filecap_parse(const void *attribute, size_t len, struct hf_filecap *ret)
{
	const unsigned char *p = attribute;
	struct hf_filecap c = {};
	size_t words, size;
	uint32_t magic;

	if (len < 4)
		return -EBADMSG;
	magic = word(p);
	switch (magic & VFS_CAP_REVISION_MASK) {
	case VFS_CAP_REVISION_1:
		words = VFS_CAP_U32_1;
		size = XATTR_CAPS_SZ_1;
		break;
	case VFS_CAP_REVISION_2:
		words = VFS_CAP_U32_2;
		size = XATTR_CAPS_SZ_2;
		break;
	case VFS_CAP_REVISION_3:
		words = VFS_CAP_U32_3;
		size = XATTR_CAPS_SZ_3;
		break;
	default:
		return -EBADMSG;
	}
	if (len != size)
		return -EBADMSG;
	for (size_t i = 0; i < words; i++) {
		c.permitted |= (uint64_t)word(p + 4 + 8 * i) << (32 * i);
		c.inheritable |= (uint64_t)word(p + 8 + 8 * i) << (32 * i);
	}
	if ((magic & VFS_CAP_REVISION_MASK) == VFS_CAP_REVISION_3)
		c.rootid = word(p + 20);
	c.effective = magic & VFS_CAP_FLAGS_EFFECTIVE;
	*ret = c;
	return 0;
}

void hf_filecap_text(const struct hf_filecap *c, char *dst, size_t size)
{
	size_t n = 0;

	dst[0] = 0;
	for (unsigned i = 0; i < 64 && n < size; i++) {
		if (!((c->permitted | c->inheritable) >> i & 1))
			continue;
		if (i < HF_ARRAY_SIZE(names))
			(void)hf_strf(dst + n, size - n, "%scap_%s", n ? "," : "", names[i]);
		else
			(void)hf_strf(dst + n, size - n, "%s%u", n ? "," : "", i);
		n += strlen(dst + n);
	}
	if (n < size)
		(void)hf_strf(dst + n, size - n, "+%s%s%s", c->effective ? "e" : "",
			      c->inheritable ? "i" : "", c->permitted ? "p" : "");
}

bool hf_filecap_is_root(const struct hf_filecap *c)
{
	static const unsigned strong[] = {CAP_DAC_OVERRIDE, CAP_SETUID,     CAP_SETFCAP,
					  CAP_SYS_ADMIN,    CAP_SYS_MODULE, CAP_SYS_PTRACE,
					  CAP_SYS_RAWIO,    CAP_CHOWN,      CAP_FOWNER,
					  CAP_BPF};

	for (size_t i = 0; i < HF_ARRAY_SIZE(strong); i++)
		if (c->permitted >> strong[i] & 1)
			return true;
	return false;
}
