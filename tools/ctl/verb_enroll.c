/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast enroll, holdfast reset */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "holdfast/session.h"
#include "tools/ctl/bus.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define ENROLL_USAGE \
	"enroll --portal URL {--token T|--token -|--token-file FILE} [--ca FILE] [--json]"
#define RESET_USAGE "reset [--yes] [--json]"
/* One attempt of the channel has 20 s; a certificate needs two connections. */
#define ENROLL_DEADLINE_MS 45000
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

static int read_token(const struct hf_ctl *c, const char *token, const char *file,
		      char dst[static HF_ENROLL_TOKEN_MAX + 1])
{
	char text[512] = "";
	ssize_t n;
	int r;

	if (token && !hf_streq(token, "-"))
		return take_token(token, dst);
	if (token) {
		n = hf_read_full(STDIN_FILENO, text, sizeof(text) - 1);
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
	r = hf_ctl_ask_or_fail(c, HF_CTL_AGENT, &q, ENROLL_DEADLINE_MS, &m);
	hf_wipe(secret, sizeof(secret));
	if (r != HF_CTL_OK)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_ENROLL)
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "agent: an answer that fits no question; are "
						    "holdfast and the agent of one version?");
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
	if (c->json) {
		json_t *o = json_object();

		hf_json_put(&o, "message", hf_json_string(m->message));
		return hf_ctl_print_json(o);
	}
	message = hf_term_safe(*m->message ? m->message : "identity removed");
	(void)fprintf(c->out.f, "%s\n", message);
	return HF_CTL_OK;
}
