/* SPDX-License-Identifier: Apache-2.0 */
/* A policy is applied as a whole while the programs run, or refused as a whole. */
#include "harness.h"

#include <sys/stat.h>

#include "base/str.h"
#include "watchdog/kernel_filter.h"

/* Failed connects of this namespace, without limits: the smallest thing to choose from. */
static void only_failures(struct hf_kernel_filter *f)
{
	hf_kernel_filter_default(f);
	f->kinds = HF_POLICY_KIND(HF_EVENT_CONN_FAILED);
	f->own_netns = true;
	f->burst = 0;
}

static size_t failures(struct kt *t)
{
	struct kt_behaviour b;
	size_t n;

	t->n_events = t->n_ends = 0;
	kt_forget_behaviours();
	kt_run(&b, "refused", "4");
	kt_drain(t);
	n = t->n_events;
	return n;
}

static void apply(struct kt *t, const struct hf_kernel_filter *f)
{
	struct hf_err err = {};

	if (hf_kernel_filter_apply(t->kernel, f, &err) < 0)
		fail_msg("%s", err.msg);
}

static void units_are_chosen_by_name(void **state)
{
	struct kt *t = *state;
	const char *units[2] = {"no-such.service", NULL};
	char leaf[HF_CGROUP_LEAF_SIZE];
	struct hf_kernel_filter f;

	kt_require(t, "tcp.state");
	only_failures(&f);
	apply(t, &f);
	assert_int_equal(failures(t), 1);
	(void)hf_strlcpy(leaf, t->events[0].conn.owner.cgroup_leaf, sizeof(leaf));
	units[1] = leaf;
	f.units = (struct hf_kernel_choice){HF_KERNEL_ONLY, units, 1};
	apply(t, &f);
	assert_int_equal(failures(t), 0);
	if (!leaf[0]) {
		print_message("SKIP the tests run in a root cgroup, which has no name\n");
		skip();
	}
	f.units.n = 2;
	apply(t, &f);
	assert_int_equal(failures(t), 1);
	f.units.mode = HF_KERNEL_EXCEPT;
	apply(t, &f);
	assert_int_equal(failures(t), 0);
	f.units.n = 1;
	apply(t, &f);
	assert_int_equal(failures(t), 1);
	assert_int_equal(kt_totals(t).lost, 0);
}

static void members_of_the_former_policy_do_not_count(void **state)
{
	struct kt *t = *state;
	const char *ports[HF_FILTER_PORT_MAX];
	char text[HF_FILTER_PORT_MAX][8];
	struct hf_kernel_filter f;
	int round;

	kt_require(t, "tcp.state");
	for (size_t i = 0; i < HF_FILTER_PORT_MAX; i++) {
		(void)hf_strf(text[i], sizeof(text[i]), "%zu", 1 + i);
		ports[i] = text[i];
	}
	only_failures(&f);
	/* Twice as many as there is room for, if what was before stayed. */
	for (round = 0; round < 4; round++) {
		f.ports = (struct hf_kernel_choice){HF_KERNEL_EXCEPT, ports, HF_FILTER_PORT_MAX};
		apply(t, &f);
		assert_int_equal(failures(t), 1);
		f.ports.mode = HF_KERNEL_ONLY;
		apply(t, &f);
		assert_int_equal(failures(t), 0);
	}
	f.ports = (struct hf_kernel_choice){HF_KERNEL_EXCEPT, ports, 0};
	apply(t, &f);
	assert_int_equal(failures(t), 1);
}

static void a_bad_policy_is_refused_and_the_old_one_goes_on(void **state)
{
	struct kt *t = *state;
	const char *bad_ports[] = {"80", "http"}, *slash[] = {"a/b"}, *relative[] = {"x.slice"};
	const char *reason[] = {"NO_SUCH_REASON"}, *many[HF_FILTER_UNIT_MAX + 1];
	struct hf_kernel_filter good, f;
	struct hf_err err;

	kt_require(t, "tcp.state");
	for (size_t i = 0; i < HF_ARRAY_SIZE(many); i++)
		many[i] = "x.service";
	only_failures(&good);
	apply(t, &good);
#define REFUSED(change, word)                                                     \
	do {                                                                      \
		f = good;                                                         \
		f.kinds = 0; /* would show if anything of it came through */      \
		change;                                                           \
		err = (struct hf_err){};                                          \
		assert_err(hf_kernel_filter_apply(t->kernel, &f, &err), -EINVAL); \
		assert_non_null(strstr(err.msg, word));                           \
		assert_int_equal(failures(t), 1);                                 \
	} while (0)
#define LIST(names) ((struct hf_kernel_choice){HF_KERNEL_ONLY, names, HF_ARRAY_SIZE(names)})
	REFUSED(f.kinds = 1u << 31, "kinds");
	REFUSED(f.closed_one_in = 0, "sampling");
	REFUSED((f.burst = 5, f.per_s = 0), "limit");
	REFUSED(f.ports = LIST(bad_ports), "'http' is no port");
	REFUSED(f.units = LIST(slash), "'a/b'");
	REFUSED(f.units = LIST(many), "257 units");
	REFUSED(f.cgroups = LIST(relative), "'x.slice'");
	if (hf_kernel_info_drop(t->info, 2))
		REFUSED(f.drop_reasons = LIST(reason), "NO_SUCH_REASON");
	assert_int_equal(kt_totals(t).lost, 0);
}

/* A cgroup that comes after the policy that names it. */
static void a_cgroup_is_found_when_it_appears(void **state)
{
	struct kt *t = *state;
	const char *paths[] = {"/hf-test-late-cgroup"};
	char dir[64], procs[96];
	struct hf_kernel_filter f;
	FILE *file;

	kt_require(t, "tcp.state");
	if (access("/sys/fs/cgroup/cgroup.procs", W_OK) == 0)
		(void)hf_strf(dir, sizeof(dir), "/sys/fs/cgroup%s", paths[0]);
	else if (access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) == 0)
		(void)hf_strf(dir, sizeof(dir), "/sys/fs/cgroup/unified%s", paths[0]);
	else {
		print_message("SKIP no cgroup v2 here\n");
		skip();
	}
	(void)rmdir(dir); /* of a run that was killed */
	only_failures(&f);
	f.cgroups = (struct hf_kernel_choice){HF_KERNEL_ONLY, paths, 1};
	apply(t, &f);
	assert_int_equal(hf_kernel_filter_refresh(t->kernel), 0);
	assert_int_equal(failures(t), 0);
	assert_ok(mkdir(dir, 0755));
	(void)hf_strf(procs, sizeof(procs), "%s/cgroup.procs", dir);
	file = fopen(procs, "we");
	assert_non_null(file);
	assert_true(fprintf(file, "%d\n", getpid()) > 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(hf_kernel_filter_refresh(t->kernel), 1);
	assert_int_equal(failures(t), 1);
	assert_int_equal(hf_kernel_filter_refresh(t->kernel), 0);
	/* Back to where we came from: the directory above is in every hierarchy. */
	(void)hf_strf(strrchr(procs, '/') - strlen(paths[0]), sizeof(procs) / 2, "/cgroup.procs");
	file = fopen(procs, "we");
	assert_non_null(file);
	assert_true(fprintf(file, "%d\n", getpid()) > 0);
	assert_int_equal(fclose(file), 0);
	assert_ok(rmdir(dir));
	assert_int_equal(hf_kernel_filter_refresh(t->kernel), 1);
}

static void kinds_have_names(void **state)
{
	(void)state;
	assert_int_equal(hf_kernel_kind_by_name("conn.closed"),
			 HF_POLICY_KIND(HF_EVENT_CONN_CLOSED));
	assert_int_equal(hf_kernel_kind_by_name("skb.drop"), HF_POLICY_KIND(HF_EVENT_SKB_DROP));
	assert_int_equal(hf_kernel_kind_by_name("conn"), 0);
	assert_int_equal(hf_kernel_kind_by_name(""), 0);
}

int main(int argc, char **argv)
{
#define CONN(f) cmocka_unit_test_setup_teardown(f, kt_setup_conn, kt_teardown)
	const struct CMUnitTest tests[] = {
		CONN(units_are_chosen_by_name),
		CONN(members_of_the_former_policy_do_not_count),
		CONN(a_bad_policy_is_refused_and_the_old_one_goes_on),
		CONN(a_cgroup_is_found_when_it_appears),
		cmocka_unit_test(kinds_have_names),
	};

	return KT_MAIN(argc, argv, tests);
}
