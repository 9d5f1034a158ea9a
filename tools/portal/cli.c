/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of enrolment and of the API from the command line, and the check of what a portal would start with. */
#include "tools/portal/cli.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "tools/portal/action_key.h"
#include "tools/portal/auth.h"
#include "tools/portal/portal.h"
#include "tools/portal/token.h"

#define LIST_MAX 1000u

static int fail(const char *what, const char *why)
{
	(void)fprintf(stderr, "holdfast-portal: %s: %s\n", what, why);
	return EXIT_FAILURE;
}

static int open_store(struct hf_portal *p, struct hf_store **ret)
{
	struct hf_err err = {};

	if (hf_store_open(p->config.database, HF_STORE_WRITE, ret, &err) == 0)
		return 0;
	return fail("database", err.msg);
}

static int write_audit(struct hf_store *s, const char *action, const char *object)
{
	struct hf_audit_row row = {.at_ns = hf_now_realtime_ns()};

	(void)hf_strlcpy(row.actor, "holdfast-portal", sizeof(row.actor));
	(void)hf_strlcpy(row.address, "local", sizeof(row.address));
	(void)hf_strlcpy(row.action, action, sizeof(row.action));
	(void)hf_strlcpy(row.object, object, sizeof(row.object));
	return hf_store_audit_insert(s, &row);
}

static int parse_create(int argc, char **argv, struct hf_token_request *rq)
{
	static const struct option options[] = {
		{"name", required_argument, NULL, 'n'},     {"ttl", required_argument, NULL, 't'},
		{"max-uses", required_argument, NULL, 'm'}, {"group", required_argument, NULL, 'g'},
		{"pre-authorize", no_argument, NULL, 'p'},  {},
	};
	uint64_t ms;
	int c;

	optind = 0; /* main() used getopt before */
	while ((c = getopt_long(argc, argv, "n:t:m:g:p", options, NULL)) >= 0) {
		switch (c) {
		case 'n':
			rq->name = optarg;
			break;
		case 't':
			if (hf_parse_duration_ms(optarg, &ms) < 0)
				return 2;
			rq->ttl_s = ms / 1000;
			break;
		case 'm':
			if (hf_parse_u64(optarg, &rq->max_uses) < 0)
				return 2;
			break;
		case 'g':
			rq->group = optarg;
			break;
		case 'p':
			rq->pre_authorize = true;
			break;
		default:
			return 2;
		}
	}
	return optind == argc ? 0 : 2;
}

static int token_create(struct hf_portal *p, int argc, char **argv)
{
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;
	struct hf_token_request rq = {.name = "",
				      .group = "",
				      .creator = "holdfast-portal",
				      .ttl_s = HF_TOKEN_TTL_DEFAULT_S};
	char text[HF_SECRET_TEXT_MAX];
	struct hf_token_row row;
	int r = parse_create(argc, argv, &rq);

	if (r != 0)
		return r;
	if (hf_token_make(&rq, hf_now_realtime_ns(), &row, text) < 0)
		return fail("token create", "ttl, max-uses, name or group is out of bounds");
	if (open_store(p, &s) != 0)
		return EXIT_FAILURE;
	r = hf_store_begin(s);
	if (r == 0)
		r = hf_store_token_insert(s, &row);
	if (r == 0)
		r = write_audit(s, "token.create", row.id);
	if (r == 0)
		r = hf_store_commit(s);
	if (r < 0)
		return fail("token create", hf_store_error(s));
	(void)printf("%s\n", text);
	hf_wipe(text, sizeof(text));
	return EXIT_SUCCESS;
}

static int token_list(struct hf_portal *p)
{
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;
	_cleanup_free_ struct hf_token_row *rows = calloc(LIST_MAX, sizeof(*rows));
	int n;

	if (!rows)
		return fail("token list", "out of memory");
	if (open_store(p, &s) != 0)
		return EXIT_FAILURE;
	n = hf_store_tokens(s, "", rows, LIST_MAX);
	if (n < 0)
		return fail("token list", hf_store_error(s));
	(void)printf("%-16s  %-20s  %9s  %-30s  %s\n", "ID", "NAME", "USED", "EXPIRES", "STATE");
	for (int i = 0; i < n; i++) {
		const struct hf_token_row *t = &rows[i];
		struct hf_secret none = {};
		char expires[HF_RFC3339_SIZE], used[32];
		enum hf_token_verdict v;

		memcpy(none.hash, t->secret_hash, HF_HASH_SIZE);
		v = hf_token_judge(t, &none, hf_now_realtime_ns());
		hf_format_rfc3339(t->expires_ns, expires);
		if (t->max_uses)
			(void)hf_strf(used, sizeof(used), "%llu/%llu", (unsigned long long)t->used,
				      (unsigned long long)t->max_uses);
		else
			(void)hf_strf(used, sizeof(used), "%llu/any", (unsigned long long)t->used);
		(void)printf("%-16s  %-20s  %9s  %-30s  %s\n", t->id, t->name, used, expires,
			     v == HF_TOKEN_OK ? "valid" : hf_cause_name(hf_token_cause(v)));
	}
	return EXIT_SUCCESS;
}

static int token_revoke(struct hf_portal *p, const char *id)
{
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;
	const char *action = "token.revoke";
	int r;

	if (open_store(p, &s) != 0)
		return EXIT_FAILURE;
	r = hf_store_begin(s);
	if (r == 0)
		r = hf_store_token_revoke(s, id, hf_now_realtime_ns());
	/* Ids are of one kind for both; a running portal reads the row at each request. */
	if (r == -ENOENT) {
		action = "api_token.revoke";
		r = hf_store_api_token_revoke(s, id, hf_now_realtime_ns());
	}
	if (r == 0)
		r = write_audit(s, action, id);
	if (r == 0)
		r = hf_store_commit(s);
	if (r == -ENOENT)
		return fail("token revoke", "there is no token with this id");
	return r < 0 ? fail("token revoke", hf_store_error(s)) : EXIT_SUCCESS;
}

/* token --role ROLE NAME: a person or program may use the API, as far as the role goes. */
static int api_token_create(struct hf_portal *p, const char *role, const char *name)
{
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;
	struct hf_api_token_row row = {.created_ns = hf_now_realtime_ns()};
	char text[HF_SECRET_TEXT_MAX];
	struct hf_secret secret;
	int r;

	if (hf_role_from_name(role) == HF_ROLE_NONE)
		return fail("token", "the role is viewer, operator or admin");
	/* The audit log names who did something by it. */
	if (!*name || !hf_name_valid(name, sizeof(row.name)))
		return fail("token", "the name is a short text without control characters");
	if (open_store(p, &s) != 0)
		return EXIT_FAILURE;
	hf_secret_make(HF_SECRET_API, NULL, row.created_ns, &secret, text);
	(void)hf_strlcpy(row.id, secret.id, sizeof(row.id));
	(void)hf_strlcpy(row.name, name, sizeof(row.name));
	(void)hf_strlcpy(row.role, role, sizeof(row.role));
	memcpy(row.secret_hash, secret.hash, sizeof(row.secret_hash));
	r = hf_store_begin(s);
	if (r == 0)
		r = hf_store_api_token_insert(s, &row);
	if (r == 0)
		r = write_audit(s, "api_token.create", row.id);
	if (r == 0)
		r = hf_store_commit(s);
	if (r == 0)
		(void)printf("%s\n", text);
	hf_wipe(text, sizeof(text));
	return r < 0 ? fail("token", hf_store_error(s)) : EXIT_SUCCESS;
}

static int check(struct hf_portal *p)
{
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;

	if (open_store(p, &s) != 0)
		return EXIT_FAILURE;
	if (hf_store_probe(s) < 0)
		return fail("database", hf_store_error(s));
	(void)printf("configuration '%s' and database '%s' are good\n", p->config_path,
		     p->config.database);
	return EXIT_SUCCESS;
}

/* A portal that runs notices the new file and tells its endpoints. */
static int rotate_action_key(struct hf_portal *p)
{
	_cleanup_(hf_action_key_freep) struct hf_action_key *k = NULL;
	_cleanup_(hf_store_closep) struct hf_store *s = NULL;
	struct hf_err err = {};
	struct stat st;
	char id[17];
	int r;

	if (open_store(p, &s) != 0)
		return EXIT_FAILURE;
	/* The portal must be able to read what root writes: as whoever owns the directory. */
	if (geteuid() == 0 && fstat(p->state_fd, &st) == 0 && st.st_uid != 0 &&
	    (setgroups(0, NULL) < 0 || setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0))
		return fail("rotate-action-key", "cannot become the owner of the state directory");
	r = hf_action_key_rotate(p->state_fd, hf_now_realtime_ns(), &err);
	if (r == 0)
		r = hf_action_key_open(p->state_fd, hf_now_realtime_ns(), &k, &err);
	if (r < 0)
		return fail("rotate-action-key", err.msg);
	hf_action_key_id(k, id);
	r = hf_store_begin(s);
	if (r == 0)
		r = write_audit(s, "action_key.rotate", id);
	if (r == 0)
		r = hf_store_commit(s);
	if (r < 0)
		return fail("rotate-action-key: audit log", hf_store_error(s));
	(void)printf("%s\n", id);
	return EXIT_SUCCESS;
}

int hf_portal_cli(struct hf_portal *p, int argc, char **argv)
{
	if (argc == 1 && hf_streq(argv[0], "check"))
		return check(p);
	if (argc == 1 && hf_streq(argv[0], "rotate-action-key"))
		return rotate_action_key(p);
	if (argc < 2 || !hf_streq(argv[0], "token"))
		return 2;
	if (hf_streq(argv[1], "--role") && argc == 4)
		return api_token_create(p, argv[2], argv[3]);
	if (hf_streq(argv[1], "create"))
		return token_create(p, argc - 1, argv + 1);
	if (hf_streq(argv[1], "list") && argc == 2)
		return token_list(p);
	if (hf_streq(argv[1], "revoke") && argc == 3)
		return token_revoke(p, argv[2]);
	return 2;
}
