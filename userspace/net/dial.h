/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a URL to a connected TCP socket (through a proxy where configured): resolve in a thread
 * that can be abandoned, Happy Eyeballs (RFC 8305), CONNECT. One dial at a time per object; the
 * loop's thread owns it; the callback runs from the loop, never inside hf_dial_start().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "userspace/net/http.h"

typedef struct sd_event sd_event;

struct hf_dialer;

enum hf_dial_phase {
	HF_DIAL_RESOLVE,
	HF_DIAL_TCP,
	HF_DIAL_PROXY,
	HF_DIAL_DONE,
	_HF_DIAL_PHASE_MAX
};

enum hf_dial_failure {
	HF_DIAL_OK,
	HF_DIAL_DNS,     /* resolver's text in error; eai in code */
	HF_DIAL_CONNECT, /* errno in code */
	HF_DIAL_TIMEOUT,
	HF_DIAL_PROXY_REFUSED, /* status in code (403, 5xx …) or errno when < 100 */
	HF_DIAL_PROXY_AUTH,    /* 407; schemes in error */
	HF_DIAL_PROXY_TIMEOUT,
	HF_DIAL_PROXY_PROTOCOL,
	HF_DIAL_CANCELLED,
	_HF_DIAL_FAILURE_MAX,
};

struct hf_dial_result {
	enum hf_dial_failure failure;
	enum hf_dial_phase phase; /* the last one entered */
	int code;
	char error[256]; /* one line for people */
	int fd; /* connected, non-blocking, TCP_NODELAY; the callback's to take, else closed */
	uint64_t cookie;  /* SO_COOKIE of fd */
	char address[64]; /* "192.0.2.10:443" that answered or was tried last */
	char local[64];
	uint64_t resolve_us, connect_us, proxy_us;
	bool used_last_good; /* DNS failed, the remembered address worked */
};

struct hf_dial_options {
	struct hf_url url;
	/*
	 * "http://user:pw@host:port" or "host:port", NULL: none. no_proxy is decided by the caller.
	 * Only Basic is spoken.
	 */
	const char *proxy;
	uint64_t timeout_ms;       /* for the whole dial */
	uint32_t user_timeout_ms;  /* TCP_USER_TIMEOUT, 0 off */
	uint32_t keepalive_idle_s; /* 0 off; probes every second */
	uint32_t max_segment;      /* TCP_MAXSEG before connect, 0 kernel's choice */
	/*
	 * The first dial after an established connection was lost: the address that worked last is
	 * tried without asking DNS; DNS is asked if it fails or does not answer within 250 ms. Leave
	 * it false on later attempts, since the name may have moved.
	 */
	bool redial;
	/* Called for each socket before connect(2), with its SO_COOKIE: the moment to watch it. */
	void (*socket_made)(uint64_t cookie, void *userdata);
	/* Called for each socket that lost the race or failed. May be NULL. */
	void (*socket_gone)(uint64_t cookie, void *userdata);
	void (*done)(struct hf_dial_result *res, void *userdata);
	void *userdata;
};

int hf_dialer_new(sd_event *event, struct hf_dialer **ret);
struct hf_dialer *hf_dialer_free(struct hf_dialer *d); /* cancels without calling done */
HF_DEFINE_CLEANUP(struct hf_dialer *, hf_dialer_free);

const char *hf_dial_phase_name(enum hf_dial_phase p);
const char *hf_dial_failure_name(enum hf_dial_failure f);

/* Strings are copied. -EBUSY while one runs, -EINVAL for a proxy that is no http URL. */
int hf_dial_start(struct hf_dialer *d, const struct hf_dial_options *o);
void hf_dial_cancel(struct hf_dialer *d); /* without calling done; socket_gone is called */

/*
 * Addresses that worked are remembered per host and used when DNS is down; the caller may also
 * keep them over a restart. A fresh answer younger than a second is reused (an immediate redial
 * after a reset does not ask DNS again): max_age_ms.
 */
void hf_dialer_remember(struct hf_dialer *d, const char *host, const struct sockaddr *sa,
			socklen_t len);
void hf_dialer_set_cache_ms(struct hf_dialer *d, uint64_t max_age_ms);

/*
 * The custom of no_proxy: entries divided by commas or spaces; "*" is everything, "example.com" and
 * ".example.com" the name and what is below it, "10.0.0.0/8" and "192.0.2.1" addresses. NULL: no.
 */
bool hf_no_proxy_matches(const char *no_proxy, const char *host);
