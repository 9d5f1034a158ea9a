/* SPDX-License-Identifier: Apache-2.0 */
/* The portal list, the TLS context and what is remembered between dials. */
#include "userspace/agent/portal_target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define FILE_EPOCH     "epoch"
#define FILE_TICKET    "ticket"
#define FILE_LAST_GOOD "last_good"
/* Numbers reserved with one write: a crash skips some, none is used twice. */
#define EPOCH_BLOCK 1024u
/* Writing a ticket at every reconnect of a flapping link would wear the disk for nothing. */
#define TICKET_EVERY_NS (60 * HF_NS_PER_S)
/* An immediate redial after a reset does not ask DNS again. */
#define DNS_FRESH_MS 5000u

/* Credentials that change more often than this within one session's life have to wait for its end. */
#define RETIRED_MAX 4u

struct hf_target {
	int dirfd;
	char state_dir[128];
	struct hf_identity *identity;
	struct hf_disk *disk;
	struct hf_dialer *dialer;

	struct hf_tls_context *tls;
	struct hf_tls_context *retired[RETIRED_MAX]; /* live streams may still use them */
	unsigned n_retired;
	bool tls_stale, tls_with_cert, tls_as_offered;
	struct hf_settings settings; /* offered by a server; hash_len and all else 0: none */
	bool trial;                  /* nothing but the settings */
	bool as_offered;             /* the present url is the settings' */
	struct hf_url url;
	char url_text[HF_ID_URL_MAX];
	char proxy[512], proxy_shown[160];
	unsigned index; /* of the portal in the list */
	uint64_t epoch, epoch_reserved;
	uint64_t ticket_saved_ns;
	int64_t verify_at_s;
	char last_good[400];
};

static void load_epoch(struct hf_target *t)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	r = hf_read_file(t->dirfd, FILE_EPOCH, 32, &text, &len);
	if (r >= 0) {
		text[strcspn(text, "\n")] = 0;
		r = hf_parse_u64(text, &t->epoch);
	}
	/* A lost number must not become small: the portal would take us for our own past. */
	if (r < 0)
		t->epoch = hf_now_realtime_ns() / HF_NS_PER_MS;
	t->epoch_reserved = t->epoch;
}

uint64_t hf_target_next_epoch(struct hf_target *t)
{
	char text[32];
	int r;

	t->epoch++;
	if (t->epoch > t->epoch_reserved) {
		t->epoch_reserved = t->epoch + EPOCH_BLOCK;
		hf_strf(text, sizeof(text), "%llu\n", (unsigned long long)t->epoch_reserved);
		r = hf_disk_write(t->disk, FILE_EPOCH, text, strlen(text), 0600, NULL, NULL);
		if (r < 0)
			hf_warn_r(r, "reserve connection epochs, ignoring");
	}
	return t->epoch;
}

static bool parse_address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	char host[64];
	uint16_t port;
	struct sockaddr_in *a4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)ret;

	*ret = (struct sockaddr_storage){};
	if (hf_config_split_host_port(text, host, sizeof(host), &port) < 0)
		return false;
	if (inet_pton(AF_INET, host, &a4->sin_addr) == 1) {
		a4->sin_family = AF_INET;
		a4->sin_port = htons(port);
		*ret_len = sizeof(*a4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &a6->sin6_addr) == 1) {
		a6->sin6_family = AF_INET6;
		a6->sin6_port = htons(port);
		*ret_len = sizeof(*a6);
		return true;
	}
	return false;
}

static void load_last_good(struct hf_target *t)
{
	_cleanup_free_ char *text = NULL;
	struct sockaddr_storage sa;
	socklen_t sa_len;
	char *address;
	size_t len;

	if (hf_read_file(t->dirfd, FILE_LAST_GOOD, sizeof(t->last_good) - 1, &text, &len) < 0)
		return;
	hf_strlcpy(t->last_good, text, sizeof(t->last_good));
	address = strchr(text, '\n');
	if (!address)
		return;
	*address++ = 0;
	address[strcspn(address, "\n")] = 0;
	if (parse_address(address, &sa, &sa_len))
		hf_dialer_remember(t->dialer, text, (struct sockaddr *)&sa, sa_len);
}

int hf_target_new(int state_dirfd, const char *state_dir, struct hf_identity *identity,
		  struct hf_disk *disk, struct hf_dialer *dialer, struct hf_target **ret)
{
	struct hf_target *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->dirfd = state_dirfd;
	t->identity = identity;
	t->disk = disk;
	t->dialer = dialer;
	t->tls_stale = true;
	if (!hf_strlcpy(t->state_dir, state_dir, sizeof(t->state_dir))) {
		free(t);
		return -ENAMETOOLONG;
	}
	hf_dialer_set_cache_ms(dialer, DNS_FRESH_MS);
	load_epoch(t);
	load_last_good(t);
	r = hf_settings_load(state_dirfd, &t->settings);
	if (r < 0 && r != -ENOENT)
		hf_warn_r(r, "read the settings that the portal offered, ignoring");
	*ret = t;
	return 0;
}

static void free_retired(struct hf_target *t)
{
	while (t->n_retired > 0)
		hf_tls_context_free(t->retired[--t->n_retired]);
}

struct hf_target *hf_target_free(struct hf_target *t)
{
	if (!t)
		return NULL;
	t->tls = hf_tls_context_free(t->tls);
	free_retired(t);
	hf_wipe(t->proxy, sizeof(t->proxy));
	hf_settings_done(&t->settings);
	free(t);
	return NULL;
}

int hf_target_new_trial(const struct hf_target *base, struct hf_settings *s,
			struct hf_dialer *dialer, struct hf_target **ret)
{
	struct hf_target *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->dirfd = base->dirfd;
	t->identity = base->identity;
	t->disk = base->disk;
	t->dialer = dialer;
	t->tls_stale = t->trial = true;
	t->verify_at_s = base->verify_at_s;
	hf_strlcpy(t->state_dir, base->state_dir, sizeof(t->state_dir));
	t->settings = *s;
	*s = (struct hf_settings){};
	if (!t->settings.url[0])
		hf_strlcpy(t->settings.url, base->url_text, sizeof(t->settings.url));
	*ret = t;
	return 0;
}

void hf_target_adopt(struct hf_target *t, struct hf_target *trial)
{
	hf_settings_done(&t->settings);
	t->settings = trial->settings;
	trial->settings = (struct hf_settings){};
	free_retired(t);
	hf_tls_context_free(t->tls);
	t->tls = TAKE_PTR(trial->tls);
	t->tls_stale = false;
	t->tls_with_cert = trial->tls_with_cert;
	t->tls_as_offered = t->as_offered = true;
	t->url = trial->url;
	memcpy(t->url_text, trial->url_text, sizeof(t->url_text));
	memcpy(t->proxy, trial->proxy, sizeof(t->proxy));
	memcpy(t->proxy_shown, trial->proxy_shown, sizeof(t->proxy_shown));
	t->index = 0;
}

const struct hf_settings *hf_target_settings(const struct hf_target *t)
{
	return &t->settings;
}

/* An administrator who changes config.yml later means it. */
static bool settings_hold(const struct hf_target *t, const struct hf_config *c)
{
	return t->settings.url[0] && (t->trial || hf_streq(t->settings.replaces, c->portal.url));
}

const char *hf_target_text(const struct hf_target *t, const struct hf_config *c)
{
	return settings_hold(t, c) ? t->settings.url : hf_identity_url(t->identity, c->portal.url);
}

/*
 * Portal number i of the list: the offered one, the first, then the further ones. NULL past the end.
 */
static const char *nth(const struct hf_target *t, const struct hf_config *c, unsigned i)
{
	const char *first = hf_identity_url(t->identity, c->portal.url);

	if (settings_hold(t, c)) {
		if (i == 0)
			return t->settings.url;
		if (t->trial)
			return NULL;
		i--;
	}
	if (first[0]) {
		if (i == 0)
			return first;
		i--;
	}
	return i < c->portal.urls.n ? c->portal.urls.items[i] : NULL;
}

bool hf_target_known(const struct hf_target *t, const struct hf_config *c)
{
	return nth(t, c, 0);
}

static const char *environment(const char *lower, const char *upper)
{
	const char *v = getenv(lower);

	if (!v || !v[0])
		v = getenv(upper);
	return v && v[0] ? v : NULL;
}

static bool without_proxy(const struct hf_config *c, const char *host)
{
	const char *env;

	for (size_t i = 0; i < c->portal.no_proxy.n; i++) {
		if (hf_no_proxy_matches(c->portal.no_proxy.items[i], host))
			return true;
	}
	env = c->portal.proxy[0] ? NULL : environment("no_proxy", "NO_PROXY");
	return env && hf_no_proxy_matches(env, host);
}

static void choose_proxy(struct hf_target *t, const struct hf_config *c)
{
	const char *proxy =
		c->portal.proxy[0] ? c->portal.proxy : environment("https_proxy", "HTTPS_PROXY");
	bool offered = t->as_offered && t->settings.proxy[0];
	struct hf_url u;

	t->proxy[0] = t->proxy_shown[0] = 0;
	if (offered)
		proxy = t->settings.proxy;
	else if (!proxy || without_proxy(c, t->url.host))
		return;
	if (hf_url_parse(proxy, &u) < 0 || !hf_strlcpy(t->proxy, proxy, sizeof(t->proxy))) {
		hf_warn("the proxy of the environment is not a valid URL, ignoring");
		t->proxy[0] = 0;
		return;
	}
	hf_url_authority(&u, t->proxy_shown, sizeof(t->proxy_shown));
	hf_wipe(&u, sizeof(u)); /* it may hold a password */
}

static void restore_ticket(struct hf_target *t)
{
	_cleanup_free_ char *data = NULL;
	size_t len, host;

	if (hf_read_file(t->dirfd, FILE_TICKET, HF_ID_PEM_MAX, &data, &len) < 0)
		return;
	/* "host\n" and the session. Without a match the next handshake is a full one. */
	host = strcspn(data, "\n");
	if (host < len) {
		data[host] = 0;
		(void)hf_tls_session_restore(t->tls, data, (uint8_t *)data + host + 1,
					     len - host - 1);
	}
	hf_wipe(data, len);
}

static int make_tls(struct hf_target *t, const struct hf_config *c, bool with_certificate,
		    struct hf_err *err)
{
	char ca[256], cert[256], key[256];
	struct hf_tls_client_options o = {
		.pins = (const char *const *)c->portal.pins.items,
		.n_pins = c->portal.pins.n,
	};
	struct hf_tls_context *tls;
	bool first = !t->tls;
	int r;

	if (t->as_offered && t->settings.ca_pem) {
		o.ca_pem = t->settings.ca_pem;
	} else if (c->portal.ca_file[0]) {
		o.ca_file = c->portal.ca_file;
	} else if (hf_identity_has_ca(t->identity)) {
		hf_strf(ca, sizeof(ca), "%s/%s", t->state_dir, HF_ID_PORTAL_CA);
		o.ca_file = ca;
	}
	if (with_certificate) {
		hf_strf(cert, sizeof(cert), "%s/%s", t->state_dir, HF_ID_CERT);
		hf_strf(key, sizeof(key), "%s/%s", t->state_dir, HF_ID_KEY);
		o.cert_file = cert;
		o.key_file = key;
	}
	r = hf_tls_client_context_new(&o, &tls, err);
	if (r < 0)
		return r;
	if (t->tls)
		t->retired[t->n_retired++] = t->tls;
	t->tls = tls;
	t->tls_stale = false;
	t->tls_with_cert = with_certificate;
	t->tls_as_offered = t->as_offered;
	if (first && with_certificate && !t->trial)
		restore_ticket(t);
	return 0;
}

int hf_target_prepare(struct hf_target *t, const struct hf_config *c, bool with_certificate,
		      bool idle, struct hf_tls_context **ret_tls, struct hf_err *err)
{
	const char *text = nth(t, c, t->index);
	int r;

	if (!text) {
		t->index = 0;
		text = nth(t, c, 0);
	}
	if (!text)
		return hf_err_set(err, -EDESTADDRREQ, "no portal is configured");
	if (!hf_streq(text, t->url_text) || !t->url.host[0]) {
		if (hf_url_parse(text, &t->url) < 0 || !t->url.tls)
			return hf_err_set(err, -EDESTADDRREQ,
					  "portal URL '%.100s' is not a valid wss:// URL", text);
		hf_strlcpy(t->url_text, text, sizeof(t->url_text));
	}
	t->as_offered = settings_hold(t, c) && hf_streq(text, t->settings.url);
	choose_proxy(t, c);
	if (idle)
		free_retired(t);
	if ((t->tls_stale || !t->tls || t->tls_with_cert != with_certificate ||
	     t->tls_as_offered != t->as_offered) &&
	    t->n_retired < RETIRED_MAX) {
		r = make_tls(t, c, with_certificate, err);
		if (r < 0)
			return r;
	}
	hf_tls_context_set_time(t->tls, t->verify_at_s);
	*ret_tls = t->tls;
	return 0;
}

void hf_target_set_time(struct hf_target *t, int64_t unix_s)
{
	t->verify_at_s = unix_s;
}

const struct hf_url *hf_target_url(const struct hf_target *t)
{
	return &t->url;
}

const char *hf_target_proxy(const struct hf_target *t)
{
	return t->proxy[0] ? t->proxy : NULL;
}

const char *hf_target_headers(const struct hf_target *t)
{
	return t->as_offered ? t->settings.headers : NULL;
}

const char *hf_target_proxy_shown(const struct hf_target *t)
{
	return t->proxy_shown;
}

void hf_target_next(struct hf_target *t)
{
	t->index++; /* prepare wraps it */
}

void hf_target_connected(struct hf_target *t, const char *address)
{
	char text[sizeof(t->last_good)];

	if (t->proxy[0])
		return; /* the address is the proxy's */
	hf_strf(text, sizeof(text), "%s\n%s\n", t->url.host, address);
	if (hf_streq(text, t->last_good))
		return;
	hf_strlcpy(t->last_good, text, sizeof(t->last_good));
	(void)hf_disk_write(t->disk, FILE_LAST_GOOD, text, strlen(text), 0600, NULL,
			    NULL); /* only a convenience for a day without DNS */
}

void hf_target_credentials_changed(struct hf_target *t)
{
	t->tls_stale = true;
	t->index = 0;
}

void hf_target_save_ticket(struct hf_target *t)
{
	_cleanup_free_ uint8_t *data = NULL;
	uint64_t now = hf_now_monotonic_ns();
	struct hf_buf buf = {};
	size_t len;

	if (!t->tls || !t->tls_with_cert)
		return;
	if (t->ticket_saved_ns && now - t->ticket_saved_ns < TICKET_EVERY_NS)
		return;
	if (hf_tls_session_serialize(t->tls, t->url.host, &data, &len) < 0)
		return; /* a server that gives none */
	if (hf_buf_appendf(&buf, "%s\n", t->url.host) >= 0 && hf_buf_append(&buf, data, len) >= 0 &&
	    hf_disk_write(t->disk, FILE_TICKET, buf.data, buf.len, 0600, NULL, NULL) >= 0)
		t->ticket_saved_ns = now;
	hf_wipe(buf.data, buf.len);
	hf_buf_done(&buf);
	hf_wipe(data, len);
}

void hf_target_forget(struct hf_target *t)
{
	hf_target_credentials_changed(t);
	hf_settings_done(&t->settings);
	(void)hf_settings_remove(t->disk); /* left over it would only be a portal to try */
	t->url = (struct hf_url){};
	t->url_text[0] = t->last_good[0] = 0;
	/* Both are worthless without the identity; left over they do no harm. */
	(void)hf_disk_unlink(t->disk, FILE_TICKET, NULL, NULL);
	(void)hf_disk_unlink(t->disk, FILE_LAST_GOOD, NULL, NULL);
}
