/* SPDX-License-Identifier: Apache-2.0 */
/* Options, limits, the loop. Not installed: a tool for tests and for sizing a portal. */
#include "tools/swarm/swarm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-event.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "userspace/net/tls_stream.h"

#define EXIT_USAGE 2

static int usage(FILE *to, int code)
{
	(void)fputs(
		"usage: holdfast-swarm --portal URL --ca FILE [options]\n"
		"\n"
		"Many simulated endpoints against one portal, with the agent's own backoff. Ends by a\n"
		"signal or after --duration and then tells what happened.\n"
		"\n"
		"  --count N           endpoints (100)\n"
		"  --token TOKEN       enrol with this; '-' reads it from stdin\n"
		"  --state DIR         keep keys and certificates there; a later run needs no token.\n"
		"                      Without: own headers, enrolled anew with each run\n"
		"  --rate N            first dials per second (100)\n"
		"  --heartbeat S       instead of the portal's interval\n"
		"  --events N          telemetry events of each endpoint per minute (0)\n"
		"  --immediate N       immediate redials per minute and endpoint (20)\n"
		"  --environment E     (dev)\n"
		"  --duration S\n"
		"  --json              one object a line; the last has arrivals per 100 ms\n",
		to);
	return code;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	struct hf_swarm *s = userdata;

	(void)source;
	(void)si;
	return sd_event_exit(s->event, 0);
}

static int on_duration(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_swarm *s = userdata;

	(void)source;
	(void)usec;
	return sd_event_exit(s->event, 0);
}

static int resolve(struct hf_swarm *s, struct hf_err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	char port[8];
	int r;

	if (hf_url_parse(s->o.url, &s->url) < 0 || !s->url.tls)
		return hf_err_set(err, -EINVAL, "'%s' is not a wss:// URL", s->o.url);
	(void)hf_strf(port, sizeof(port), "%u", s->url.port);
	r = getaddrinfo(s->url.host, port, &hints, &found); /* once, before the loop */
	if (r != 0)
		return hf_err_set(err, -ENOENT, "'%s': %s", s->url.host, gai_strerror(r));
	memcpy(&s->address, found->ai_addr, found->ai_addrlen);
	s->address_len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

static int raise_nofile(const struct hf_swarm *s, struct hf_err *err)
{
	struct rlimit l;
	rlim_t want = s->o.count + 64; /* ours besides: loop, log, files being read */

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return hf_err_set(err, -errno, "limit of open files: %m");
	if (l.rlim_cur >= want)
		return 0;
	l.rlim_cur = want;
	if (l.rlim_max < want)
		l.rlim_max = want; /* root may */
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		return hf_err_set(err, -errno, "%u endpoints need as many open files: %m",
				  s->o.count);
	return 0;
}

static int prepare(struct hf_swarm *s, struct hf_err *err)
{
	const struct hf_tls_client_options tls = {.ca_file = s->o.ca_file};
	int r = resolve(s, err);

	if (r == 0)
		r = raise_nofile(s, err);
	if (r == 0 && s->o.state_dir) {
		r = hf_mkdir_p(AT_FDCWD, s->o.state_dir, 0700);
		if (r < 0)
			return hf_err_set(err, r, "make '%s': %s", s->o.state_dir, strerror(-r));
	}
	if (r == 0)
		r = hf_tls_client_context_new(&tls, &s->tls, err);
	return r;
}

static int add_sources(struct hf_swarm *s)
{
	sigset_t mask;
	int r;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGTERM);
	(void)sigaddset(&mask, SIGINT);
	(void)sigaddset(&mask, SIGPIPE);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(s->event, NULL, SIGTERM, on_signal, s);
	if (r >= 0)
		r = sd_event_add_signal(s->event, NULL, SIGINT, on_signal, s);
	if (r >= 0 && s->o.duration_s)
		r = sd_event_add_time_relative(s->event, NULL, CLOCK_MONOTONIC,
					       s->o.duration_s * UINT64_C(1000000), 1000,
					       on_duration, s);
	return r < 0 ? r : 0;
}

static int run(struct hf_swarm *s, struct hf_err *err)
{
	int r = prepare(s, err);

	if (r < 0)
		return r;
	r = sd_event_new(&s->event);
	if (r >= 0)
		r = add_sources(s);
	s->sims = calloc(s->o.count, sizeof(struct hf_sim *));
	if (r < 0 || !s->sims)
		return hf_err_set(err, r < 0 ? r : -ENOMEM, "event loop");
	s->started_ns = hf_now_monotonic_ns();
	for (unsigned i = 0; i < s->o.count && r >= 0; i++)
		r = hf_sim_new(s, i, i * HF_NS_PER_S / s->o.start_per_s, &s->sims[i]);
	if (r >= 0)
		r = sd_event_loop(s->event);
	if (r < 0)
		return hf_err_set(err, r, "event loop: %s", strerror(-r));
	hf_swarm_report(s);
	return 0;
}

static void swarm_done(struct hf_swarm *s)
{
	s->stopping = true;
	for (unsigned i = 0; s->sims && i < s->o.count; i++)
		s->sims[i] = hf_sim_free(s->sims[i]);
	free(s->sims);
	s->tls = hf_tls_context_free(s->tls);
	s->event = sd_event_unref(s->event);
}

static bool number(const char *text, unsigned min, unsigned max, unsigned *ret)
{
	uint32_t v;

	if (hf_parse_u32(text, &v) < 0 || v < min || v > max)
		return false;
	*ret = v;
	return true;
}

/* The command line shows what is on it to every user; a pipe does not. */
static const char *read_token(void)
{
	static char line[256];

	if (!fgets(line, sizeof(line), stdin))
		return "";
	line[strcspn(line, "\r\n")] = '\0';
	return line;
}

static bool parse(int argc, char **argv, struct hf_swarm_options *o)
{
	static const struct option options[] = {
		{"portal", required_argument, NULL, 'p'},
		{"ca", required_argument, NULL, 'a'},
		{"count", required_argument, NULL, 'n'},
		{"token", required_argument, NULL, 't'},
		{"state", required_argument, NULL, 's'},
		{"rate", required_argument, NULL, 'r'},
		{"heartbeat", required_argument, NULL, 'b'},
		{"events", required_argument, NULL, 'e'},
		{"immediate", required_argument, NULL, 'i'},
		{"environment", required_argument, NULL, 'E'},
		{"duration", required_argument, NULL, 'd'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{},
	};
	bool ok = true;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'p':
			o->url = optarg;
			break;
		case 'a':
			o->ca_file = optarg;
			break;
		case 'n':
			ok = number(optarg, 1, HF_SWARM_MAX, &o->count);
			break;
		case 't':
			o->token = hf_streq(optarg, "-") ? read_token() : optarg;
			break;
		case 's':
			o->state_dir = optarg;
			break;
		case 'r':
			ok = number(optarg, 1, 100000, &o->start_per_s);
			break;
		case 'b':
			ok = number(optarg, 1, 300, &o->heartbeat_s);
			break;
		case 'e':
			ok = number(optarg, 0, 60000, &o->events_per_minute);
			break;
		case 'i':
			ok = number(optarg, 0, 600, &o->immediate_per_minute);
			break;
		case 'E':
			o->environment = optarg;
			break;
		case 'd':
			ok = number(optarg, 1, 86400, &o->duration_s);
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			exit(usage(stdout, EXIT_SUCCESS));
		default:
			ok = false;
			break;
		}
	}
	return ok && optind == argc && o->url && o->ca_file && (o->token || o->state_dir);
}

int main(int argc, char **argv)
{
	static struct hf_swarm s = {
		.o = {.count = 100,
		      .start_per_s = 100,
		      .immediate_per_minute = 20,
		      .environment = "dev"},
	};
	struct hf_err err = {};
	int r;

	if (!parse(argc, argv, &s.o))
		return usage(stderr, EXIT_USAGE);
	hf_log_init("holdfast-swarm");
	r = run(&s, &err);
	swarm_done(&s);
	if (r < 0)
		hf_error("%s", err.msg);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
