/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast outages */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/outage_json.h"

#define USAGE "outages [--since T] [--json]"

int hf_ctl_outages(struct hf_ctl *c, int argc, char **argv)
{
	const char *since = NULL;
	const struct hf_ctl_option options[] = {{.name = "--since", .value = &since}};
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__OutagesRequest what = BUS__OUTAGES_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, options, HF_ARRAY_SIZE(options), NULL, 0, NULL);
	if (r != 0)
		return r;
	if (since && hf_ctl_parse_since(since, hf_now_realtime_ns(), &what.since_unix_ns) < 0)
		return hf_ctl_usage(USAGE,
				    "outages: --since '%s' is no point in time (try 2h, "
				    "14:03 or 2026-01-31)",
				    since);
	what.limit = 1000;
	q.what_case = BUS__REQUEST__WHAT_OUTAGES;
	q.outages = &what;
	r = hf_ctl_ask_or_fail(c, HF_CTL_AGENT, &q, HF_CTL_DEADLINE_MS, &m);
	if (r != HF_CTL_OK)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_OUTAGES)
		return hf_ctl_fail_misfit(c, HF_CTL_AGENT);
	for (size_t i = 0; c->json && i < m->outages->n_items; i++)
		if (hf_ctl_print_json(hf_outage_json(m->outages->items[i])) != HF_CTL_OK)
			return HF_CTL_BAD_NEWS;
	if (c->json)
		return HF_CTL_OK;
	hf_view_outages(&c->out, m->outages->items, m->outages->n_items);
	if (m->outages->n_items == 0 && c->out.tty)
		(void)fprintf(c->out.f, "no outages%s\n", since ? " since then" : " recorded");
	return HF_CTL_OK;
}
