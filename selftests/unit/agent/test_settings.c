/* SPDX-License-Identifier: Apache-2.0 */
/* Offered connection settings: what is refused, and what is the same after a restart. */
#include "selftests/unit/agent/loop_util.h"

#include "userspace/agent/settings.h"

#define CA "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"

struct offer {
	Opamp__ConnectionSettingsOffers offers;
	Opamp__OpAMPConnectionSettings opamp;
	Opamp__TLSConnectionSettings tls;
	Opamp__ProxyConnectionSettings proxy;
	Opamp__Headers headers;
	Opamp__Header header[HF_SETTINGS_HEADERS + 1], *list[HF_SETTINGS_HEADERS + 1];
};

static struct offer *empty_offer(struct offer *o)
{
	*o = (struct offer){
		.offers = OPAMP__CONNECTION_SETTINGS_OFFERS__INIT,
		.opamp = OPAMP__OP_AMPCONNECTION_SETTINGS__INIT,
		.tls = OPAMP__TLSCONNECTION_SETTINGS__INIT,
		.proxy = OPAMP__PROXY_CONNECTION_SETTINGS__INIT,
		.headers = OPAMP__HEADERS__INIT,
	};
	o->offers.opamp = &o->opamp;
	return o;
}

static void add_header(struct offer *o, const char *key, const char *value)
{
	size_t n = o->headers.n_headers++;

	o->header[n] = (Opamp__Header)OPAMP__HEADER__INIT;
	o->header[n].key = (char *)key;
	o->header[n].value = (char *)value;
	o->list[n] = &o->header[n];
	o->headers.headers = o->list;
	o->opamp.headers = &o->headers;
}

static void refused(struct offer *o, int r, const char *word)
{
	struct hf_settings s = {.heartbeat_s = 77};
	struct hf_err err = {};

	assert_int_equal(hf_settings_parse(&o->offers, "", &s, &err), r);
	assert_non_null(strstr(err.msg, word));
	assert_int_equal(s.heartbeat_s, 77); /* untouched */
}

static void what_may_not_be_used_is_refused_with_its_reason(void **state)
{
	static const char *const urls[] = {"nonsense", "ws://portal.example/", "wss://",
					   "http://portal.example/", "wss://a b/"};
	static const char *const names[] = {"",           "Bad Name", "Na:me", "Host",
					    "connection", "UPGRADE",  "X\r\n", "Sec-WebSocket-Key"};
	static char hash[HF_SETTINGS_HASH_MAX + 1];
	char text[HF_SETTINGS_TEXT_MAX + 8];
	struct offer o;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_SIZE(urls); i++) {
		empty_offer(&o)->opamp.destination_endpoint = (char *)urls[i];
		refused(&o, -EINVAL, "wss://");
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(names); i++) {
		add_header(empty_offer(&o), names[i], "v");
		refused(&o, -EINVAL, "header 1");
	}
	add_header(empty_offer(&o), "Good", "v");
	add_header(&o, "X", "a\r\nY: b");
	refused(&o, -EINVAL, "header 2");
	empty_offer(&o);
	for (unsigned i = 0; i <= HF_SETTINGS_HEADERS; i++)
		add_header(&o, "X", "v");
	refused(&o, -EINVAL, "more than");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	add_header(empty_offer(&o), "X", text);
	refused(&o, -EINVAL, "longer than");
	empty_offer(&o)->opamp.tls = &o.tls;
	o.tls.insecure_skip_verify = true;
	refused(&o, -ENOTSUP, "verification");
	empty_offer(&o)->opamp.tls = &o.tls;
	o.tls.max_version = (char *)"1.1";
	refused(&o, -ENOTSUP, "1.2");
	empty_offer(&o)->opamp.tls = &o.tls;
	o.tls.ca_pem_contents = (char *)"no certificate";
	refused(&o, -EINVAL, "PEM");
	empty_offer(&o)->opamp.proxy = &o.proxy;
	o.proxy.url = (char *)"https://proxy.example/";
	refused(&o, -EINVAL, "proxy");
	empty_offer(&o)->offers.hash = (ProtobufCBinaryData){sizeof(hash), (uint8_t *)hash};
	refused(&o, -EINVAL, "hash");
}

static void an_offer_of_nothing_new_is_nothing_to_try(void **state)
{
	struct hf_settings s = {};
	struct hf_err err = {};
	struct offer o;

	(void)state;
	empty_offer(&o)->opamp.heartbeat_interval_seconds = 30;
	assert_int_equal(hf_settings_parse(&o.offers, "", &s, &err), 0);
	assert_int_equal(s.heartbeat_s, 30);
	o.offers.opamp = NULL;
	assert_int_equal(hf_settings_parse(&o.offers, "", &s, &err), 0);
	hf_settings_done(&s);
}

struct outcome {
	bool over;
	int r;
};

static void done(int r, void *userdata)
{
	*(struct outcome *)userdata = (struct outcome){true, r};
}

static void settings_are_the_same_after_a_restart(void **state)
{
	const struct hf_test_dir *dir = *state;
	struct hf_settings s = {}, t = {};
	struct hf_disk *disk;
	struct hf_err err = {};
	struct offer o;
	sd_event *event;
	struct outcome stored = {};

	assert_int_equal(hf_settings_load(dir->fd, &t), -ENOENT);
	empty_offer(&o)->opamp.destination_endpoint = (char *)"wss://new.example:4320/v1/opamp";
	o.offers.hash = (ProtobufCBinaryData){4, (uint8_t *)"hash"};
	o.opamp.tls = &o.tls;
	o.tls.ca_pem_contents = (char *)CA;
	o.opamp.proxy = &o.proxy;
	o.proxy.url = (char *)"http://me:secret@proxy.example:3128";
	add_header(&o, "Authorization", "Bearer x: y");
	add_header(&o, "X-Empty", "");
	assert_int_equal(hf_settings_parse(&o.offers, "wss://old.example/", &s, &err), 1);
	assert_ok(sd_event_new(&event));
	assert_ok(hf_disk_new(event, dir->fd, &disk));
	assert_ok(hf_settings_save(&s, disk, done, &stored));
	hf_test_run_until(event, &stored.over);
	assert_ok(stored.r);
	assert_ok(hf_settings_load(dir->fd, &t));
	assert_string_equal(t.url, "wss://new.example:4320/v1/opamp");
	assert_string_equal(t.replaces, "wss://old.example/");
	assert_string_equal(t.headers, "Authorization: Bearer x: y\r\nX-Empty: \r\n");
	assert_string_equal(t.ca_pem, CA);
	assert_string_equal(t.proxy, "http://me:secret@proxy.example:3128");
	assert_int_equal(t.hash_len, 4);
	assert_memory_equal(t.hash, "hash", 4);
	hf_settings_done(&s);
	hf_settings_done(&t);
	hf_disk_close(disk, 5000);
	sd_event_unref(event);
}

static void a_damaged_file_is_no_settings(void **state)
{
	static const char *const damaged[] = {"", "no newline", "wss://a/\n\xff\xff", "\n"};
	const struct hf_test_dir *dir = *state;
	struct hf_settings s = {};

	for (size_t i = 0; i < HF_ARRAY_SIZE(damaged); i++) {
		hf_test_write(dir, "settings", damaged[i]);
		assert_int_equal(hf_settings_load(dir->fd, &s), -EINVAL);
		assert_null(s.headers);
	}
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, hf_test_dir_setup, hf_test_dir_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_may_not_be_used_is_refused_with_its_reason),
		cmocka_unit_test(an_offer_of_nothing_new_is_nothing_to_try),
		IN_DIR(settings_are_the_same_after_a_restart),
		IN_DIR(a_damaged_file_is_no_settings),
	};

	return HF_RUN_TESTS(tests);
}
