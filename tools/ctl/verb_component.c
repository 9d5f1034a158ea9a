/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast component */
#include <poll.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/status_json.h"

#define USAGE "component {list|show|start|stop|restart|rollback} [NAME] [--json]"
/* A stop may take 15 s until the last kill, and then a start 30 s until it is called hung. */
#define SETTLE_MS 45000u
#define POLL_MS   50

static int list(struct hf_ctl *c)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__StatusRequest what = BUS__STATUS_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	const Bus__WatchdogStatus *w;
	json_t *a;
	int r;

	q.what_case = BUS__REQUEST__WHAT_STATUS;
	q.status = &what;
	r = hf_ctl_ask_or_fail(c, HF_CTL_WATCHDOG, &q, HF_CTL_DEADLINE_MS, &m);
	if (r != HF_CTL_OK)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_WATCHDOG_STATUS)
		return hf_ctl_fail_misfit(c, HF_CTL_WATCHDOG);
	w = m->watchdog_status;
	if (!c->json) {
		hf_view_components(&c->out, w->components, w->n_components);
		return HF_CTL_OK;
	}
	a = json_array();
	for (size_t i = 0; i < w->n_components; i++)
		hf_json_append(&a, hf_component_json(w->components[i]));
	return hf_ctl_print_json(a);
}

static int ask(struct hf_ctl *c, Bus__ComponentRequest__Verb verb, const char *name,
	       Bus__Response **ret)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__ComponentRequest what = BUS__COMPONENT_REQUEST__INIT;
	int r;

	what.verb = verb;
	what.name = (char *)name;
	q.what_case = BUS__REQUEST__WHAT_COMPONENT;
	q.component = &what;
	r = hf_ctl_ask_or_fail(c, HF_CTL_WATCHDOG, &q, HF_CTL_DEADLINE_MS, ret);
	if (r == HF_CTL_OK && (*ret)->what_case != BUS__RESPONSE__WHAT_COMPONENT)
		return hf_ctl_fail_misfit(c, HF_CTL_WATCHDOG);
	return r;
}

static int show(struct hf_ctl *c, const char *name)
{
	_cleanup_pb_ Bus__Response *m = NULL;
	int r = ask(c, BUS__COMPONENT_REQUEST__VERB__SHOW, name, &m);

	if (r != HF_CTL_OK)
		return r;
	if (c->json)
		return hf_ctl_print_json(hf_component_json(m->component));
	hf_view_component(&c->out, m->component);
	return HF_CTL_OK;
}

bool hf_component_settled(Bus__ComponentRequest__Verb verb, uint32_t old_pid,
			  const Bus__Component *now)
{
	bool running = hf_streq(now->state, "running");

	switch (verb) {
	case BUS__COMPONENT_REQUEST__VERB__START:
		return running;
	case BUS__COMPONENT_REQUEST__VERB__STOP:
		return hf_streq(now->state, "stopped");
	case BUS__COMPONENT_REQUEST__VERB__RESTART:
	case BUS__COMPONENT_REQUEST__VERB__ROLLBACK:
		return running && now->pid != old_pid;
	case BUS__COMPONENT_REQUEST__VERB__SHOW:
	case _BUS__COMPONENT_REQUEST__VERB_IS_INT_SIZE:
		break;
	}
	return true;
}

/* The watchdog answers when it has begun; what a person wants to know is how it ended. */
static int change(struct hf_ctl *c, Bus__ComponentRequest__Verb verb, const char *word,
		  const char *name)
{
	uint64_t until_ns = hf_now_monotonic_ns() + SETTLE_MS * HF_NS_PER_MS;
	_cleanup_pb_ Bus__Response *before = NULL, *now = NULL;
	const Bus__Component *m;
	int r;

	r = ask(c, BUS__COMPONENT_REQUEST__VERB__SHOW, name, &before);
	if (r == HF_CTL_OK)
		r = ask(c, verb, name, &now);
	while (r == HF_CTL_OK &&
	       !hf_component_settled(verb, before->component->pid, now->component) &&
	       hf_now_monotonic_ns() < until_ns) {
		bus__response__free_unpacked(TAKE_PTR(now), NULL);
		(void)poll(NULL, 0, POLL_MS); /* a pause */
		r = ask(c, BUS__COMPONENT_REQUEST__VERB__SHOW, name, &now);
	}
	if (r != HF_CTL_OK)
		return r;
	m = now->component;
	c->out.now_ns = hf_now_realtime_ns();
	if (c->json)
		r = hf_ctl_print_json(hf_component_json(m));
	else
		hf_view_component_line(&c->out, m);
	if (hf_component_settled(verb, before->component->pid, m))
		return r;
	return hf_ctl_fail(HF_CTL_BAD_NEWS,
			   "component %s: %s is %s after %u s%s%s; see 'holdfast component show "
			   "%s'",
			   word, m->name, m->state, SETTLE_MS / 1000, *m->detail ? ": " : "",
			   m->detail, m->name);
}

int hf_ctl_component(struct hf_ctl *c, int argc, char **argv)
{
	static const struct {
		const char *name;
		Bus__ComponentRequest__Verb verb;
	} verbs[] = {
		{"start", BUS__COMPONENT_REQUEST__VERB__START},
		{"stop", BUS__COMPONENT_REQUEST__VERB__STOP},
		{"restart", BUS__COMPONENT_REQUEST__VERB__RESTART},
		{"rollback", BUS__COMPONENT_REQUEST__VERB__ROLLBACK},
	};
	const char *words[2] = {"list", "agent"};
	size_t n = 0;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, NULL, 0, words, HF_ARRAY_SIZE(words), &n);
	if (r != 0)
		return r;
	if (hf_streq(words[0], "list") && n < 2)
		return list(c);
	if (hf_streq(words[0], "show"))
		return show(c, words[1]);
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++)
		if (hf_streq(words[0], verbs[i].name))
			return change(c, verbs[i].verb, verbs[i].name, words[1]);
	return hf_ctl_usage(
		USAGE, "component: '%s' is not one of list, show, start, stop, restart, rollback",
		words[0]);
}
