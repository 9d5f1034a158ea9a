/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as rtnetlink datagrams: two of them, so that removals meet additions. */
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/agent/netlink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The first byte says where the second datagram begins. */
	size_t cut = size ? 1 + data[0] % size : 0;
	struct hf_net_table *t = calloc(1, sizeof(*t));
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr = {htonl(0x0a000001)}};
	const struct {
		const uint8_t *data;
		size_t len;
	} parts[] = {{data + (size ? 1 : 0), cut ? cut - 1 : 0}, {data + cut, size - cut}};
	char text[128];

	if (!t)
		return 0;
	t->dumped = true;
	for (size_t i = 0; i < 2; i++) {
		/* The kernel's datagrams are aligned; a heap copy is, and shows any overrun. */
		void *copy = malloc(parts[i].len ? parts[i].len : 1);

		if (!copy)
			break;
		if (parts[i].len)
			memcpy(copy, parts[i].data, parts[i].len);
		(void)hf_net_table_feed(t, copy, parts[i].len);
		free(copy);
	}
	if (t->n_links > HF_NET_LINKS_MAX || t->n_addrs > HF_NET_ADDRS_MAX)
		abort();
	(void)hf_net_table_check(t, (struct sockaddr *)&local, text, sizeof(text));
	for (const char *p = text; *p; p++)
		if (*p < ' ' || *p > '~')
			abort();
	free(t);
	return 0;
}
