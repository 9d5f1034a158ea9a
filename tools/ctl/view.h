/* SPDX-License-Identifier: Apache-2.0 */
/* What people see of the bus's messages. Pure: message in, text out, so that tests have golden copies. */
#pragma once

#include "bus.pb-c.h"
#include "tools/ctl/term.h"

/* Either daemon may be NULL, then its error says why. */
void hf_view_status(const struct hf_term *t, const Bus__AgentStatus *agent, const char *agent_error,
		    const Bus__WatchdogStatus *watchdog, const char *watchdog_error);
void hf_view_outages(const struct hf_term *t, Bus__Outage *const *items, size_t n);
/* now_ns: for how long a running one runs. */
void hf_view_actions(const struct hf_term *t, Bus__Action *const *items, size_t n, uint64_t now_ns);
void hf_view_components(const struct hf_term *t, Bus__Component *const *items, size_t n);
/* The one line that status shows; everything. */
void hf_view_component_line(const struct hf_term *t, const Bus__Component *c);
void hf_view_component(const struct hf_term *t, const Bus__Component *c);

void hf_view_releases(const struct hf_term *t, const Bus__Releases *m);
/* What status says of an update, if there is anything to say. */
void hf_view_release_line(const struct hf_term *t, const Bus__Release *r);

/* One event a line; columns are fixed so that a stream stays aligned. */
void hf_view_event(const struct hf_term *t, const Bus__Event *e);

/* Has it become what was asked for? old_pid is the process before the request. */
bool hf_component_settled(Bus__ComponentRequest__Verb verb, uint32_t old_pid,
			  const Bus__Component *now);

/* "SIGKILL from pid 77 'kill' (uid 0)", "code 3", "out of memory": how a process ended. */
#define HF_VIEW_EXIT_SIZE 128
void hf_view_exit_text(const Bus__ExitRecord *x, char dst[static HF_VIEW_EXIT_SIZE]);
