/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast status */
#include "base/cleanup.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/status_json.h"

static int ask_status(const struct hf_ctl *c, enum hf_ctl_daemon d, Bus__Response **ret,
		      struct hf_ctl_problem *p)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__StatusRequest what = BUS__STATUS_REQUEST__INIT;

	q.what_case = BUS__REQUEST__WHAT_STATUS;
	q.status = &what;
	return hf_ctl_ask(c, d, &q, HF_CTL_DEADLINE_MS, ret, p);
}

int hf_ctl_status(struct hf_ctl *c, int argc, char **argv)
{
	_cleanup_pb_ Bus__Response *ra = NULL, *rw = NULL;
	struct hf_ctl_problem pa = {}, pw = {};
	const Bus__AgentStatus *agent = NULL;
	const Bus__WatchdogStatus *watchdog = NULL;
	int r;

	r = hf_ctl_parse(c, argc, argv, "status [--json]", NULL, 0, NULL, 0, NULL);
	if (r != 0)
		return r;
	if (ask_status(c, HF_CTL_AGENT, &ra, &pa) == 0 &&
	    ra->what_case == BUS__RESPONSE__WHAT_AGENT_STATUS)
		agent = ra->agent_status;
	if (ask_status(c, HF_CTL_WATCHDOG, &rw, &pw) == 0 &&
	    rw->what_case == BUS__RESPONSE__WHAT_WATCHDOG_STATUS)
		watchdog = rw->watchdog_status;

	if (c->json)
		(void)hf_ctl_print_json(hf_status_json(agent, pa.text, watchdog, pw.text));
	else if (agent || watchdog)
		hf_view_status(&c->out, agent, pa.text, watchdog, pw.text);
	if (agent && watchdog)
		return HF_CTL_OK;
	if (agent || watchdog)
		return HF_CTL_BAD_NEWS;
	/* One line: what holds one of them up holds up the other as well. */
	return hf_ctl_fail(pa.code ? pa.code : HF_CTL_UNREACHABLE, "%s",
			   *pa.text ? pa.text : pw.text);
}
