/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: the configured URL that the settings replace, a newline, then the settings as a packed
 * ConnectionSettingsOffers, so that reading it is the check of an offer once more.
 */
#include "userspace/agent/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/str.h"
#include "userspace/net/http.h"
#include "userspace/proto/frame.h"

#define FILE_SETTINGS "settings"

void hf_settings_done(struct hf_settings *s)
{
	if (s->headers)
		hf_wipe(s->headers, strlen(s->headers));
	free(s->headers);
	free(s->ca_pem);
	hf_wipe(s, sizeof(*s));
	*s = (struct hf_settings){};
}

/* RFC 9110, 5.6.2. */
static bool is_token(const char *s)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	if (!*s)
		return false;
	for (; *s; s++) {
		bool alnum = (*s >= '0' && *s <= '9') || (*s >= 'A' && *s <= 'Z') ||
			     (*s >= 'a' && *s <= 'z');

		if (!alnum && !strchr(others, *s))
			return false;
	}
	return true;
}

static bool is_value(const char *s)
{
	for (; *s; s++)
		if ((*s < ' ' && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

/* What the upgrade itself says must not be said twice. */
static bool is_ours(const char *name)
{
	static const char *const ours[] = {"Host", "Connection", "Upgrade", "Content-Length",
					   "Transfer-Encoding"};

	for (size_t i = 0; i < HF_ARRAY_SIZE(ours); i++)
		if (strcasecmp(name, ours[i]) == 0)
			return true;
	return strncasecmp(name, "Sec-WebSocket-", 14) == 0;
}

static int take_headers(const Opamp__Headers *h, struct hf_settings *s, struct hf_err *err)
{
	_cleanup_(hf_buf_done) struct hf_buf text = {};

	if (!h || h->n_headers == 0)
		return 0;
	if (h->n_headers > HF_SETTINGS_HEADERS)
		return hf_err_set(err, -EINVAL, "%zu headers are more than %u", h->n_headers,
				  HF_SETTINGS_HEADERS);
	for (size_t i = 0; i < h->n_headers; i++) {
		const Opamp__Header *one = h->headers[i];

		if (!is_token(one->key) || !is_value(one->value) || is_ours(one->key))
			return hf_err_set(err, -EINVAL, "header %zu may not be sent", i + 1);
		if (hf_buf_appendf(&text, "%s: %s\r\n", one->key, one->value) < 0)
			return hf_err_set(err, -ENOMEM, "out of memory");
		if (text.len > HF_SETTINGS_TEXT_MAX)
			return hf_err_set(err, -EINVAL, "the headers are longer than %u bytes",
					  HF_SETTINGS_TEXT_MAX);
	}
	s->headers = strndup((const char *)text.data, text.len);
	hf_wipe(text.data, text.len);
	return s->headers ? 1 : hf_err_set(err, -ENOMEM, "out of memory");
}

static int take_tls(const Opamp__TLSConnectionSettings *t, struct hf_settings *s,
		    struct hf_err *err)
{
	if (!t)
		return 0;
	/* Whoever may be anybody may not be obeyed. */
	if (t->insecure_skip_verify)
		return hf_err_set(err, -ENOTSUP, "a connection without verification is never made");
	if (t->max_version[0] && !hf_streq(t->max_version, "1.2") &&
	    !hf_streq(t->max_version, "1.3") && !hf_streq(t->max_version, "TLSv1.2") &&
	    !hf_streq(t->max_version, "TLSv1.3"))
		return hf_err_set(err, -ENOTSUP, "TLS below 1.2 is never spoken");
	if (!t->ca_pem_contents[0])
		return 0;
	if (strlen(t->ca_pem_contents) > HF_ID_PEM_MAX ||
	    !strstr(t->ca_pem_contents, "-----BEGIN CERTIFICATE-----"))
		return hf_err_set(err, -EINVAL, "the CA offered is not a PEM certificate");
	s->ca_pem = strdup(t->ca_pem_contents);
	return s->ca_pem ? 1 : hf_err_set(err, -ENOMEM, "out of memory");
}

static int take_addresses(const Opamp__OpAMPConnectionSettings *o, struct hf_settings *s,
			  struct hf_err *err)
{
	const char *proxy = o->proxy ? o->proxy->url : "";
	struct hf_url u;

	if (o->destination_endpoint[0]) {
		if (hf_url_parse(o->destination_endpoint, &u) < 0 || !u.tls ||
		    !hf_strlcpy(s->url, o->destination_endpoint, sizeof(s->url)) ||
		    strpbrk(s->url, "\r\n"))
			return hf_err_set(err, -EINVAL,
					  "the destination is not a valid wss:// URL");
	}
	if (o->proxy && o->proxy->connect_headers && o->proxy->connect_headers->n_headers > 0)
		return hf_err_set(err, -ENOTSUP, "headers for a proxy are not supported");
	if (proxy[0] && (hf_url_parse(proxy, &u) < 0 || u.tls ||
			 !hf_strlcpy(s->proxy, proxy, sizeof(s->proxy))))
		return hf_err_set(err, -EINVAL, "the proxy is not a valid http:// URL");
	return s->url[0] || s->proxy[0];
}

static int take_offer(const Opamp__ConnectionSettingsOffers *offer, struct hf_settings *s,
		      struct hf_err *err)
{
	const Opamp__OpAMPConnectionSettings *o = offer->opamp;
	bool something;
	int r;

	if (offer->hash.len > sizeof(s->hash))
		return hf_err_set(err, -EINVAL, "the offer's hash is longer than %u bytes",
				  HF_SETTINGS_HASH_MAX);
	if (offer->hash.len > 0)
		memcpy(s->hash, offer->hash.data, offer->hash.len);
	s->hash_len = offer->hash.len;
	if (!o)
		return 0;
	if (o->heartbeat_interval_seconds <= UINT32_MAX)
		s->heartbeat_s = (uint32_t)o->heartbeat_interval_seconds;
	r = take_addresses(o, s, err);
	something = r > 0;
	if (r >= 0) {
		r = take_headers(o->headers, s, err);
		something |= r > 0;
	}
	if (r >= 0) {
		r = take_tls(o->tls, s, err);
		something |= r > 0;
	}
	return r < 0 ? r : something;
}

int hf_settings_parse(const Opamp__ConnectionSettingsOffers *offer, const char *configured_url,
		      struct hf_settings *ret, struct hf_err *err)
{
	struct hf_settings s = {};
	int r = take_offer(offer, &s, err);

	if (r >= 0 && !hf_strlcpy(s.replaces, configured_url, sizeof(s.replaces)))
		r = hf_err_set(err, -EINVAL, "the configured URL is too long");
	if (r < 0) {
		hf_settings_done(&s);
		return r;
	}
	*ret = s;
	return r;
}

int hf_settings_load(int dirfd, struct hf_settings *ret)
{
	_cleanup_free_ char *data = NULL;
	Opamp__ConnectionSettingsOffers *offer = NULL;
	struct hf_err err = {};
	size_t len, line;
	int r;

	r = hf_read_file(dirfd, FILE_SETTINGS, HF_DISK_BYTES_MAX, &data, &len);
	if (r < 0)
		return r;
	line = strcspn(data, "\n");
	if (line >= len)
		return -EINVAL;
	data[line] = 0;
	r = hf_pb_unpack(&opamp__connection_settings_offers__descriptor, (uint8_t *)data + line + 1,
			 len - line - 1, &offer);
	if (r < 0)
		return -EINVAL;
	r = hf_settings_parse(offer, data, ret, &err);
	hf_pb_freep(&offer);
	hf_wipe(data, len);
	if (r == 0)
		hf_settings_done(ret);
	return r > 0 ? 0 : -EINVAL;
}

/* The lines of s->headers as messages that borrow from a copy of it; returns how many. */
static size_t split_headers(char *text, Opamp__Header *list, Opamp__Header **pointers)
{
	size_t n = 0;

	for (char *line = text; line && *line && n < HF_SETTINGS_HEADERS;) {
		char *end = strstr(line, "\r\n"), *colon = strstr(line, ": ");

		if (!end || !colon || colon > end)
			break;
		*end = *colon = 0;
		list[n] = (Opamp__Header)OPAMP__HEADER__INIT;
		list[n].key = line;
		list[n].value = colon + 2;
		pointers[n] = &list[n];
		n++;
		line = end + 2;
	}
	return n;
}

int hf_settings_save(const struct hf_settings *s, struct hf_disk *disk, hf_disk_done_fn done,
		     void *userdata)
{
	Opamp__ConnectionSettingsOffers offer = OPAMP__CONNECTION_SETTINGS_OFFERS__INIT;
	Opamp__OpAMPConnectionSettings o = OPAMP__OP_AMPCONNECTION_SETTINGS__INIT;
	Opamp__TLSConnectionSettings tls = OPAMP__TLSCONNECTION_SETTINGS__INIT;
	Opamp__ProxyConnectionSettings proxy = OPAMP__PROXY_CONNECTION_SETTINGS__INIT;
	Opamp__Headers headers = OPAMP__HEADERS__INIT;
	Opamp__Header list[HF_SETTINGS_HEADERS], *pointers[HF_SETTINGS_HEADERS];
	_cleanup_free_ char *text = s->headers ? strdup(s->headers) : NULL;
	size_t text_len = text ? strlen(text) : 0;
	struct hf_buf buf = {};
	int r;

	if (s->headers && !text)
		return -ENOMEM;
	offer.hash.data = (uint8_t *)s->hash;
	offer.hash.len = s->hash_len;
	offer.opamp = &o;
	o.destination_endpoint = (char *)s->url; /* only read while packing, like the others */
	o.heartbeat_interval_seconds = s->heartbeat_s;
	if (text) {
		headers.n_headers = split_headers(text, list, pointers);
		headers.headers = pointers;
		o.headers = &headers;
	}
	if (s->ca_pem) {
		tls.ca_pem_contents = s->ca_pem;
		o.tls = &tls;
	}
	if (s->proxy[0]) {
		proxy.url = (char *)s->proxy;
		o.proxy = &proxy;
	}
	r = hf_buf_appendf(&buf, "%s\n", s->replaces);
	if (r >= 0)
		r = hf_pb_pack(&offer.base, &buf);
	if (r >= 0)
		r = hf_disk_write(disk, FILE_SETTINGS, buf.data, buf.len, 0600, done, userdata);
	if (text)
		hf_wipe(text, text_len);
	hf_wipe(buf.data, buf.len);
	hf_buf_done(&buf);
	return r;
}

int hf_settings_remove(struct hf_disk *disk)
{
	return hf_disk_unlink(disk, FILE_SETTINGS, NULL, NULL);
}
