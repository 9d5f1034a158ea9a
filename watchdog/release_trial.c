/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A version's way from staged to committed or rolled back.
 *
 * I1. One transaction at a time: blame must fall on one version. The watchdog's own waits for all
 *     others, since it is the judge of those.
 * I2. A preflight disturbs nothing: the candidate says its version as the component's user, beside the
 *     version that runs. It fails where the program cannot even be loaded here.
 */
#include "watchdog/release_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "watchdog/account.h"
#include "watchdog/component.h"
#include "watchdog/spawn.h"

#define PREFLIGHT_MAX_S 30u
#define SAVE_EVERY_MS   10000u
#define SICK_MAX_NS     (600 * HF_NS_PER_S)
#define TICK_MAX_US     1000000u
#define TICK_MIN_US     50000u

/* ---- what is remembered of a rollback ------------------------------------------------------------ */

static void rollback_name(const struct hf_release *r, char dst[static 64])
{
	(void)hf_strf(dst, 64, "%s.rollback", r->component);
}

/* Five lines; for people, never for a decision. */
static void keep_rollback(const struct hf_release *r)
{
	const struct hf_release_rollback *b = &r->rollback;
	char name[64], text[1024];

	rollback_name(r, name);
	(void)hf_strf(text, sizeof(text), "%" PRIu64 "\n%s\n%s\n%s\n%s\n", b->at_realtime_ns,
		      b->from, b->to, b->reason, b->text);
	if (hf_write_file_atomic(r->all->w->state_dir, name, text, strlen(text), 0600) < 0)
		hf_warn("keep '%s' for the status, ignoring", name);
}

static const char *next_line(char **at)
{
	char *line = *at, *end = strchr(line, '\n');

	if (!end)
		return "";
	*end = 0;
	*at = end + 1;
	return line;
}

void hf_release_recall(struct hf_release *r)
{
	_cleanup_free_ char *text = NULL;
	struct hf_release_rollback b = {};
	char name[64], *at;
	size_t len;

	rollback_name(r, name);
	if (hf_read_file(r->all->w->state_dir, name, 1024, &text, &len) < 0 ||
	    !hf_utf8_valid(text, len))
		return;
	at = text;
	if (hf_parse_u64(next_line(&at), &b.at_realtime_ns) < 0)
		return;
	(void)hf_strlcpy(b.from, next_line(&at), sizeof(b.from));
	(void)hf_strlcpy(b.to, next_line(&at), sizeof(b.to));
	(void)hf_strlcpy(b.reason, next_line(&at), sizeof(b.reason));
	(void)hf_strlcpy(b.text, next_line(&at), sizeof(b.text));
	r->rollback = b;
}

void hf_release_remember(struct hf_release *r, const char *from, const char *to, const char *reason,
			 const char *text)
{
	struct hf_release_rollback *b = &r->rollback;

	*b = (struct hf_release_rollback){.at_realtime_ns = hf_now_realtime_ns()};
	(void)hf_strlcpy(b->from, from, sizeof(b->from));
	(void)hf_strlcpy(b->to, to, sizeof(b->to));
	(void)hf_strlcpy(b->reason, reason, sizeof(b->reason));
	(void)hf_strlcpy(b->text, text, sizeof(b->text));
	for (char *c = b->text; *c; c++)
		if (*c == '\n')
			*c = ' ';
	for (size_t n = strlen(b->text); n > 0 && !hf_utf8_valid(b->text, n); n--)
		b->text[n - 1] = 0; /* a cut inside a character */
	hf_error("Rollback of '%s' from %s to %s: %s: %s", r->component, b->from, b->to, b->reason,
		 b->text);
	keep_rollback(r);
	hf_release_tell_all(r);
}

/* ---- judging ------------------------------------------------------------------------------------ */

void hf_release_judge_anew(struct hf_release *r)
{
	bool trial = hf_release_on_trial(r);
	uint64_t healthy_ms = trial ? hf_release_store_record(r->store)->healthy_ms : 0;

	hf_release_judge_begin(&r->judge, trial, healthy_ms * HF_NS_PER_MS,
			       trial && r->expects_portal);
	r->saved_ms = healthy_ms;
	r->canary_due_ns = 0;
	hf_release_arm_tick(r);
}

static bool same(const struct hf_release_slot *a, const struct hf_release_slot *b)
{
	if (!a || !b)
		return a == b;
	return memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

bool hf_release_give_up(struct hf_release *r, enum hf_release_reason why, const char *text)
{
	const struct hf_release_slot *now = hf_release_should_run(r);
	struct hf_release_slot from = {};
	int result;

	if (!now || r->distrusted)
		return false;
	from = *now;
	result = hf_release_event(r, HF_RELEASE_EV_FAILED, why);
	if (result == 0)
		return false;
	if (result < 0) {
		hf_error_r(result, "write down the rollback of '%s' from %s", r->component,
			   from.version);
		if (!hf_release_on_trial(r))
			return false;
		/* What is certain is that this one is not to run; what is on disk waits. */
		r->distrusted = true;
		r->owed = why;
	}
	now = hf_release_should_run(r);
	if (same(now, &from)) {
		hf_error("release %s of '%s' fails (%s: %s) and there is no other one: it stays",
			 from.version, r->component, hf_release_reason_name(why), text);
		hf_release_tell_all(r);
	} else {
		hf_release_remember(r, from.version, hf_release_slot_name(now),
				    hf_release_reason_name(why), text);
	}
	hf_release_judge_anew(r);
	return !same(now, &from);
}

void hf_release_pay(struct hf_release *r)
{
	if (!r->distrusted)
		return;
	if (r->owed != HF_RELEASE_WHY_NONE &&
	    hf_release_event(r, HF_RELEASE_EV_FAILED, r->owed) < 0)
		return;
	r->owed = HF_RELEASE_WHY_NONE;
	r->distrusted = false;
	hf_release_judge_anew(r);
}

/* The process is of the version that should run: what it does counts. */
static bool counts(const struct hf_release *r)
{
	const struct hf_release_slot *slot = hf_release_should_run(r);

	return slot && r->was_executed && same(slot, &r->executed);
}

bool hf_release_ended(struct hf_release *r, const struct hf_death *d, bool was_ready,
		      bool own_limit)
{
	enum hf_release_blame blame = hf_release_blame(d, was_ready, own_limit);
	enum hf_release_reason why;
	bool safe;

	if (!counts(r))
		return false;
	if (blame == HF_BLAME_NOBODY && hf_release_on_trial(r))
		(void)hf_release_event(r, HF_RELEASE_EV_GIVE_BACK, HF_RELEASE_WHY_NONE);
	why = hf_release_judge_end(&r->judge, blame, hf_now_monotonic_ns());
	if (why == HF_RELEASE_WHY_NONE)
		return false;
	safe = hf_release_store_record(r->store)->phase == HF_RELEASE_SAFE;
	/* Where both fail, the next start waits as after any failure. */
	return hf_release_give_up(r, why, d->text) && !safe;
}

bool hf_release_not_ready(struct hf_release *r, const char *why)
{
	return counts(r) && hf_release_on_trial(r) &&
	       hf_release_give_up(r, HF_RELEASE_WHY_NOT_READY, why);
}

void hf_release_canary_seen(struct hf_release *r, uint64_t nonce)
{
	hf_release_judge_canary_seen(&r->judge, nonce);
}

/* ---- probation ---------------------------------------------------------------------------------- */

static bool is_ticking(const struct hf_release *r)
{
	const struct hf_release_record *record =
		r->store ? hf_release_store_record(r->store) : NULL;

	if (!record || r->distrusted || !r->all->begun)
		return false;
	if (!r->c)
		return r->all->i_am_candidate;
	return record->phase == HF_RELEASE_TRIAL || record->phase == HF_RELEASE_SAFE;
}

static uint64_t period_us(const struct hf_release *r)
{
	uint64_t us = r->all->w->config.release.probation_s * UINT64_C(100000);

	return us > TICK_MAX_US ? TICK_MAX_US : us < TICK_MIN_US ? TICK_MIN_US : us;
}

void hf_release_arm_tick(struct hf_release *r)
{
	int result = 0;

	if (!is_ticking(r)) {
		if (r->tick)
			(void)sd_event_source_set_enabled(r->tick, SD_EVENT_OFF);
		return;
	}
	if (!r->tick) {
		result = sd_event_add_time(r->all->w->event, &r->tick, CLOCK_MONOTONIC, 0, 10000,
					   hf_release_on_tick, r);
		if (result < 0) {
			hf_error_r(result, "watch the trial of '%s'", r->component);
			return;
		}
		(void)sd_event_source_set_description(r->tick, "release-tick");
	}
	(void)sd_event_source_set_time_relative(r->tick, period_us(r));
	(void)sd_event_source_set_enabled(r->tick, SD_EVENT_ONESHOT);
}

static struct hf_release_look look_at(struct hf_release *r)
{
	struct hf_release_look l = {
		.portal_ns = r->all->w->config.release.portal_s * HF_NS_PER_S,
	};
	struct hf_component_health h;

	if (!r->c) {
		l.healthy = hf_releases_self_healthy(r->all);
		return l;
	}
	hf_component_health(r->c, &h);
	l.healthy = h.healthy && counts(r);
	l.connected = h.connected;
	l.canaries = hf_release_has_canaries(r);
	return l;
}

static void commit(struct hf_release *r)
{
	struct hf_release_slot slot = *hf_release_should_run(r);
	int result = hf_release_event(r, HF_RELEASE_EV_HEALTHY, HF_RELEASE_WHY_NONE);

	if (result < 0) {
		hf_error_r(result, "write down that release %s of '%s' is good, trying again",
			   slot.version, r->component);
		return;
	}
	hf_notice("release %s of '%s' is committed: healthy for %" PRIu64 " s", slot.version,
		  r->component, r->judge.healthy_ns / HF_NS_PER_S);
	if (!r->c)
		r->all->i_am_candidate = false;
	hf_release_judge_anew(r);
	hf_release_tell_all(r);
	hf_releases_collect(r->all);
	hf_releases_next(r->all);
}

/* A watchdog that dies in the middle does not begin anew. */
static void save_progress(struct hf_release *r)
{
	uint64_t ms = r->judge.healthy_ns / HF_NS_PER_MS;

	if (!hf_release_on_trial(r) || ms < r->saved_ms + SAVE_EVERY_MS)
		return;
	r->saved_ms = ms;
	(void)hf_release_store_progress(r->store, ms); /* else it takes longer */
}

/* A watchdog under which nothing works is no better than one that does not start. */
static enum hf_release_reason judge_self(struct hf_releases *all, bool healthy, uint64_t now_ns)
{
	if (healthy)
		all->sick_since_ns = 0;
	else if (!all->sick_since_ns)
		all->sick_since_ns = now_ns;
	return all->sick_since_ns && now_ns - all->sick_since_ns > SICK_MAX_NS
		       ? HF_RELEASE_WHY_NOT_READY
		       : HF_RELEASE_WHY_NONE;
}

static const char *text_of(enum hf_release_reason why)
{
	if (why == HF_RELEASE_WHY_CANARY)
		return "three ends of processes in a row were not reported";
	if (why == HF_RELEASE_WHY_PORTAL)
		return "the version before was connected to the portal, this one was not";
	return "no component was well under it for ten minutes";
}

int hf_release_on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_release *r = HF_CAST(userdata, struct hf_release, RELEASE_MAGIC);
	uint64_t now_ns = hf_now_monotonic_ns();
	struct hf_release_look l;
	enum hf_release_reason why;

	(void)source;
	(void)usec;
	if (!is_ticking(r))
		return 0;
	l = look_at(r);
	why = hf_release_judge_look(&r->judge, &l, now_ns);
	if (!r->c && why == HF_RELEASE_WHY_NONE)
		why = judge_self(r->all, l.healthy, now_ns);
	if (why != HF_RELEASE_WHY_NONE) {
		if (hf_release_give_up(r, why, text_of(why)))
			hf_release_switch(r, "agent_rollback");
		return 0;
	}
	if (hf_release_judge_passed(&r->judge, &l,
				    r->all->w->config.release.probation_s * HF_NS_PER_S))
		commit(r);
	else
		save_progress(r);
	if (l.healthy && l.canaries)
		hf_release_send_canary(r, now_ns);
	hf_release_arm_tick(r);
	return 0;
}

void hf_releases_reconfigure(struct hf_releases *all)
{
	for (size_t i = 0; all && i < all->n; i++)
		hf_release_arm_tick(&all->item[i]);
}

/* ---- preflight ---------------------------------------------------------------------------------- */

void hf_release_preflight_end(struct hf_release *r)
{
	struct hf_release_preflight *p = &r->preflight;

	p->exit_source = sd_event_source_disable_unref(p->exit_source);
	p->timer = sd_event_source_disable_unref(p->timer);
	if (p->pid > 0) {
		(void)kill(-p->pid, SIGKILL); /* its session is its own */
		(void)kill(p->pid, SIGKILL);
		(void)waitpid(p->pid, NULL, WNOHANG);
	}
	p->pid = 0;
	p->pidfd = hf_close(p->pidfd);
	p->err_fd = hf_close(p->err_fd);
}

static void preflight_failed(struct hf_release *r, const char *text)
{
	struct hf_release_slot candidate = hf_release_store_record(r->store)->candidate;
	int result;

	hf_release_preflight_end(r);
	result = hf_release_event(r, HF_RELEASE_EV_PREFLIGHT_FAILED, HF_RELEASE_WHY_NONE);
	if (result < 0)
		hf_error_r(result, "write down the preflight of '%s', ignoring", r->component);
	hf_release_remember(r, candidate.version, hf_release_slot_name(hf_release_should_run(r)),
			    hf_release_reason_name(HF_RELEASE_WHY_PREFLIGHT), text);
	hf_releases_next(r->all);
}

static void preflight_passed(struct hf_release *r)
{
	struct hf_component_health h = {};
	int result;

	hf_release_preflight_end(r);
	if (r->c)
		hf_component_health(r->c, &h);
	result = hf_release_event(r, HF_RELEASE_EV_PREFLIGHT_OK, HF_RELEASE_WHY_NONE);
	if (result < 0) {
		hf_error_r(result, "write down the trial of '%s': it waits for the next start",
			   r->component);
		return;
	}
	r->expects_portal = h.connected;
	hf_notice("release %s of '%s' begins its trial: %" PRIu64 " s of health commit it",
		  hf_release_should_run(r)->version, r->component,
		  r->all->w->config.release.probation_s);
	hf_release_judge_anew(r);
	hf_release_tell_all(r);
	hf_release_switch(r, "agent_update");
}

/* The first line of what it wrote, for the sentence. */
static void first_words(int fd, char *dst, size_t size)
{
	ssize_t n = pread(fd, dst, size - 1, 0);

	dst[n > 0 ? n : 0] = 0;
	dst[strcspn(dst, "\n")] = 0;
	hf_sanitize(dst);
}

static int on_preflight_exit(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct hf_release *r = HF_CAST(userdata, struct hf_release, RELEASE_MAGIC);
	char words[160], text[256];
	siginfo_t si = {};

	(void)source;
	(void)revents;
	(void)waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG);
	r->preflight.pid = 0;
	if (si.si_code == CLD_EXITED && si.si_status == 0) {
		preflight_passed(r);
		return 0;
	}
	first_words(r->preflight.err_fd, words, sizeof(words));
	if (si.si_code == CLD_EXITED)
		(void)hf_strf(text, sizeof(text), "'%s --version' exited with code %d%s%s",
			      r->program, si.si_status, words[0] ? ": " : "", words);
	else
		(void)hf_strf(text, sizeof(text), "'%s --version' was ended by signal %d%s%s",
			      r->program, si.si_status, words[0] ? ": " : "", words);
	preflight_failed(r, text);
	return 0;
}

static int on_preflight_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_release *r = HF_CAST(userdata, struct hf_release, RELEASE_MAGIC);

	(void)source;
	(void)usec;
	preflight_failed(r, "it did not say its version within 30 s");
	return 0;
}

static int spawn_preflight(struct hf_release *r, int exe, struct hf_err *err)
{
	struct hf_release_preflight *p = &r->preflight;
	char flag[] = "--version", path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *argv[] = {(char *)r->program, flag, NULL}, *env[] = {path, NULL};
	struct hf_spawned spawned;
	const char *step;
	uid_t uid;
	gid_t gid;
	int result;

	result = hf_account_resolve(r->all->w->config.component.agent.user, "component.agent.user",
				    &uid, &gid, err);
	if (result < 0)
		return result;
	p->err_fd = memfd_create("preflight", MFD_CLOEXEC);
	if (p->err_fd < 0)
		return hf_err_set(err, -errno, "memfd: %s", strerror(errno));
	result = hf_spawn(
		&(struct hf_spawn){
			.exe_fd = exe,
			.name = r->program,
			.argv = argv,
			.envp = env,
			.uid = uid,
			.gid = gid,
			.stderr_fd = p->err_fd,
			.confine = hf_component_confine(r->c ? r->c : r->all->item[0].c),
			.cgroup_dir = -1,
		},
		&spawned, &step);
	if (result < 0)
		return hf_err_set(err, result, "%s: %s", step, strerror(-result));
	p->pid = spawned.pid;
	p->pidfd = spawned.pidfd;
	if (p->pidfd < 0)
		return hf_err_set(err, -ENOSYS, "there is no pidfd");
	result = sd_event_add_io(r->all->w->event, &p->exit_source, p->pidfd, EPOLLIN,
				 on_preflight_exit, r);
	if (result >= 0)
		result = sd_event_add_time_relative(r->all->w->event, &p->timer, CLOCK_MONOTONIC,
						    PREFLIGHT_MAX_S * UINT64_C(1000000), 100000,
						    on_preflight_timeout, r);
	return result < 0 ? hf_err_set(err, result, "watch it: %s", strerror(-result)) : 0;
}

static void start_preflight(struct hf_release *r)
{
	const struct hf_release_slot *candidate = &hf_release_store_record(r->store)->candidate;
	char path[HF_RELEASE_PROGRAM_MAX];
	_cleanup_close_ int exe = -1;
	struct hf_err err = {};
	int result = hf_release_event(r, HF_RELEASE_EV_PREFLIGHT, HF_RELEASE_WHY_NONE);

	if (result < 0) {
		hf_error_r(result, "write down the preflight of '%s': it waits for the next start",
			   r->component);
		return;
	}
	hf_info("release %s of '%s': preflight", candidate->version, r->component);
	hf_release_tell_all(r);
	hf_release_program_path(r, path);
	result = hf_release_store_open_program(r->store, candidate, path, &exe, &err);
	if (result >= 0)
		result = spawn_preflight(r, exe, &err);
	if (result < 0)
		preflight_failed(r, err.msg);
}

/* ---- what comes next ---------------------------------------------------------------------------- */

static bool is_under_way(const struct hf_release *r)
{
	uint32_t phase = r->store ? hf_release_store_record(r->store)->phase : HF_RELEASE_IDLE;

	if (phase == HF_RELEASE_PREFLIGHT)
		return r->preflight.pid > 0;
	return phase == HF_RELEASE_TRIAL && !r->distrusted && (r->c || r->all->i_am_candidate);
}

void hf_releases_next(struct hf_releases *all)
{
	if (!all->begun || all->w->stopping)
		return;
	for (size_t i = 0; i < all->n; i++)
		if (is_under_way(&all->item[i]))
			return;
	/* In the order of the table: the watchdog is its last. */
	for (size_t i = 0; i < all->n; i++) {
		struct hf_release *r = &all->item[i];

		if (!r->store || hf_release_store_record(r->store)->phase != HF_RELEASE_STAGED)
			continue;
		start_preflight(r);
		if (is_under_way(r))
			return;
	}
}

void hf_release_switch(struct hf_release *r, const char *reason)
{
	if (!r->c) {
		hf_releases_replace_self(r->all);
		return;
	}
	/* Stopped by a person: it begins when he starts it. */
	if (!hf_component_stopped(r->c))
		hf_component_request(r->c, HF_INPUT_RESTART, reason);
}

void hf_releases_begin(struct hf_releases *all)
{
	all->begun = true;
	for (size_t i = 0; i < all->n; i++) {
		struct hf_release *r = &all->item[i];

		hf_release_arm_tick(r);
		/* Decided before the last watchdog ended, and not done yet. */
		if (!r->c && hf_releases_has_successor(all))
			hf_releases_replace_self(all);
	}
	hf_releases_next(all);
}

int hf_releases_roll_back(struct hf_releases *all, const char *component, const char *who,
			  struct hf_err *err)
{
	struct hf_release *r = hf_releases_find(all, component);
	const struct hf_release_slot *now;
	struct hf_release_slot from, candidate;
	int result;

	if (!r)
		return hf_err_set(err, -ENOENT, "there is no component '%.64s'", component);
	if (!r->store)
		return hf_err_set(err, -ENODEV, "there is no release store: %s", r->error);
	hf_release_pay(r);
	now = hf_release_should_run(r);
	candidate = hf_release_store_record(r->store)->candidate;
	from = now ? *now : (struct hf_release_slot){};
	hf_release_preflight_end(r);
	result = hf_release_event(r, HF_RELEASE_EV_ROLLBACK, HF_RELEASE_WHY_ASKED);
	if (result == -ENOENT)
		return hf_err_set(err, result, "%s: there is no earlier version to go back to",
				  component);
	if (result <= 0)
		return hf_err_set(err, result ? result : -ENOENT, "%s: %s", component,
				  strerror(result ? -result : ENOENT));
	now = hf_release_should_run(r);
	if (same(now, &from)) {
		/* It had not run yet. */
		hf_notice("release %s of '%s' is given up: %s", candidate.version, component, who);
		hf_release_tell_all(r);
	} else {
		hf_release_remember(r, from.version, hf_release_slot_name(now),
				    hf_release_reason_name(HF_RELEASE_WHY_ASKED), who);
		hf_release_judge_anew(r);
		hf_release_switch(r, "agent_rollback");
	}
	hf_releases_next(all);
	return 0;
}
