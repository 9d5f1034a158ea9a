/* SPDX-License-Identifier: Apache-2.0 */
/* The list of behaviours, and running one by its name. */
#include "behave.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

const struct behaviour behaviours[] = {
	{"refused", behave_refused},
	{"syn_timeout", behave_syn_timeout},
	{"abandoned", behave_abandoned},
	{"reset_by_peer", behave_reset_by_peer},
	{"close_unread", behave_close_unread},
	{"orderly", behave_orderly},
	{"orderly_wait", behave_orderly_wait},
	{"user_timeout", behave_user_timeout},
	{"rto", behave_rto},
	{"keepalive", behave_keepalive},
	{"retransmit", behave_retransmit},
	{"reset_before_accept", behave_reset_before_accept},
	{"prefork", behave_prefork},
	{"older_socket", behave_older_socket},
	{"storm", behave_storm},
	{"exit", behave_exit},
	{"killed", behave_killed},
	{"abort", behave_abort},
	{"leader_first", behave_leader_first},
	{"thread_exit", behave_thread_exit},
	{"many_threads", behave_many_threads},
	{"exec_thread", behave_exec_thread},
	{"oom", behave_oom},
	{"exits", behave_exits},
	{NULL, NULL},
};

int behave_main(int argc, char **argv)
{
	const struct behaviour *b;

	for (b = behaviours; argc > 0 && b->name; b++)
		if (strcmp(b->name, argv[0]) == 0) {
			/* What events call the process. */
			(void)prctl(PR_SET_NAME, b->name);
			return b->run(argc, argv);
		}
	(void)fprintf(stderr, "behave: which? one of:");
	for (b = behaviours; b->name; b++)
		(void)fprintf(stderr, " %s", b->name);
	(void)fprintf(stderr, "\n");
	return 2;
}
