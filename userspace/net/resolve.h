/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One name lookup by getaddrinfo(3) in a thread of its own, which may be abandoned at any time:
 * glibc offers no way to cancel a lookup that hangs in a dead server for half a minute.
 * Belongs to the loop's thread but for the lookup itself. Silent.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"

/* More addresses than a portal has; the rest of an answer is left out. */
#define HF_ADDRESSES_MAX 16u
/* Lookups, abandoned ones included, that may hang at the same time in this process. */
#define HF_RESOLVE_THREADS_MAX 8u

struct hf_address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage storage;
	};
	socklen_t len;
};

struct hf_addresses {
	struct hf_address list[HF_ADDRESSES_MAX];
	unsigned n;
};

struct hf_resolve;

/* -EAGAIN: HF_RESOLVE_THREADS_MAX lookups hang already. */
int hf_resolve_start(const char *host, struct hf_resolve **ret);
/* Waits for nothing: an unfinished thread keeps what it needs and frees it. */
struct hf_resolve *hf_resolve_free(struct hf_resolve *r);
HF_DEFINE_CLEANUP(struct hf_resolve *, hf_resolve_free);

/* Readable once the answer is there. */
int hf_resolve_fd(const struct hf_resolve *r);
const char *hf_resolve_host(const struct hf_resolve *r);
/*
 * Only after the fd became readable. 0 and addresses without a port in RFC 6724 order, or an EAI_…
 * code (EAI_SYSTEM never: *ret_errno is set and EAI_FAIL returned). Called once.
 */
int hf_resolve_result(struct hf_resolve *r, struct hf_addresses *ret, int *ret_errno);

/* An IP address in text, with or without a zone; no lookup. -EINVAL. */
int hf_address_parse(const char *text, struct hf_address *ret);
bool hf_address_equal(const struct hf_address *a, const struct hf_address *b);
void hf_address_set_port(struct hf_address *a, uint16_t port);
/* "192.0.2.1:443", "[2001:db8::1]:443" */
void hf_address_format(const struct sockaddr *sa, socklen_t len, char *dst, size_t size);
/* RFC 8305 section 4: families alternate, the first one stays first; doubles go. */
void hf_addresses_interleave(struct hf_addresses *a);
