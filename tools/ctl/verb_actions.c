/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast actions */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "holdfast/action.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define USAGE         "actions [--running] [--limit N] [--json]"

#define LIMIT_DEFAULT 50u

static json_t *action_json(const Bus__Action *a)
{
	json_t *o = json_object();

	hf_json_put(&o, "id", hf_json_string(a->id));
	hf_json_put(&o, "kind", hf_json_string(a->kind));
	hf_json_put(&o, "state", hf_json_string(a->state));
	hf_json_put(&o, "reason", hf_json_string(a->reason));
	hf_json_put(&o, "text", hf_json_string(a->text));
	hf_json_put(&o, "progress", json_integer(a->progress));
	hf_json_put(&o, "created", hf_json_time(a->created_unix_ns));
	hf_json_put(&o, "started", hf_json_time(a->started_unix_ns));
	hf_json_put(&o, "finished", hf_json_time(a->finished_unix_ns));
	hf_json_put(&o, "confirmed", json_boolean(a->confirmed));
	return o;
}

int hf_ctl_actions(struct hf_ctl *c, int argc, char **argv)
{
	const char *limit = NULL;
	bool running = false;
	const struct hf_ctl_option options[] = {
		{.name = "--limit", .value = &limit},
		{.name = "--running", .flag = &running},
	};
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__ActionsRequest what = BUS__ACTIONS_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	Bus__Action **items;
	size_t n = 0;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, options, HF_ARRAY_SIZE(options), NULL, 0, NULL);
	if (r != 0)
		return r;
	what.limit = LIMIT_DEFAULT;
	if (limit && (hf_parse_u32(limit, &what.limit) < 0 || what.limit == 0))
		return hf_ctl_usage(USAGE, "actions: --limit '%s' is no number from 1 on", limit);
	if (running)
		what.limit = HF_ACTION_JOURNAL_MAX;
	q.what_case = BUS__REQUEST__WHAT_ACTIONS;
	q.actions = &what;
	r = hf_ctl_ask_or_fail(c, HF_CTL_AGENT, &q, HF_CTL_DEADLINE_MS, &m);
	if (r != HF_CTL_OK)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_ACTIONS)
		return hf_ctl_fail_misfit(c, HF_CTL_AGENT);
	items = m->actions->items;
	for (size_t i = 0; i < m->actions->n_items; i++) {
		Bus__Action *a = items[i];

		if (running && hf_action_state_final(hf_action_state_from_name(a->state)))
			continue;
		/* Those that stay move up; nothing is freed twice, as the order alone changes. */
		items[i] = items[n];
		items[n++] = a;
	}
	for (size_t i = 0; c->json && i < n; i++)
		if (hf_ctl_print_json(action_json(items[i])) != HF_CTL_OK)
			return HF_CTL_BAD_NEWS;
	if (c->json)
		return HF_CTL_OK;
	hf_view_actions(&c->out, items, n, hf_now_realtime_ns());
	if (n == 0 && c->out.tty)
		(void)fprintf(c->out.f, running ? "no action is running\n" : "no actions yet\n");
	return HF_CTL_OK;
}
