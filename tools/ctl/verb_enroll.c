/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast enroll, holdfast reset */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "holdfast/cause.h"
#include "holdfast/session.h"
#include "tools/ctl/bus.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define ENROLL_USAGE \
	"enroll --portal URL {--token T|--token -|--token-file FILE} [--ca FILE] [--json]"
#define RESET_USAGE "reset [--yes] [--json]"
/* One attempt of the channel has 20 s; a certificate needs two connections. */
#define ENROLL_DEADLINE_MS 45000u
/* A bundle of a few certificates. */
#define CA_FILE_MAX (64u << 10)

/* The first word of text. -EINVAL: none, or more than a token has. */
static int take_token(const char *text, char dst[static HF_ENROLL_TOKEN_MAX + 1])
{
	size_t len;

	text += strspn(text, " \t\r\n");
	len = strcspn(text, " \t\r\n");
	if (len == 0 || len > HF_ENROLL_TOKEN_MAX || text[len + strspn(text + len, " \t\r\n")])
		return -EINVAL;
	memcpy(dst, text, len);
	dst[len] = '\0';
	return 0;
}

/* From standard input; a terminal is asked and does not show it. */
static ssize_t read_stdin(char *dst, size_t size)
{
	struct termios before, quiet;
	ssize_t n;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return hf_read_full(STDIN_FILENO, dst, size);
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	(void)fputs("Token: ", stderr);
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet); /* then it is shown */
	n = read(STDIN_FILENO, dst, size);                /* one line */
	n = n < 0 ? -errno : n;
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	(void)fputs("\n", stderr);
	return n;
}

static int read_token(const struct hf_ctl *c, const char *token, const char *file,
		      char dst[static HF_ENROLL_TOKEN_MAX + 1])
{
	char text[512] = "";
	ssize_t n;
	int r;

	if (token && !hf_streq(token, "-"))
		return take_token(token, dst);
	if (token) {
		n = read_stdin(text, sizeof(text) - 1);
	} else {
		_cleanup_close_ int fd = openat(c->cwd, file, O_RDONLY | O_CLOEXEC);

		n = fd < 0 ? -errno : hf_read_full(fd, text, sizeof(text) - 1);
	}
	if (n < 0)
		return (int)n;
	r = take_token(text, dst);
	hf_wipe(text, sizeof(text));
	return r;
}

static int print_enrolled(struct hf_ctl *c, const Bus__EnrollResult *e)
{
	_cleanup_free_ char *state = hf_term_safe(e->state), *uid = hf_term_safe(e->instance_uid);
	_cleanup_free_ char *message = hf_term_safe(e->message);

	if (c->json) {
		json_t *o = json_object();

		hf_json_put(&o, "state", hf_json_string(e->state));
		hf_json_put(&o, "instance_uid", hf_json_string(e->instance_uid));
		hf_json_put(&o, "message", hf_json_string(e->message));
		return hf_ctl_print_json(o);
	}
	(void)fprintf(c->out.f, "enrolled as %s, %s\n", uid, state);
	if (hf_streq(e->state, "pending"))
		(void)fprintf(c->out.f, "approve this host in the portal to authorize it\n");
	else if (*message && !hf_streq(e->state, "online"))
		(void)fprintf(c->out.f, "%s\n", message);
	return HF_CTL_OK;
}

/* What a person can do about it; NULL: the text says all there is. */
static const char *remedy(const char *text)
{
	static const struct {
		enum hf_cause cause;
		const char *what_to_do;
	} rows[] = {
		{HF_CAUSE_TOKEN_EXPIRED, "make a new token in the portal"},
		{HF_CAUSE_TOKEN_EXHAUSTED, "make a new token in the portal"},
		{HF_CAUSE_TOKEN_REVOKED, "make a new token in the portal"},
		{HF_CAUSE_TOKEN_UNKNOWN, "check the token, and that it is this portal's"},
		{HF_CAUSE_DNS_FAILED, "check the portal's name and this host's resolver"},
		{HF_CAUSE_DNS_WRONG, "check the portal's name and this host's resolver"},
		{HF_CAUSE_NO_ROUTE, "check this host's network"},
		{HF_CAUSE_PORTAL_UNREACHABLE, "check the portal's address and that it runs"},
		{HF_CAUSE_PORTAL_TIMEOUT, "check that the portal is well, and try again"},
		{HF_CAUSE_PORTAL_OVERLOAD, "try again in a minute"},
		{HF_CAUSE_PROTOCOL_ERROR, "check that the URL is a portal's"},
		{HF_CAUSE_CERT_UNTRUSTED, "give the portal's CA with --ca FILE"},
		{HF_CAUSE_CERT_EXPIRED, "renew the portal's certificate, or set this clock"},
		{HF_CAUSE_CERT_NOT_YET_VALID, "compare this host's clock with the portal's"},
		{HF_CAUSE_CLOCK_SKEW, "set this host's clock"},
		{HF_CAUSE_TLS_INTERCEPTED,
		 "give the portal's CA with --ca FILE, or have it exempted from TLS inspection"},
		{HF_CAUSE_CAPTIVE_PORTAL, "log in to the network first"},
		{HF_CAUSE_ENVIRONMENT_MISMATCH, "make 'environment' in config.yml the portal's"},
		{HF_CAUSE_PROXY_REFUSED, "check portal.proxy and the proxy's rules"},
		{HF_CAUSE_PROXY_AUTH, "put the proxy's credentials into portal.proxy"},
		{HF_CAUSE_PROXY_TIMEOUT, "check portal.proxy and that the proxy runs"},
	};

	if (strstr(text, "; "))
		return NULL;
	for (size_t i = 0; i < HF_ARRAY_SIZE(rows); i++) {
		const char *name = hf_cause_name(rows[i].cause);

		if (hf_startswith(text, name) && text[strlen(name)] == ':')
			return rows[i].what_to_do;
	}
	return "see 'holdfast status'";
}

char *hf_enroll_complaint(const char *text)
{
	const char *what_to_do;

	/* The agent says what failed as well; the verb has said it already. */
	if (hf_startswith(text, "enrol: "))
		text += strlen("enrol: ");
	what_to_do = remedy(text);
	return hf_asprintf("%s%s%s", text, what_to_do ? "; " : "", what_to_do ? what_to_do : "");
}

struct progress {
	uint64_t begun_ns;
	bool shown;
};

/* A line that stays one, for whoever sits there; nothing on a pipe. */
static void on_tick(void *userdata)
{
	struct progress *p = userdata;
	uint64_t s = (hf_now_monotonic_ns() - p->begun_ns) / HF_NS_PER_S;

	if (!isatty(STDERR_FILENO))
		return;
	p->shown = true;
	(void)fprintf(stderr, "\renrolling, %u s of at most %u s ", (unsigned)s,
		      ENROLL_DEADLINE_MS / 1000);
}

static int ask_agent(const struct hf_ctl *c, Bus__Request *q, Bus__Response **ret)
{
	struct hf_ctl_question question = {
		.daemon = HF_CTL_AGENT,
		.request = q,
		.deadline_ms = ENROLL_DEADLINE_MS,
	};
	struct progress progress = {.begun_ns = hf_now_monotonic_ns()};
	_cleanup_free_ char *text = NULL;

	hf_ctl_ask_all(c, &question, 1, on_tick, &progress);
	if (progress.shown)
		(void)fputs("\r\033[K", stderr);
	if (question.r == 0) {
		*ret = question.response;
		return HF_CTL_OK;
	}
	if (question.problem.code == HF_CTL_BAD_NEWS && question.r != -EPERM &&
	    question.r != -EACCES)
		text = hf_enroll_complaint(question.problem.text);
	return hf_ctl_fail(question.problem.code, "%s: %s", c->verb,
			   text ? text : question.problem.text);
}

/*
 * The watchdog believes the next action key: only a person may say so, and this is how. Without a
 * watchdog nothing is pinned that could be in the way for long; an old one does not know the request.
 */
static void forget_trust(const struct hf_ctl *c)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__TrustRequest what = BUS__TRUST_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	struct hf_ctl_problem problem;

	q.what_case = BUS__REQUEST__WHAT_TRUST;
	q.trust = &what;
	(void)hf_ctl_ask(c, HF_CTL_WATCHDOG, &q, HF_CTL_DEADLINE_MS, &m, &problem);
}

int hf_ctl_enroll(struct hf_ctl *c, int argc, char **argv)
{
	const char *portal = NULL, *token = NULL, *token_file = NULL, *ca = NULL;
	const struct hf_ctl_option options[] = {
		{.name = "--portal", .value = &portal},
		{.name = "--token-file", .value = &token_file},
		{.name = "--token", .value = &token},
		{.name = "--ca", .value = &ca},
	};
	char secret[HF_ENROLL_TOKEN_MAX + 1] = "";
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__EnrollRequest what = BUS__ENROLL_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	_cleanup_free_ char *pem = NULL;
	size_t pem_len = 0;
	int r;

	r = hf_ctl_parse(c, argc, argv, ENROLL_USAGE, options, HF_ARRAY_SIZE(options), NULL, 0,
			 NULL);
	if (r != 0)
		return r;
	if (!token == !token_file)
		return hf_ctl_usage(ENROLL_USAGE, "enroll: needs --token or --token-file");
	if (ca) {
		r = hf_read_file(c->cwd, ca, CA_FILE_MAX, &pem, &pem_len);
		if (r < 0)
			return hf_ctl_fail(HF_CTL_USAGE, "enroll: %s: %s; give --ca a PEM file", ca,
					   strerror(-r));
	}
	r = read_token(c, token, token_file, secret);
	/* An argument is in everybody's ps: not a moment longer than it must be. */
	if (token && !hf_streq(token, "-"))
		memset((char *)token, '*', strlen(token));
	if (r == -EINVAL)
		return hf_ctl_fail(HF_CTL_USAGE,
				   "enroll: the token is empty or not one word; copy it "
				   "from the portal again");
	if (r < 0)
		return hf_ctl_fail(HF_CTL_USAGE,
				   "enroll: %s: %s; give --token-file a file with the "
				   "token",
				   token_file ? token_file : "standard input", strerror(-r));
	if (portal)
		what.portal_url = (char *)portal;
	what.token = secret;
	what.ca_pem = (ProtobufCBinaryData){pem_len, (uint8_t *)pem};
	q.what_case = BUS__REQUEST__WHAT_ENROLL;
	q.enroll = &what;
	forget_trust(c);
	r = ask_agent(c, &q, &m);
	hf_wipe(secret, sizeof(secret));
	if (r != HF_CTL_OK)
		return r;
	if (!m || m->what_case != BUS__RESPONSE__WHAT_ENROLL)
		return hf_ctl_fail_misfit(c, HF_CTL_AGENT);
	return print_enrolled(c, m->enroll);
}

/* On a terminal the person is asked; a script has decided already. */
static bool confirmed(void)
{
	char answer[16] = "";

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return true;
	(void)fprintf(stderr, "This host forgets its portal and its key, and has to be enrolled "
			      "again. Go on? [y/N] ");
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int hf_ctl_reset(struct hf_ctl *c, int argc, char **argv)
{
	bool yes = false;
	const struct hf_ctl_option options[] = {{.name = "--yes", .flag = &yes}};
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__ResetRequest what = BUS__RESET_REQUEST__INIT;
	_cleanup_pb_ Bus__Response *m = NULL;
	_cleanup_free_ char *message = NULL;
	int r;

	r = hf_ctl_parse(c, argc, argv, RESET_USAGE, options, HF_ARRAY_SIZE(options), NULL, 0,
			 NULL);
	if (r != 0)
		return r;
	if (!yes && !confirmed())
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "reset: not confirmed; nothing was changed");
	q.what_case = BUS__REQUEST__WHAT_RESET;
	q.reset = &what;
	r = hf_ctl_ask_or_fail(c, HF_CTL_AGENT, &q, HF_CTL_DEADLINE_MS, &m);
	if (r != HF_CTL_OK)
		return r;
	forget_trust(c);
	if (c->json) {
		json_t *o = json_object();

		hf_json_put(&o, "message", hf_json_string(m->message));
		return hf_ctl_print_json(o);
	}
	message = hf_term_safe(*m->message ? m->message : "identity removed");
	(void)fprintf(c->out.f, "%s\n", message);
	return HF_CTL_OK;
}
