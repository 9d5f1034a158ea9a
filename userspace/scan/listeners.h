/* SPDX-License-Identifier: Apache-2.0 */
/* A line of /proc/net/{tcp,udp}{,6}. */
#pragma once

#include "userspace/scan/process.h"

struct hf_listener {
	const char *protocol; /* "tcp6" */
	int family;
	unsigned char address[16];
	uint16_t port;
	uint32_t uid;
	uint64_t inode;
	uint32_t pid; /* 0: nobody found */
	char comm[64];
	char unit[HF_UNIT_MAX];
};

/* False: not a line of a listening socket. */
bool hf_listener_parse(const char *line, const char *protocol, struct hf_listener *ret);
bool hf_listener_is_loopback(const struct hf_listener *l);
