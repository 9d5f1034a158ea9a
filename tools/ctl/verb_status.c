/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast status */
#include "base/cleanup.h"
#include "base/str.h"
#include "tools/ctl/bus.h"
#include "tools/ctl/view.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/status_json.h"

int hf_ctl_status(struct hf_ctl *c, int argc, char **argv)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__StatusRequest what = BUS__STATUS_REQUEST__INIT;
	struct hf_ctl_question questions[] = {
		{.daemon = HF_CTL_AGENT, .request = &q, .deadline_ms = HF_CTL_DEADLINE_MS},
		{.daemon = HF_CTL_WATCHDOG, .request = &q, .deadline_ms = HF_CTL_DEADLINE_MS},
	};
	const char *agent_error = questions[0].problem.text;
	const char *watchdog_error = questions[1].problem.text;
	_cleanup_pb_ Bus__Response *ra = NULL, *rw = NULL;
	const Bus__AgentStatus *agent = NULL;
	const Bus__WatchdogStatus *watchdog = NULL;
	int r;

	r = hf_ctl_parse(c, argc, argv, "status [--json]", NULL, 0, NULL, 0, NULL);
	if (r != 0)
		return r;
	q.what_case = BUS__REQUEST__WHAT_STATUS;
	q.status = &what;
	hf_ctl_ask_all(c, questions, HF_ARRAY_SIZE(questions), NULL, NULL);
	ra = questions[0].response;
	rw = questions[1].response;
	if (ra && ra->what_case == BUS__RESPONSE__WHAT_AGENT_STATUS)
		agent = ra->agent_status;
	if (rw && rw->what_case == BUS__RESPONSE__WHAT_WATCHDOG_STATUS)
		watchdog = rw->watchdog_status;
	/* One line: what holds one of them up holds up the other as well. */
	if (!agent && !watchdog)
		return *agent_error ? hf_ctl_fail(questions[0].problem.code, "%s: %s", c->verb,
						  agent_error)
				    : hf_ctl_fail_misfit(c, HF_CTL_AGENT);
	if (c->json)
		r = hf_ctl_print_json(hf_status_json(agent, agent_error, watchdog, watchdog_error));
	else
		hf_view_status(&c->out, agent, agent_error, watchdog, watchdog_error);
	return r == HF_CTL_OK && agent && watchdog ? HF_CTL_OK : HF_CTL_BAD_NEWS;
}
