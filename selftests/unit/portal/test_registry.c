/* SPDX-License-Identifier: Apache-2.0 */
/* Who speaks for an endpoint, and the collection itself. */
#include "selftests/unit/test_util.h"

#include "base/clock.h"
#include "base/str.h"
#include "tools/portal/registry.h"

#define S  HF_NS_PER_S
#define T0 (1000 * S)

static const struct hf_presence_policy policy = {.heartbeat_s = 20, .max_offline_s = 600};

/* Links are only compared. */
static struct hf_link *link_at(uintptr_t n)
{
	return (struct hf_link *)(n * 16);
}

static struct hf_endpoint *add(struct hf_registry *g, const char *name, uint8_t id)
{
	struct hf_endpoint_row row = {.authorization = HF_AUTH_AUTHORIZED};
	struct hf_endpoint *ep;

	row.id[15] = id;
	(void)hf_strlcpy(row.name, name, sizeof(row.name));
	assert_ok(hf_registry_add(g, &row, &ep));
	return ep;
}

struct fixture {
	struct hf_registry *g;
	struct hf_endpoint *ep;
	uint8_t machine[HF_HASH_SIZE], other_machine[HF_HASH_SIZE], boot[HF_ID_SIZE],
		other_boot[HF_ID_SIZE];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_ok(hf_registry_new(&f->g));
	f->ep = add(f->g, "host", 1);
	memset(f->machine, 1, sizeof(f->machine));
	memset(f->other_machine, 2, sizeof(f->other_machine));
	memset(f->boot, 3, sizeof(f->boot));
	memset(f->other_boot, 4, sizeof(f->other_boot));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->g = hf_registry_free(f->g);
	free(f);
	return 0;
}

static enum hf_link_result claim(struct fixture *f, uintptr_t link, uint64_t epoch, uint64_t at,
				 struct hf_link **old)
{
	struct hf_link_claim c = {.link = link_at(link), .epoch = epoch};

	memcpy(c.origin.machine_id_hash, f->machine, HF_HASH_SIZE);
	memcpy(c.origin.boot_id, f->boot, HF_ID_SIZE);

	return hf_registry_link(f->ep, &c, &policy, at, old);
}

static void a_higher_epoch_wins_and_the_old_close_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;

	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	assert_null(old);
	assert_int_equal(claim(f, 2, 8, T0 + S, &old), HF_LINK_OK);
	assert_ptr_equal(old, link_at(1));
	assert_false(hf_registry_unlink(f->ep, link_at(1), "link_lost", true, T0 + 2 * S));
	assert_ptr_equal(f->ep->link, link_at(2));
	assert_true(f->ep->presence.linked);
	assert_int_equal(f->ep->epoch, 8);
}

static void a_lower_or_equal_epoch_loses_while_the_link_lives(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;

	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	assert_int_equal(claim(f, 2, 6, T0 + S, &old), HF_LINK_STALE);
	assert_int_equal(claim(f, 2, 7, T0 + S, &old), HF_LINK_STALE);
	assert_null(old);
	assert_ptr_equal(f->ep->link, link_at(1));
	assert_int_equal(f->ep->epoch, 7);
}

static void a_lower_epoch_wins_over_a_link_without_proof_or_after_a_boot(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;
	struct hf_link_claim booted = {.link = link_at(3), .epoch = 1};

	memcpy(booted.origin.machine_id_hash, f->machine, HF_HASH_SIZE);
	memcpy(booted.origin.boot_id, f->other_boot, HF_ID_SIZE);
	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	assert_int_equal(claim(f, 2, 3, T0 + 46 * S, &old), HF_LINK_OK);
	assert_ptr_equal(old, link_at(1));
	assert_int_equal(hf_registry_link(f->ep, &booted, &policy, T0 + 47 * S, &old),
			 HF_LINK_CONTESTED);
	assert_null(old);
	assert_ptr_equal(f->ep->link, link_at(2));
	booted.uncontested = true;
	assert_int_equal(hf_registry_link(f->ep, &booted, &policy, T0 + 48 * S, &old), HF_LINK_OK);
	assert_ptr_equal(old, link_at(2));
	assert_int_equal(f->ep->epoch, 1);
	assert_memory_equal(f->ep->row.boot_id, f->other_boot, HF_ID_SIZE);
}

static void another_machine_is_asked_for_while_the_first_lives_and_taken_later(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;
	struct hf_link_claim other = {.link = link_at(2), .epoch = 99};

	memcpy(other.origin.machine_id_hash, f->other_machine, HF_HASH_SIZE);
	memcpy(other.origin.boot_id, f->other_boot, HF_ID_SIZE);
	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	assert_int_equal(hf_registry_link(f->ep, &other, &policy, T0 + S, &old), HF_LINK_CONTESTED);
	assert_ptr_equal(f->ep->link, link_at(1));
	assert_true(hf_registry_unlink(f->ep, link_at(1), "link_lost", true, T0 + 2 * S));
	assert_int_equal(hf_registry_link(f->ep, &other, &policy, T0 + 3 * S, &old), HF_LINK_OK);
	assert_memory_equal(f->ep->row.machine_id_hash, f->other_machine, HF_HASH_SIZE);
}

static void who_is_in_quarantine_stays_out_when_the_holder_is_gone(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;
	struct hf_link_claim other = {.link = link_at(2), .epoch = 99, .uncontested = true};

	memcpy(other.origin.machine_id_hash, f->other_machine, HF_HASH_SIZE);
	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	f->ep->clone = calloc(1, sizeof(*f->ep->clone));
	memcpy(f->ep->clone->machine_id_hash, f->other_machine, HF_HASH_SIZE);
	assert_true(hf_registry_unlink(f->ep, link_at(1), "link_lost", true, T0 + S));
	assert_int_equal(hf_registry_link(f->ep, &other, &policy, T0 + 2 * S, &old), HF_LINK_CLONE);
	assert_int_equal(claim(f, 3, 8, T0 + 3 * S, &old), HF_LINK_OK);
}

static void without_an_epoch_the_newest_wins_with_the_next_number(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;
	struct hf_link_claim plain = {.link = link_at(1)};

	assert_int_equal(hf_registry_link(f->ep, &plain, &policy, T0, &old), HF_LINK_OK);
	assert_int_equal(f->ep->epoch, 1);
	plain.link = link_at(2);
	assert_int_equal(hf_registry_link(f->ep, &plain, &policy, T0, &old), HF_LINK_CONTESTED);
	plain.uncontested = true;
	assert_int_equal(hf_registry_link(f->ep, &plain, &policy, T0, &old), HF_LINK_OK);
	assert_ptr_equal(old, link_at(1));
	assert_int_equal(f->ep->epoch, 2);
}

static void a_goodbye_unregisters_and_a_new_link_forgets_it(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;

	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	assert_true(hf_registry_goodbye(f->ep, link_at(1), "host_shutdown", T0 + S));
	assert_false(hf_registry_unlink(f->ep, link_at(1), "link_lost", true, T0 + 2 * S));
	assert_string_equal(f->ep->presence.goodbye, "host_shutdown");
	assert_int_equal(f->ep->presence.last_update_ns, T0 + S);
	assert_int_equal(claim(f, 2, 8, T0 + 3 * S, &old), HF_LINK_OK);
	assert_string_equal(f->ep->presence.goodbye, "");
}

static void only_a_witnessed_end_counts_as_a_sign_of_life(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;

	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	assert_true(hf_registry_unlink(f->ep, link_at(1), "blackhole", false, T0 + 30 * S));
	assert_int_equal(f->ep->presence.last_update_ns, T0);
	assert_int_equal(claim(f, 2, 8, T0 + 40 * S, &old), HF_LINK_OK);
	assert_true(hf_registry_unlink(f->ep, link_at(2), "peer_reset", true, T0 + 50 * S));
	assert_int_equal(f->ep->presence.last_update_ns, T0 + 50 * S);
}

static void a_proof_of_another_link_does_not_count(void **state)
{
	struct fixture *f = *state;
	struct hf_link *old;

	assert_int_equal(claim(f, 1, 7, T0, &old), HF_LINK_OK);
	hf_registry_proof(f->ep, link_at(2), T0 + 9 * S, 5);
	assert_int_equal(f->ep->presence.last_proof_ns, T0);
	hf_registry_proof(f->ep, link_at(1), T0 + 9 * S, 5);
	assert_int_equal(f->ep->presence.last_proof_ns, T0 + 9 * S);
	assert_int_equal(f->ep->row.last_seen_ns, 5);
}

static void order_is_by_name_then_id_and_survives_changes(void **state)
{
	struct fixture *f = *state;
	struct hf_endpoint *b = add(f->g, "beta", 2), *a = add(f->g, "Alpha", 3),
			   *b2 = add(f->g, "beta", 1 + 8);
	const char *want[] = {"Alpha", "beta", "beta", "host"};

	for (size_t i = 0; i < 4; i++)
		assert_string_equal(hf_registry_at(f->g, i)->row.name, want[i]);
	assert_ptr_equal(hf_registry_at(f->g, 1), b);
	assert_int_equal(hf_registry_after(f->g, "beta", b->row.id), 2);
	assert_int_equal(hf_registry_after(f->g, "beta", b2->row.id), 3);
	assert_ok(hf_registry_rename(f->g, a, "zeta"));
	assert_ptr_equal(hf_registry_at(f->g, 3), a);
	/* The cursor of a row that is gone still finds what was behind it. */
	hf_registry_remove(f->g, b);
	assert_int_equal(hf_registry_after(f->g, "beta", (const uint8_t[16]){[15] = 2}), 0);
	assert_ptr_equal(hf_registry_at(f->g, 0), b2);
}

static void ten_thousand_are_found_by_id(void **state)
{
	struct fixture *f = *state;
	struct hf_endpoint_row row = {};
	struct hf_endpoint *ep;

	for (uint32_t i = 0; i < 10000; i++) {
		memcpy(row.id + 8, &i, sizeof(i));
		row.id[0] = 9;
		(void)hf_strf(row.name, sizeof(row.name), "n%u", i * 7919 % 10000);
		assert_ok(hf_registry_add(f->g, &row, &ep));
		assert_err(hf_registry_add(f->g, &row, &ep), -EEXIST);
	}
	for (uint32_t i = 0; i < 10000; i++) {
		memcpy(row.id + 8, &i, sizeof(i));
		ep = hf_registry_find(f->g, row.id);
		assert_non_null(ep);
		assert_memory_equal(ep->row.id, row.id, HF_ID_SIZE);
	}
	assert_int_equal(hf_registry_count(f->g), 10001);
	row.id[0] = 8;
	assert_null(hf_registry_find(f->g, row.id));
}

#define WITH_ONE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_ONE(a_higher_epoch_wins_and_the_old_close_changes_nothing),
		WITH_ONE(a_lower_or_equal_epoch_loses_while_the_link_lives),
		WITH_ONE(a_lower_epoch_wins_over_a_link_without_proof_or_after_a_boot),
		WITH_ONE(another_machine_is_asked_for_while_the_first_lives_and_taken_later),
		WITH_ONE(who_is_in_quarantine_stays_out_when_the_holder_is_gone),
		WITH_ONE(without_an_epoch_the_newest_wins_with_the_next_number),
		WITH_ONE(a_goodbye_unregisters_and_a_new_link_forgets_it),
		WITH_ONE(only_a_witnessed_end_counts_as_a_sign_of_life),
		WITH_ONE(a_proof_of_another_link_does_not_count),
		WITH_ONE(order_is_by_name_then_id_and_survives_changes),
		WITH_ONE(ten_thousand_are_found_by_id),
	};

	return HF_RUN_TESTS(tests);
}
