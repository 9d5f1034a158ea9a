/* SPDX-License-Identifier: Apache-2.0 */
/* Which signed actions may begin: keys and their chain, the proof of time, every refusal. */
#include "watchdog/action_verify.h"

#include "../test_util.h"
#include "base/clock.h"
#include "base/str.h"
#include "userspace/proto/frame.h"

#define HOST  "01900000-0000-7000-8000-00000000aaaa"
#define OTHER "01900000-0000-7000-8000-00000000bbbb"
#define ID    "01900000-0000-7000-8000-000000000001"
#define NOW   (UINT64_C(1800000000) * HF_NS_PER_S)
#define S     HF_NS_PER_S

static struct hf_secret_key keys[5]; /* a portal's, in order; [4] is a stranger's */

static void sign(const struct hf_secret_key *k, const char *purpose, const void *data, size_t len,
		 uint8_t ret[static HF_SIGNATURE_SIZE])
{
	uint8_t text[8192];
	size_t n = strlen(purpose) + 1;

	memcpy(text, purpose, n);
	memcpy(text + n, data, len);
	assert_ok(hf_key_sign(k, text, n + len, ret));
}

/* Links from keys[first] to keys[last]; signer: who signs the last one. */
static struct hf_buf chain(const char *endpoint, size_t first, size_t last,
			   const struct hf_secret_key *signer)
{
	Action__Keys m = ACTION__KEYS__INIT;
	Action__KeyLink links[5], *pointers[5];
	struct hf_buf bytes[5] = {}, out = {};
	uint8_t signatures[5][HF_SIGNATURE_SIZE];

	m.endpoint_id = (char *)endpoint;
	m.chain = pointers;
	for (size_t i = first; i <= last; i++) {
		Action__Key k = ACTION__KEY__INIT;
		const struct hf_secret_key *by = i == last && signer ? signer
						 : i                 ? &keys[i - 1]
								     : &keys[0];

		k.key_id = (ProtobufCBinaryData){HF_KEY_ID_SIZE, keys[i].pub.id};
		k.point = (ProtobufCBinaryData){HF_KEY_SIZE, keys[i].pub.point};
		if (i)
			k.previous_key_id =
				(ProtobufCBinaryData){HF_KEY_ID_SIZE, keys[i - 1].pub.id};
		assert_ok(hf_pb_pack(&k.base, &bytes[i]));
		sign(by, HF_ACTION_SIGN_KEY, bytes[i].data, bytes[i].len, signatures[i]);
		action__key_link__init(&links[i]);
		links[i].link = (ProtobufCBinaryData){bytes[i].len, bytes[i].data};
		links[i].signature = (ProtobufCBinaryData){HF_SIGNATURE_SIZE, signatures[i]};
		pointers[m.n_chain++] = &links[i];
	}
	assert_ok(hf_pb_pack(&m.base, &out));
	for (size_t i = 0; i < 5; i++)
		hf_buf_done(&bytes[i]);
	return out;
}

static int take(struct hf_action_trust *t, struct hf_buf m)
{
	struct hf_err err = {};
	int r = hf_action_trust_take(t, m.data, m.len, &err);

	hf_buf_done(&m);
	return r;
}

static void trusted(struct hf_action_trust *t, size_t last)
{
	*t = (struct hf_action_trust){};
	assert_int_equal(take(t, chain(HOST, 0, last, NULL)), 1);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void the_first_key_is_believed_and_pins_the_endpoint(void **state)
{
	struct hf_action_trust t = {};

	(void)state;
	assert_int_equal(take(&t, chain(HOST, 0, 0, NULL)), 1);
	assert_true(t.pinned);
	assert_string_equal(t.endpoint_id, HOST);
	assert_memory_equal(&t.key, &keys[0].pub, sizeof(t.key));
	assert_int_equal(take(&t, chain(HOST, 0, 0, NULL)), 0);
	assert_int_equal(take(&t, chain(OTHER, 0, 0, NULL)), -EXDEV);
}

static void an_endpoint_that_slept_follows_the_whole_chain(void **state)
{
	struct hf_action_trust t;

	(void)state;
	trusted(&t, 0);
	assert_int_equal(take(&t, chain(HOST, 0, 3, NULL)), 1);
	assert_memory_equal(&t.key, &keys[3].pub, sizeof(t.key));
	assert_int_equal(t.n_old, 3);
	/* Also when the oldest links were dropped, as long as the trusted one is there. */
	trusted(&t, 1);
	assert_int_equal(take(&t, chain(HOST, 1, 3, NULL)), 1);
}

static void nothing_else_replaces_a_trusted_key(void **state)
{
	struct hf_action_trust t, before;

	(void)state;
	trusted(&t, 1);
	before = t;
	assert_int_equal(take(&t, chain(HOST, 0, 0, NULL)), -EKEYREJECTED); /* back to an old one */
	assert_int_equal(take(&t, chain(HOST, 2, 3, NULL)), -EKEYREJECTED); /* a gap */
	assert_int_equal(take(&t, chain(HOST, 0, 2, &keys[4])), -EKEYREJECTED); /* a stranger's */
	assert_int_equal(take(&t, chain(HOST, 4, 4, &keys[4])), -EKEYREJECTED);
	assert_memory_equal(&t, &before, sizeof(t));
}

static void a_first_chain_must_sign_itself(void **state)
{
	struct hf_action_trust t = {};

	(void)state;
	assert_int_equal(take(&t, chain(HOST, 0, 2, &keys[4])), -EKEYREJECTED);
	assert_int_equal(take(&t, chain(HOST, 0, 0, &keys[4])), -EKEYREJECTED);
	assert_int_equal(take(&t, chain("host", 0, 0, NULL)), -EBADMSG);
	assert_false(t.pinned);
	/* The oldest may have had a predecessor that is not told any more. */
	assert_int_equal(take(&t, chain(HOST, 2, 3, NULL)), 1);
}

static void garbage_is_no_chain(void **state)
{
	struct hf_action_trust t = {};
	struct hf_buf m = chain(HOST, 0, 2, NULL);
	struct hf_err err = {};

	(void)state;
	for (size_t len = 0; len < m.len; len++) {
		t = (struct hf_action_trust){};
		/* Cut between two links it is a shorter chain, and a good one. */
		if (hf_action_trust_take(&t, m.data, len, &err) == 1)
			assert_memory_equal(&t.key, &keys[t.n_old].pub, sizeof(t.key));
	}
	t = (struct hf_action_trust){};
	for (size_t bit = 0; bit < m.len * 8; bit++) {
		m.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		/*
		 * The endpoint's name is not signed, and a link may turn into an unknown field: what
		 * is left is one of the portal's keys all the same.
		 */
		if (hf_action_trust_take(&t, m.data, m.len, &err) == 1) {
			size_t k = 0;

			while (k < 3 && memcmp(&t.key, &keys[k].pub, sizeof(t.key)) != 0)
				k++;
			assert_true(k < 3);
			t = (struct hf_action_trust){};
		}
		m.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	hf_buf_done(&m);
}

/* ---- time ------------------------------------------------------------------------------------ */

static struct hf_buf stamp(const struct hf_secret_key *k, const char *endpoint,
			   const uint8_t *nonce, uint64_t unix_ns)
{
	Action__Stamp s = ACTION__STAMP__INIT;
	Action__Time m = ACTION__TIME__INIT;
	struct hf_buf bytes = {}, out = {};
	uint8_t signature[HF_SIGNATURE_SIZE];

	s.nonce = (ProtobufCBinaryData){HF_ACTION_NONCE_SIZE, (uint8_t *)nonce};
	s.endpoint_id = (char *)endpoint;
	s.unix_ns = unix_ns;
	assert_ok(hf_pb_pack(&s.base, &bytes));
	sign(k, HF_ACTION_SIGN_TIME, bytes.data, bytes.len, signature);
	m.stamp = (ProtobufCBinaryData){bytes.len, bytes.data};
	m.signature = (ProtobufCBinaryData){sizeof(signature), signature};
	assert_ok(hf_pb_pack(&m.base, &out));
	hf_buf_done(&bytes);
	return out;
}

static int prove(struct hf_action_time *t, const struct hf_action_trust *trust, struct hf_buf m,
		 uint64_t boot_ns)
{
	int r = hf_action_time_take(t, trust, m.data, m.len, boot_ns);

	hf_buf_done(&m);
	return r;
}

static void a_proven_time_runs_with_the_boot_clock(void **state)
{
	struct hf_action_trust trust;
	struct hf_action_time t = {};

	(void)state;
	trusted(&trust, 0);
	assert_int_equal(hf_action_time_now(&t, 5 * S), 0);
	assert_true(hf_action_time_ask(&t, 5 * S));
	assert_ok(prove(&t, &trust, stamp(&keys[0], HOST, t.nonce, NOW), 6 * S));
	assert_int_equal(hf_action_time_now(&t, 6 * S), NOW);
	assert_int_equal(hf_action_time_now(&t, 16 * S), NOW + 10 * S);
	assert_false(hf_action_time_ask(&t, 16 * S));
	assert_true(hf_action_time_ask(&t, 16 * S + HF_ACTION_TIME_LIFE_NS));
}

static void nobody_turns_the_clock(void **state)
{
	static const uint8_t other[HF_ACTION_NONCE_SIZE] = {1};
	struct hf_action_trust trust;
	struct hf_action_time t = {};
	uint8_t used[HF_ACTION_NONCE_SIZE];

	(void)state;
	trusted(&trust, 1);
	/* Not asked for. */
	assert_err(prove(&t, &trust, stamp(&keys[1], HOST, other, NOW), 5 * S), -ETIME);
	assert_true(hf_action_time_ask(&t, 5 * S));
	assert_err(prove(&t, &trust, stamp(&keys[4], HOST, t.nonce, NOW), 6 * S), -EKEYREJECTED);
	assert_err(prove(&t, &trust, stamp(&keys[0], HOST, t.nonce, NOW), 6 * S), -EKEYREJECTED);
	assert_err(prove(&t, &trust, stamp(&keys[1], OTHER, t.nonce, NOW), 6 * S), -EKEYREJECTED);
	assert_err(prove(&t, &trust, stamp(&keys[1], HOST, other, NOW), 6 * S), -ETIME);
	/* Asked for again before it is answered: the answer on its way still counts. */
	memcpy(used, t.nonce, sizeof(used));
	assert_true(hf_action_time_ask(&t, 7 * S));
	assert_memory_equal(used, t.nonce, sizeof(used));
	/* Held back for more than a minute. */
	assert_err(prove(&t, &trust, stamp(&keys[1], HOST, t.nonce, NOW),
			 5 * S + HF_ACTION_NONCE_LIFE_NS + 1),
		   -ETIME);
	assert_int_equal(hf_action_time_now(&t, 70 * S), 0);
	assert_true(hf_action_time_ask(&t, 70 * S));
	memcpy(used, t.nonce, sizeof(used));
	assert_ok(prove(&t, &trust, stamp(&keys[1], HOST, used, NOW), 71 * S));
	/* A second time. */
	assert_err(prove(&t, &trust, stamp(&keys[1], HOST, used, NOW - 900 * S), 72 * S), -ETIME);
	/* A portal whose own clock was set back does not make old actions new. */
	assert_true(hf_action_time_ask(&t, 71 * S + HF_ACTION_TIME_LIFE_NS));
	assert_ok(prove(&t, &trust, stamp(&keys[1], HOST, t.nonce, NOW - 900 * S),
			72 * S + HF_ACTION_TIME_LIFE_NS));
	assert_true(hf_action_time_now(&t, 72 * S + HF_ACTION_TIME_LIFE_NS) >
		    NOW + HF_ACTION_TIME_LIFE_NS);
}

/* ---- actions --------------------------------------------------------------------------------- */

struct what {
	const struct hf_secret_key *key, *names; /* names: whose id it carries; NULL: key's */
	const char *endpoint, *id, *kind;
	uint64_t issued, expires;
	unsigned params;
	size_t value_len;
	const char *purpose;
};

static struct hf_buf seal(const struct what *w)
{
	Action__Body b = ACTION__BODY__INIT;
	Action__Envelope m = ACTION__ENVELOPE__INIT;
	Action__Param params[HF_ACTION_PARAMS_MAX + 1], *pointers[HF_ACTION_PARAMS_MAX + 1];
	struct hf_buf bytes = {}, out = {};
	uint8_t signature[HF_SIGNATURE_SIZE];
	char value[4096];

	memset(value, 'v', sizeof(value));
	value[w->value_len] = 0;
	b.endpoint_id = (char *)(w->endpoint ? w->endpoint : HOST);
	b.action_id = (char *)(w->id ? w->id : ID);
	b.kind = (char *)(w->kind ? w->kind : "restart");
	b.issued_unix_ns = w->issued ? w->issued : NOW;
	b.expires_unix_ns = w->expires ? w->expires : NOW + 60 * S;
	b.key_id = (ProtobufCBinaryData){HF_KEY_ID_SIZE,
					 (uint8_t *)(w->names ? w->names : w->key)->pub.id};
	b.params = pointers;
	for (unsigned i = 0; i < w->params; i++) {
		action__param__init(&params[i]);
		params[i].name = (char *)"component";
		params[i].value = value;
		pointers[b.n_params++] = &params[i];
	}
	assert_ok(hf_pb_pack(&b.base, &bytes));
	sign(w->key, w->purpose ? w->purpose : HF_ACTION_SIGN_BODY, bytes.data, bytes.len,
	     signature);
	m.body = (ProtobufCBinaryData){bytes.len, bytes.data};
	m.signature = (ProtobufCBinaryData){sizeof(signature), signature};
	assert_ok(hf_pb_pack(&m.base, &out));
	hf_buf_done(&bytes);
	return out;
}

static enum hf_action_refusal judge(const struct hf_action_trust *t, uint64_t now,
				    const struct what *w)
{
	struct hf_buf m = seal(w);
	Action__Body *b = NULL;
	enum hf_action_refusal why = hf_action_verify(t, now, m.data, m.len, &b);

	if (b)
		action__body__free_unpacked(b, NULL);
	hf_buf_done(&m);
	return why;
}

static void each_refusal_has_its_name(void **state)
{
#define R(name) HF_ACTION_REFUSED_##name
	const struct {
		struct what what;
		uint64_t now;
		enum hf_action_refusal why;
	} rows[] = {
		{{.key = &keys[1]}, NOW, R(NONE)},
		{{.key = &keys[1]}, NOW + 60 * S - 1, R(NONE)},
		{{.key = &keys[1]},
		 NOW - 900 * S,
		 R(NONE)}, /* issued by a portal ahead of its proof */
		{{.key = &keys[1]}, NOW + 60 * S, R(EXPIRED)},
		{{.key = &keys[1]}, NOW + 900 * S, R(EXPIRED)},
		{{.key = &keys[1]}, 0, R(NO_TIME)},
		{{.key = &keys[0]}, NOW, R(OLD_KEY)},
		{{.key = &keys[4]}, NOW, R(UNKNOWN_KEY)},
		{{.key = &keys[4], .names = &keys[1]}, NOW, R(BAD_SIGNATURE)},
		{{.key = &keys[1], .purpose = HF_ACTION_SIGN_KEY}, NOW, R(BAD_SIGNATURE)},
		{{.key = &keys[1], .endpoint = OTHER}, NOW, R(WRONG_ENDPOINT)},
		{{.key = &keys[1], .endpoint = ""}, NOW, R(WRONG_ENDPOINT)},
		{{.key = &keys[1], .kind = "format-disk"}, NOW, R(UNKNOWN_KIND)},
		{{.key = &keys[1], .kind = "a-kind-that-is-too-long"}, NOW, R(MALFORMED)},
		{{.key = &keys[1], .id = "1"}, NOW, R(MALFORMED)},
		{{.key = &keys[1], .id = "01900000-0000-7000-8000-00000000000A"},
		 NOW,
		 R(MALFORMED)},
		{{.key = &keys[1], .expires = NOW}, NOW, R(MALFORMED)},
		{{.key = &keys[1], .expires = NOW + (HF_ACTION_TTL_MAX_S + 1) * S},
		 NOW,
		 R(MALFORMED)},
		{{.key = &keys[1], .params = 32, .value_len = 9}, NOW, R(NONE)},
		{{.key = &keys[1], .params = 33, .value_len = 1}, NOW, R(BAD_PARAMS)},
		{{.key = &keys[1], .params = 1, .value_len = 512}, NOW, R(NONE)},
		{{.key = &keys[1], .params = 1, .value_len = 513}, NOW, R(BAD_PARAMS)},
		{{.key = &keys[1], .params = 4, .value_len = 504}, NOW, R(BAD_PARAMS)},
		{{.key = &keys[1], .params = 1, .value_len = 4000}, NOW, R(OVERSIZED)},
	};
	struct hf_action_trust t;

	(void)state;
	trusted(&t, 1);
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		enum hf_action_refusal why = judge(&t, rows[i].now, &rows[i].what);

		if (why != rows[i].why)
			fail_msg("row %zu: %s, not %s", i, hf_action_refusal_name(why),
				 hf_action_refusal_name(rows[i].why));
	}
	t = (struct hf_action_trust){};
	assert_int_equal(judge(&t, NOW, &rows[0].what), R(NO_KEY));
}

static void every_flipped_bit_is_refused(void **state)
{
	struct hf_action_trust t;
	struct hf_buf m = seal(&(struct what){.key = &keys[0], .params = 1, .value_len = 5});
	Action__Body *b;

	(void)state;
	trusted(&t, 0);
	for (size_t bit = 0; bit < m.len * 8; bit++) {
		b = NULL;
		m.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(hf_action_verify(&t, NOW, m.data, m.len, &b), R(NONE));
		m.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (b)
			action__body__free_unpacked(b, NULL);
	}
	for (size_t len = 0; len < m.len; len++) {
		b = NULL;
		assert_int_not_equal(hf_action_verify(&t, NOW, m.data, len, &b), R(NONE));
		if (b)
			action__body__free_unpacked(b, NULL);
	}
	hf_buf_done(&m);
}

static void a_parameter_counts_when_it_is_there_once(void **state)
{
	static const char *const names[] = {"component", NULL}, *const none[] = {NULL};
	Action__Param one = ACTION__PARAM__INIT, two = ACTION__PARAM__INIT;
	Action__Param *both[] = {&one, &two};
	Action__Body b = ACTION__BODY__INIT;

	(void)state;
	assert_null(hf_action_param(&b, "component"));
	assert_true(hf_action_params_only(&b, none));
	one.name = two.name = (char *)"component";
	one.value = (char *)"agent";
	two.value = (char *)"portal";
	b.params = both;
	b.n_params = 1;
	assert_string_equal(hf_action_param(&b, "component"), "agent");
	assert_true(hf_action_params_only(&b, names));
	assert_false(hf_action_params_only(&b, none));
	b.n_params = 2;
	assert_null(hf_action_param(&b, "component"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_key_is_believed_and_pins_the_endpoint),
		cmocka_unit_test(an_endpoint_that_slept_follows_the_whole_chain),
		cmocka_unit_test(nothing_else_replaces_a_trusted_key),
		cmocka_unit_test(a_first_chain_must_sign_itself),
		cmocka_unit_test(garbage_is_no_chain),
		cmocka_unit_test(a_proven_time_runs_with_the_boot_clock),
		cmocka_unit_test(nobody_turns_the_clock),
		cmocka_unit_test(each_refusal_has_its_name),
		cmocka_unit_test(every_flipped_bit_is_refused),
		cmocka_unit_test(a_parameter_counts_when_it_is_there_once),
	};

	for (size_t i = 0; i < HF_ARRAY_SIZE(keys); i++)
		if (hf_key_generate(&keys[i]) < 0)
			return 1;
	return HF_RUN_TESTS(tests);
}
