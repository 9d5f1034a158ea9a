/* SPDX-License-Identifier: Apache-2.0 */
/* The first message of a connection: what the portal learns of us, and what is not repeated. */
#include "selftests/unit/test_util.h"

#include "holdfast/session.h"
#include "userspace/agent/session.h"
#include "userspace/proto/frame.h"

static const uint8_t uid[16] = {1, 2, 3};

static char *config_text(void *userdata)
{
	unsigned *calls = userdata;

	(*calls)++;
	return strdup("environment: dev\n");
}

static int streams(Session__Hello *hello, void *userdata)
{
	(void)userdata;
	hello->streams = calloc(1, sizeof(*hello->streams));
	assert_non_null(hello->streams);
	hello->streams[0] = calloc(1, sizeof(**hello->streams));
	assert_non_null(hello->streams[0]);
	session__stream__init(hello->streams[0]);
	hello->streams[0]->epoch = 11;
	hello->streams[0]->first_unacked = 12;
	hello->streams[0]->last = 13;
	hello->n_streams = 1;
	return 0;
}

static Opamp__AgentToServer *first(const struct hf_hello *h)
{
	Opamp__AgentToServer *m;
	struct hf_buf buf = {};

	assert_ok(hf_session_first_message(h, &buf));
	assert_int_equal(buf.data[0], 0); /* OpAMP's header */
	assert_ok(hf_opamp_decode_to_server(buf.data, buf.len, &m));
	hf_buf_done(&buf);
	return m;
}

static struct hf_self self_of(const struct hf_host *host, unsigned *config_calls)
{
	return (struct hf_self){
		.host = host,
		.instance_uid = uid,
		.version = "1.2.3",
		.environment = "dev",
		.kernel_assist = "ebpf",
		.last_error = "",
		.effective_config = config_text,
		.userdata = config_calls,
	};
}

static void the_first_message_says_who_we_are(void **state)
{
	struct hf_host host = {.hostname = "web-1", .kernel = "6.1.0", .arch = "amd64"};
	unsigned config_calls = 0;
	struct hf_self self = self_of(&host, &config_calls);
	const struct hf_hello h = {
		.self = &self,
		.epoch = 42,
		.last_close = "peer_reset",
		.streams = streams,
	};
	Opamp__AgentToServer *m = first(&h);
	Session__Hello *hello;

	(void)state;
	assert_int_equal(m->instance_uid.len, 16);
	assert_memory_equal(m->instance_uid.data, uid, 16);
	assert_int_equal(m->sequence_num, 1);
	assert_true(m->capabilities & 1); /* ReportsStatus must always be set */
	assert_string_equal(hf_opamp_kv_get(m->agent_description->identifying_attributes,
					    m->agent_description->n_identifying_attributes,
					    "service.version"),
			    "1.2.3");
	assert_string_equal(hf_opamp_kv_get(m->agent_description->non_identifying_attributes,
					    m->agent_description->n_non_identifying_attributes,
					    "host.name"),
			    "web-1");
	assert_true(m->health->healthy);
	assert_int_equal(m->health->n_component_health_map, 1);
	assert_int_equal(m->custom_capabilities->n_capabilities, 4);
	assert_null(m->connection_settings_request);
	assert_true(hf_opamp_custom_is(m->custom_message, HF_CAP_SESSION, HF_MSG_HELLO));
	assert_ok(hf_opamp_custom_unpack(m->custom_message, &session__hello__descriptor, &hello));
	assert_int_equal(hello->epoch, 42);
	assert_string_equal(hello->environment, "dev");
	assert_string_equal(hello->last_close, "peer_reset");
	assert_string_equal(hello->hostname, "web-1");
	assert_int_equal(hello->machine_id_hash.len, 32);
	assert_int_equal(hello->n_streams, 1);
	assert_int_equal(hello->streams[0]->first_unacked, 12);
	session__hello__free_unpacked(hello, NULL);
	opamp__agent_to_server__free_unpacked(m, NULL);
}

static void an_enrolment_carries_the_request(void **state)
{
	struct hf_host host = {};
	unsigned config_calls = 0;
	struct hf_self self = self_of(&host, &config_calls);
	const struct hf_hello h = {.self = &self, .last_close = "", .csr = "PEM", .csr_len = 3};
	Opamp__AgentToServer *m = first(&h);

	(void)state;
	assert_memory_equal(m->connection_settings_request->opamp->certificate_request->csr.data,
			    "PEM", 3);
	opamp__agent_to_server__free_unpacked(m, NULL);
}

static void the_configuration_travels_once_until_it_changes(void **state)
{
	struct hf_host host = {};
	unsigned config_calls = 0;
	struct hf_self self = self_of(&host, &config_calls);
	const struct hf_hello h = {.self = &self, .last_close = ""};
	Opamp__AgentToServer *m;

	(void)state;
	for (uint64_t i = 1; i <= 3; i++) {
		m = first(&h);
		assert_int_equal(m->sequence_num, i);
		assert_int_equal(m->effective_config != NULL, i == 1);
		assert_non_null(m->agent_description);
		opamp__agent_to_server__free_unpacked(m, NULL);
	}
	assert_int_equal(config_calls, 1);
	self.config_sent = false;
	m = first(&h);
	assert_string_equal(m->effective_config->config_map->config_map[0]->key, "config.yml");
	opamp__agent_to_server__free_unpacked(m, NULL);
}

static void an_unhealthy_agent_says_why(void **state)
{
	struct hf_host host = {};
	unsigned config_calls = 0;
	struct hf_self self = self_of(&host, &config_calls);
	const struct hf_hello h = {.self = &self, .last_close = ""};
	Opamp__AgentToServer *m;

	(void)state;
	self.last_error = "the disk is full";
	m = first(&h);
	assert_false(m->health->healthy);
	assert_string_equal(m->health->last_error, "the disk is full");
	opamp__agent_to_server__free_unpacked(m, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_message_says_who_we_are),
		cmocka_unit_test(an_enrolment_carries_the_request),
		cmocka_unit_test(the_configuration_travels_once_until_it_changes),
		cmocka_unit_test(an_unhealthy_agent_says_why),
	};
	return HF_RUN_TESTS(tests);
}
