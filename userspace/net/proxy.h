/* SPDX-License-Identifier: Apache-2.0 */
/* One CONNECT with an HTTP proxy on a connected non-blocking socket (RFC 9110 section 9.3.6). */
#pragma once

#include <stdint.h>

#include "userspace/net/dial.h"

struct hf_proxy_talk;

struct hf_proxy_verdict {
	enum hf_dial_failure failure;
	int code;
	char text[200];
};

/* userinfo: "user:password" for Basic, "" for none. */
int hf_proxy_talk_new(const struct hf_url *target, const char *userinfo,
		      struct hf_proxy_talk **ret);
struct hf_proxy_talk *hf_proxy_talk_free(struct hf_proxy_talk *t);
HF_DEFINE_CLEANUP(struct hf_proxy_talk *, hf_proxy_talk_free);

/*
 * Call when fd is ready for hf_proxy_talk_events(). 0: wait; 1: *ret_verdict says how it ended. On
 * success nothing behind the proxy's answer was taken from the socket.
 */
int hf_proxy_talk_step(struct hf_proxy_talk *t, int fd, struct hf_proxy_verdict *ret_verdict);
uint32_t hf_proxy_talk_events(const struct hf_proxy_talk *t);
