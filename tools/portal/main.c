/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holdfast-portal(8): command line, start in the order of one table, stop in its reverse.
 *
 *	holdfast-portal [--dir DIR]                 serve
 *	holdfast-portal [--dir DIR] check           read the configuration and the database, exit
 *	holdfast-portal [--dir DIR] token create … an enrolment token, by the database
 *	holdfast-portal [--dir DIR] token list
 *	holdfast-portal [--dir DIR] token revoke ID
 *	holdfast-portal [--dir DIR] token --role ROLE NAME	a token of the API
 *	holdfast-portal [--dir DIR] rotate-action-key
 *
 * With --dir the process works below DIR/portal, else in /var/lib/holdfast-portal with
 * /etc/holdfast/portal.yml. Exit codes: 0, 1 failed, 2 usage, 100 permanent (configuration), 111
 * temporary.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "tools/portal/action.h"
#include "tools/portal/auth.h"
#include "tools/portal/ca.h"
#include "tools/portal/cli.h"
#include "tools/portal/fleet.h"
#include "tools/portal/hub.h"
#include "tools/portal/portal.h"
#include "tools/portal/server.h"
#include "tools/portal/ticket.h"
#include "tools/portal/writer.h"
#include "userspace/net/http.h"
#include "userspace/net/tls_stream.h"

#define EXIT_PERMANENT       100
#define EXIT_TEMPORARY       111
#define STOP_DEADLINE_MS     5000u /* for close frames to be answered */
#define NOFILE_SPARE         256u  /* database, listening sockets, files */
#define NAMES_MAX            16u
#define CERTIFICATE_CHECK_US (24 * 3600 * UINT64_C(1000000))

/* ---- parts ---------------------------------------------------------------------------------- */

struct names {
	const char *list[NAMES_MAX];
	size_t n;
	char hostname[256];
	struct hf_url url;
	char hosts[NAMES_MAX][256];
};

static void add_name(struct names *n, const char *name)
{
	if (!name[0] || n->n == NAMES_MAX || hf_streq(name, "0.0.0.0") || hf_streq(name, "::"))
		return;
	for (size_t i = 0; i < n->n; i++) {
		if (hf_streq(n->list[i], name))
			return;
	}
	n->list[n->n++] = name;
}

/* The names under which endpoints and browsers may call us. */
static void collect_names(struct hf_portal *p, struct names *n)
{
	*n = (struct names){};
	if (p->config.public_url[0] && hf_url_parse(p->config.public_url, &n->url) == 0)
		add_name(n, n->url.host);
	if (gethostname(n->hostname, sizeof(n->hostname) - 1) == 0)
		add_name(n, n->hostname);
	add_name(n, "localhost");
	add_name(n, "127.0.0.1");
	add_name(n, "::1");
	for (size_t i = 0; i < p->config.listen.n && i < NAMES_MAX; i++) {
		uint16_t port;

		if (hf_config_split_host_port(p->config.listen.items[i], n->hosts[i],
					      sizeof(n->hosts[i]), &port) == 0)
			add_name(n, n->hosts[i]);
	}
}

static int init_database(struct hf_portal *p, struct hf_err *err)
{
	_cleanup_(hf_store_closep) struct hf_store *writable = NULL;
	int r = hf_store_open(p->config.database, HF_STORE_WRITE, &writable, err);

	if (r == 0)
		r = hf_auth_bootstrap(writable, p->state_fd, hf_now_realtime_ns(), err);
	if (r < 0)
		return r;
	r = hf_writer_new(p->event, p->config.database, &p->writer, err);
	return r < 0 ? r : hf_store_open(p->config.database, HF_STORE_READ, &p->store, err);
}

static void exit_database(struct hf_portal *p)
{
	p->writer = hf_writer_free(p->writer);
	p->store = hf_store_close(p->store);
}

/* The endpoints' authority, when somebody else's is configured; NULL: ours. */
static const char *client_ca_bundle(const struct hf_portal *p)
{
	return p->config.tls.ca_file[0] ? p->config.tls.ca_file : NULL;
}

static int make_tls(struct hf_portal *p, struct hf_tls_context **ret, struct hf_err *err)
{
	const char *bundle = client_ca_bundle(p);
	uint8_t keys[HF_TLS_TICKET_KEYS_SIZE];
	const struct hf_tls_server_options o = {
		.ticket_keys = keys,
		.client_ca_file = bundle ? bundle : "client-ca.pem",
		.cert_file = p->config.tls.cert_file[0] ? p->config.tls.cert_file : "server.pem",
		.key_file = p->config.tls.key_file[0] ? p->config.tls.key_file : "server.key",
	};

	int r = hf_ticket_keys(p->state_fd, o.client_ca_file, hf_now_realtime_ns(), keys, err);

	if (r == 0)
		r = hf_tls_server_context_new(&o, ret, err);
	hf_wipe(keys, sizeof(keys));
	return r;
}

static int prepare_certificates(struct hf_portal *p, struct hf_err *err)
{
	struct names names;
	int r;

	collect_names(p, &names);
	r = hf_ca_prepare(p->state_fd, names.list, names.n, !client_ca_bundle(p),
			  hf_now_realtime_ns(), err);
	if (r > 0)
		hf_notice("Made a server certificate for %zu names, first '%s'", names.n,
			  names.list[0]);
	return r;
}

/* Renews the server certificate of a portal that runs for a year. */
static int on_certificate_check(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct hf_portal *p = userdata;
	struct hf_tls_context *fresh = NULL;
	struct hf_err err = {};
	int r = prepare_certificates(p, &err);

	(void)sd_event_source_set_time(source, usec + CERTIFICATE_CHECK_US);
	(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (r > 0)
		r = make_tls(p, &fresh, &err);
	if (r < 0) {
		hf_error("Renew the server certificate: %s", err.msg);
		return 0;
	}
	if (r == 0 && fresh && p->n_old_tls < HF_ARRAY_SIZE(p->old_tls)) {
		/* Its streams still need the old one. */
		p->old_tls[p->n_old_tls++] = p->tls;
		p->tls = fresh;
	}
	return 0;
}

static int init_certificates(struct hf_portal *p, struct hf_err *err)
{
	int r = prepare_certificates(p, err);

	if (r >= 0)
		r = hf_ca_open(p->state_fd, client_ca_bundle(p), &p->ca, err);
	if (r == 0)
		r = make_tls(p, &p->tls, err);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(p->event, &p->certificate_check, CLOCK_MONOTONIC,
				       CERTIFICATE_CHECK_US, 1000000, on_certificate_check, p);
	return r < 0 ? hf_err_set(err, r, "timer: %s", strerror(-r)) : 0;
}

static void exit_certificates(struct hf_portal *p)
{
	p->certificate_check = sd_event_source_disable_unref(p->certificate_check);
	while (p->n_old_tls > 0)
		(void)hf_tls_context_free(p->old_tls[--p->n_old_tls]);
	p->tls = hf_tls_context_free(p->tls);
	p->ca = hf_ca_free(p->ca);
}

static int init_registry(struct hf_portal *p, struct hf_err *err)
{
	int r = hf_registry_new(&p->registry);

	return r < 0 ? hf_err_set(err, r, "registry: %s", strerror(-r)) : 0;
}

static void exit_registry(struct hf_portal *p)
{
	p->registry = hf_registry_free(p->registry);
}

static int init_auth(struct hf_portal *p, struct hf_err *err)
{
	int r = hf_auth_new(p->store, &p->auth);

	return r < 0 ? hf_err_set(err, r, "sessions: %s", strerror(-r)) : 0;
}

static void exit_auth(struct hf_portal *p)
{
	p->auth = hf_auth_free(p->auth);
}

static int init_hub(struct hf_portal *p, struct hf_err *err)
{
	int r = hf_hub_new(p->event, &p->hub);

	return r < 0 ? hf_err_set(err, r, "event stream: %s", strerror(-r)) : 0;
}

static void exit_hub(struct hf_portal *p)
{
	p->hub = hf_hub_free(p->hub);
}

static int init_fleet(struct hf_portal *p, struct hf_err *err)
{
	return hf_fleet_new(p, &p->fleet, err);
}

static void exit_fleet(struct hf_portal *p)
{
	hf_fleet_flush_seen(p);
	hf_writer_drain(p->writer);
	p->fleet = hf_fleet_free(p->fleet);
}

static int init_actions(struct hf_portal *p, struct hf_err *err)
{
	return hf_actions_new(p, &p->actions, err);
}

static void exit_actions(struct hf_portal *p)
{
	hf_writer_drain(p->writer);
	p->actions = hf_actions_free(p->actions);
}

static int init_server(struct hf_portal *p, struct hf_err *err)
{
	return hf_server_new(p, &p->server, err);
}

static void exit_server(struct hf_portal *p)
{
	/* What the endpoints sent last is stored before their connections go. */
	hf_writer_drain(p->writer);
	p->server = hf_server_free(p->server);
}

static const struct part {
	const char *name;
	int (*init)(struct hf_portal *p, struct hf_err *err);
	void (*exit)(struct hf_portal *p);
} parts[] = {
	{"database", init_database, exit_database},
	{"certificates", init_certificates, exit_certificates},
	{"registry", init_registry, exit_registry},
	{"auth", init_auth, exit_auth},
	{"hub", init_hub, exit_hub},
	{"fleet", init_fleet, exit_fleet},
	{"actions", init_actions, exit_actions},
	{"server", init_server, exit_server},
};

/* ---- running -------------------------------------------------------------------------------- */

static void warn_config(void *userdata, const char *text)
{
	(void)userdata;
	hf_warn("%s", text);
}

static int load_config(struct hf_portal *p, struct hf_err *err)
{
	int r = hf_config_load(&hf_portal_config_table, AT_FDCWD, p->config_path, &p->config,
			       warn_config, NULL, err);

	if (r < 0)
		return r;
	if (r == HF_CONFIG_MISSING)
		hf_notice("There is no '%s', using the defaults", p->config_path);
	hf_log_set_level(hf_config_log_level(p->config.log.level));
	p->policy = (struct hf_presence_policy){
		.heartbeat_s = (uint32_t)p->config.heartbeat_s,
		.max_offline_s = (uint32_t)p->config.agent_max_offline_time_s,
	};
	return 0;
}

static int enter_state_dir(struct hf_portal *p, struct hf_err *err)
{
	int r = hf_mkdir_p(AT_FDCWD, p->state_dir, 0700);

	if (r < 0)
		return hf_err_set(err, r, "make '%s': %s", p->state_dir, strerror(-r));
	if (chdir(p->state_dir) < 0)
		return hf_err_set(err, -errno, "enter '%s': %m", p->state_dir);
	p->state_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->state_fd < 0 ? hf_err_set(err, -errno, "open '%s': %m", p->state_dir) : 0;
}

static void raise_nofile(struct hf_portal *p)
{
	rlim_t want = p->config.max_connections + NOFILE_SPARE;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	if (l.rlim_cur >= want)
		return;
	l.rlim_cur = l.rlim_max == RLIM_INFINITY || l.rlim_max > want ? want : l.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &l); /* judged by the result below */
	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < want) {
		p->config.max_connections =
			l.rlim_cur > 2 * NOFILE_SPARE ? l.rlim_cur - NOFILE_SPARE : NOFILE_SPARE;
		hf_notice("The limit of open files allows %llu connections only",
			  (unsigned long long)p->config.max_connections);
	}
}

static void set_public_url(struct hf_portal *p)
{
	char host[256];

	if (p->config.public_url[0]) {
		(void)hf_strlcpy(p->public_url, p->config.public_url, sizeof(p->public_url));
		return;
	}
	if (gethostname(host, sizeof(host)) < 0 || !host[0])
		(void)hf_strlcpy(host, "localhost", sizeof(host));
	host[sizeof(host) - 1] = '\0';
	(void)hf_strf(p->public_url, sizeof(p->public_url), "https://%s:%u", host,
		      hf_server_port(p->server));
}

static int write_url(struct hf_portal *p, struct hf_err *err)
{
	char text[320];
	int r;

	(void)hf_strf(text, sizeof(text), "%s\n", p->public_url);
	r = hf_write_file_atomic(p->state_fd, "url", text, strlen(text), 0644);
	return r < 0 ? hf_err_set(err, r, "write 'url': %s", strerror(-r)) : 0;
}

static void on_server_stopped(void *userdata)
{
	struct hf_portal *p = userdata;

	(void)sd_event_exit(p->event, 0); /* fails only when it ended already */
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
	struct hf_portal *p = userdata;

	(void)source;
	if (p->stopping) {
		hf_warn("Second signal, not waiting for connections any longer");
		return sd_event_exit(p->event, 0);
	}
	hf_notice("Stopping on %s from pid %u", strsignal((int)si->ssi_signo), si->ssi_pid);
	(void)sd_notify(0, "STOPPING=1"); /* no service manager: nobody to tell */
	p->stopping = true;
	hf_server_stop(p->server, STOP_DEADLINE_MS, on_server_stopped, p);
	return 0;
}

static int add_signals(struct hf_portal *p)
{
	static const int signals[] = {SIGTERM, SIGINT};
	sigset_t mask;
	int r = 0;

	(void)sigemptyset(&mask);
	for (size_t i = 0; i < HF_ARRAY_SIZE(signals); i++)
		(void)sigaddset(&mask, signals[i]);
	(void)sigaddset(&mask, SIGPIPE);
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < HF_ARRAY_SIZE(signals) && r >= 0; i++)
		r = sd_event_add_signal(p->event, NULL, signals[i], on_signal, p);
	return r < 0 ? r : 0;
}

static int run_loop(struct hf_portal *p, struct hf_err *err)
{
	int r;

	set_public_url(p);
	r = write_url(p, err);
	if (r < 0)
		return r;
	(void)sd_event_set_watchdog(p->event, true); /* no WatchdogSec: nothing to do */
	hf_notice("Portal %s ready at %s, %zu endpoints", HF_VERSION, p->public_url,
		  hf_registry_count(p->registry));
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s", p->public_url);
	r = sd_event_loop(p->event);
	(void)unlinkat(p->state_fd, "url", 0); /* left behind it would only promise too much */
	return r < 0 ? hf_err_set(err, r, "event loop: %s", strerror(-r)) : 0;
}

static int serve(struct hf_portal *p, struct hf_err *err)
{
	size_t started = 0;
	int r = add_signals(p);

	if (r < 0)
		return hf_err_set(err, r, "signals: %s", strerror(-r));
	raise_nofile(p);
	p->started_ns = hf_now_monotonic_ns();
	p->started_unix_ns = hf_now_realtime_ns();
	for (r = 0; started < HF_ARRAY_SIZE(parts) && r >= 0; started++) {
		r = parts[started].init(p, err);
		if (r < 0) {
			(void)hf_err_wrap(err, "%s", parts[started].name);
			parts[started].exit(p); /* half-built parts free what they have */
			break;
		}
	}
	if (r >= 0)
		r = run_loop(p, err);
	while (started > 0)
		parts[--started].exit(p);
	return r;
}

static void portal_done(struct hf_portal *p)
{
	p->state_fd = hf_close(p->state_fd);
	hf_config_done(&hf_portal_config_table, &p->config);
	p->event = sd_event_unref(p->event);
}

/* What an administrator must change, as opposed to what may pass. */
static int exit_code(int r)
{
	switch (r) {
	case 0:
		return EXIT_SUCCESS;
	case -EINVAL:
	case -EBADMSG:
	case -EKEYREJECTED:
	case -EPROTONOSUPPORT:
	case -EACCES:
	case -EPERM:
	case -EUCLEAN:
		return EXIT_PERMANENT;
	default:
		return EXIT_TEMPORARY;
	}
}

static int usage(FILE *to, int code)
{
	(void)fputs(
		"usage: holdfast-portal [--dir DIR] [check | token create|list|revoke … | rotate-action-key]\n"
		"\n"
		"Serves endpoints, API and web page. Without --dir: /etc/holdfast/portal.yml and\n"
		"/var/lib/holdfast-portal; with it: DIR/portal.\n"
		"\n"
		"  check                         read configuration and database, then exit\n"
		"  token create [--name N] [--ttl 24h] [--max-uses N] [--group G]\n"
		"               [--pre-authorize]   print a new enrolment token\n"
		"  token list | token revoke ID\n"
		"  token --role viewer|operator|admin NAME   print a new token of the API\n"
		"  rotate-action-key             make a new key for actions, signed by the old one\n",
		to);
	return code;
}

static void choose_paths(struct hf_portal *p, const char *dir, struct hf_err *err, int *ret_r)
{
	*ret_r = 0;
	if (!dir) {
		(void)hf_strlcpy(p->state_dir, "/var/lib/holdfast-portal", sizeof(p->state_dir));
		(void)hf_strlcpy(p->config_path, "/etc/holdfast/portal.yml",
				 sizeof(p->config_path));
		return;
	}
	/* Relative from here on: DIR itself may lie where an unprivileged portal cannot look. */
	if (!hf_streq(dir, ".") && chdir(dir) < 0) {
		*ret_r = hf_err_set(err, -errno, "enter '%s': %m", dir);
		return;
	}
	(void)hf_strlcpy(p->state_dir, "portal", sizeof(p->state_dir));
	(void)hf_strlcpy(p->config_path, "portal/portal.yml", sizeof(p->config_path));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"dir", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{},
	};
	struct hf_portal p = {.state_fd = -1};
	struct hf_err err = {};
	const char *dir = NULL;
	int c, r;

	while ((c = getopt_long(argc, argv, "+d:hV", options, NULL)) >= 0) {
		switch (c) {
		case 'd':
			dir = optarg;
			break;
		case 'h':
			return usage(stdout, EXIT_SUCCESS);
		case 'V':
			(void)printf("holdfast-portal %s\n", HF_VERSION);
			return EXIT_SUCCESS;
		default:
			return usage(stderr, 2);
		}
	}
	hf_log_init("holdfast-portal");
	choose_paths(&p, dir, &err, &r);
	if (r == 0)
		r = load_config(&p, &err);
	if (r == 0)
		r = enter_state_dir(&p, &err);
	if (r == 0 && optind < argc) {
		c = hf_portal_cli(&p, argc - optind, argv + optind);
		portal_done(&p);
		return c == 2 ? usage(stderr, 2) : c;
	}
	if (r == 0)
		r = sd_event_new(&p.event);
	if (r >= 0)
		r = serve(&p, &err);
	portal_done(&p);
	if (r < 0) {
		hf_error("%s", err.msg[0] ? err.msg : strerror(-r));
		return exit_code(r);
	}
	hf_notice("Stopped");
	return EXIT_SUCCESS;
}
