/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast component */
#include "base/cleanup.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/status_json.h"

#define USAGE "component {list|show|start|stop|restart} [NAME] [--json]"
/* A stop waits for the component's own goodbye before it is killed. */
#define DEADLINE_MS 20000

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
		return hf_ctl_fail(HF_CTL_BAD_NEWS,
				   "watchdog: an answer that fits no question; are "
				   "holdfast and the watchdog of one version?");
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

static int ask(struct hf_ctl *c, Bus__ComponentRequest__Verb verb, const char *name)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__ComponentRequest what = BUS__COMPONENT_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	int r;

	what.verb = verb;
	what.name = (char *)name;
	q.what_case = BUS__REQUEST__WHAT_COMPONENT;
	q.component = &what;
	r = hf_ctl_ask_or_fail(c, HF_CTL_WATCHDOG, &q, DEADLINE_MS, &m);
	if (r != HF_CTL_OK)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_COMPONENT)
		return hf_ctl_fail(HF_CTL_BAD_NEWS,
				   "watchdog: an answer that fits no question; are "
				   "holdfast and the watchdog of one version?");
	if (c->json)
		return hf_ctl_print_json(hf_component_json(m->component));
	hf_view_component(&c->out, m->component);
	return HF_CTL_OK;
}

int hf_ctl_component(struct hf_ctl *c, int argc, char **argv)
{
	static const struct {
		const char *name;
		Bus__ComponentRequest__Verb verb;
	} verbs[] = {
		{"show", BUS__COMPONENT_REQUEST__VERB__SHOW},
		{"start", BUS__COMPONENT_REQUEST__VERB__START},
		{"stop", BUS__COMPONENT_REQUEST__VERB__STOP},
		{"restart", BUS__COMPONENT_REQUEST__VERB__RESTART},
	};
	const char *words[2] = {"list", "agent"};
	size_t n = 0;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, NULL, 0, words, HF_ARRAY_SIZE(words), &n);
	if (r != 0)
		return r;
	if (hf_streq(words[0], "list") && n < 2)
		return list(c);
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++)
		if (hf_streq(words[0], verbs[i].name))
			return ask(c, verbs[i].verb, words[1]);
	if (hf_streq(words[0], "rollback"))
		return hf_ctl_fail(HF_CTL_USAGE, "component rollback: not in this version");
	return hf_ctl_usage(USAGE, "component: '%s' is not one of list, show, start, stop, restart",
			    words[0]);
}
