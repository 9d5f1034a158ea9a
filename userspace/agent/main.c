/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-agent: arguments and the process's own set-up. It is started by the watchdog as an
 * unprivileged user without any capability, so there is nothing to drop; it refuses to be root.
 */
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "userspace/agent/agent.h"

static void usage(FILE *f)
{
	(void)fprintf(f, "Usage: holdfast-agent [--dir DIR] [--allow-root]\n"
			 "The agent of Holdfast; normally started by holdfast-watchdog.\n\n"
			 "  --dir DIR      use the instance in DIR instead of the installed one\n"
			 "  --allow-root   do not refuse to run as root (development only)\n"
			 "  --version      print the version\n"
			 "  --help         print this\n");
}

int main(int argc, char **argv)
{
	enum { OPT_DIR = 'd', OPT_ROOT = 'r', OPT_VERSION = 'V', OPT_HELP = 'h' };
	static const struct option options[] = {
		{"dir", required_argument, NULL, OPT_DIR},
		{"allow-root", no_argument, NULL, OPT_ROOT},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, OPT_HELP},
		{},
	};
	const char *dir = NULL;
	bool allow_root = false;
	sigset_t mask;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case OPT_DIR:
			dir = optarg;
			break;
		case OPT_ROOT:
			allow_root = true;
			break;
		case OPT_VERSION:
			(void)puts("holdfast-agent " HF_VERSION);
			return 0;
		case OPT_HELP:
			usage(stdout);
			return 0;
		default: /* getopt has said what is wrong */
			usage(stderr);
			return HF_EXIT_PERMANENT;
		}
	}
	if (optind != argc) {
		(void)fprintf(stderr, "holdfast-agent: unexpected argument '%s'\n", argv[optind]);
		return HF_EXIT_PERMANENT;
	}
	hf_log_init("holdfast-agent");
	if (geteuid() == 0 && !allow_root) {
		hf_error("refusing to run as root: the watchdog starts the agent as its own user");
		return HF_EXIT_PERMANENT;
	}
	/* What it writes is its own; the sockets get their mode explicitly. */
	(void)umask(077);
	/* nng's threads would each reserve an arena; two are enough for what they allocate. */
	(void)mallopt(M_ARENA_MAX, 2);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGTERM);
	(void)sigaddset(&mask, SIGINT);
	(void)sigaddset(&mask, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &mask, NULL);
	return hf_agent_run(dir);
}
