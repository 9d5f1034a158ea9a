/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a ring record. Whatever is accepted must be a well-formed event: it packs, and no
 * text of it has a byte that is not printable ASCII.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/agent/kernel_decode.h"

static void check_text(const char *s)
{
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char text[] = "abi 1\nassist ebpf\nrst 1 NO_SOCKET\ndrop 12 NETFILTER_DROP\n";
	static struct hf_kernel_info *info;
	static struct hf_decoded d;
	static uint8_t packed[8192];

	if (!info && hf_kernel_info_parse(text, strlen(text), &info) < 0)
		abort();
	if (hf_kernel_decode(info, data, size, 0, &d) < 0)
		return 0;
	check_text(d.event.kind);
	check_text(d.event.comm);
	check_text(d.event.cgroup);
	check_text(d.event.unit);
	check_text(d.event.container);
	check_text(d.event.local);
	check_text(d.event.peer);
	check_text(d.event.reason);
	check_text(d.event.detail);
	if (d.event.exit)
		check_text(d.event.exit->by_comm);
	if (bus__event__get_packed_size(&d.event) > sizeof(packed))
		abort();
	(void)bus__event__pack(&d.event, packed);
	return 0;
}
