/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast config */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "holdfast/config.h"
#include "tools/ctl/bus.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"

#define USAGE "config {check [FILE]|show|reload} [--json]"

struct check {
	struct hf_ctl *ctl;
	json_t *warnings;
};

static void on_warning(void *userdata, const char *line)
{
	struct check *k = userdata;

	if (k->ctl->json)
		hf_json_append(&k->warnings, hf_json_string(line));
	else
		(void)hf_ctl_fail(0, "%s", line);
}

/* The file an administrator is about to install: no daemon is asked. */
static int check(struct hf_ctl *c, const char *file)
{
	struct check k = {.ctl = c, .warnings = c->json ? json_array() : NULL};
	struct hf_config cfg = {};
	struct hf_err err = {};
	int dirfd = file ? c->cwd : AT_FDCWD, r;
	json_t *o;

	if (!file)
		file = c->paths.config;
	r = hf_config_load(&hf_config_table, dirfd, file, &cfg, on_warning, &k, &err);
	if (r == HF_CONFIG_MISSING)
		r = hf_err_set(&err, -ENOENT, "%s: there is no such file", file);
	/* Not an error: enrolment can bring the URL. */
	if (r >= 0 && hf_config_require_portal(&cfg, &err) < 0)
		on_warning(&k, err.msg);
	hf_config_done(&hf_config_table, &cfg);
	if (!c->json) {
		if (r < 0)
			return hf_ctl_fail(HF_CTL_BAD_NEWS, "%s; mend it and check again", err.msg);
		(void)fprintf(c->out.f, "%s: ok\n", file);
		return HF_CTL_OK;
	}
	o = json_object();
	hf_json_put(&o, "file", hf_json_string(file));
	hf_json_put(&o, "ok", json_boolean(r >= 0));
	hf_json_put(&o, "error", hf_json_string(r < 0 ? err.msg : NULL));
	hf_json_put(&o, "warnings", k.warnings);
	if (hf_ctl_print_json(o) != HF_CTL_OK)
		return HF_CTL_BAD_NEWS;
	return r < 0 ? HF_CTL_BAD_NEWS : HF_CTL_OK;
}

static json_t *value_json(const struct hf_config_entry *e, const void *cfg)
{
	const void *at = (const uint8_t *)cfg + e->offset;
	const struct hf_config_list *list = at;
	json_t *a;

	switch (e->type) {
	case HF_CONFIG_STRING:
		return hf_json_string(*(char *const *)at);
	case HF_CONFIG_BOOL:
		return json_boolean(*(const bool *)at);
	case HF_CONFIG_UINT:
	case HF_CONFIG_DURATION:
	case HF_CONFIG_SIZE:
		return hf_json_u64(*(const uint64_t *)at);
	case HF_CONFIG_ENUM:
		return hf_json_string(e->names[*(const unsigned *)at]);
	case HF_CONFIG_LIST:
		a = json_array();
		for (size_t i = 0; i < list->n; i++)
			hf_json_append(&a, hf_json_string(list->items[i]));
		return a;
	case _HF_CONFIG_TYPE_MAX:
		break;
	}
	return json_null();
}

/* Keys with dots become nested objects, as in the file. */
static int put_nested(json_t *root, const char *key, json_t *value)
{
	const char *dot;
	json_t *at = root;

	while ((dot = strchr(key, '.'))) {
		_cleanup_free_ char *part = strndup(key, (size_t)(dot - key));
		json_t *next = part ? json_object_get(at, part) : NULL;

		if (part && !next) {
			next = json_object();
			if (json_object_set_new(at, part, next) < 0)
				next = NULL;
		}
		if (!next) {
			json_decref(value);
			return -ENOMEM;
		}
		at = next;
		key = dot + 1;
	}
	return json_object_set_new(at, key, value) < 0 ? -ENOMEM : 0;
}

static int print_config_json(const char *yaml)
{
	struct hf_config cfg = {};
	struct hf_err err = {};
	json_t *root;
	int r;

	r = hf_config_load_text(&hf_config_table, "the agent's configuration", yaml, strlen(yaml),
				&cfg, NULL, NULL, &err);
	if (r < 0)
		return hf_ctl_fail(HF_CTL_BAD_NEWS,
				   "%s; are holdfast and the agent of one version?", err.msg);
	root = json_object();
	for (size_t i = 0; root && i < hf_config_table.n; i++) {
		const struct hf_config_entry *e = &hf_config_table.entries[i];

		if (put_nested(root, e->key, e->secret ? json_null() : value_json(e, &cfg)) < 0) {
			json_decref(root);
			root = NULL;
		}
	}
	hf_config_done(&hf_config_table, &cfg);
	return hf_ctl_print_json(root);
}

static int ask_config(struct hf_ctl *c, enum hf_ctl_daemon d, Bus__ConfigRequest__Verb verb,
		      Bus__Response **ret)
{
	Bus__Request q = BUS__REQUEST__INIT;
	Bus__ConfigRequest what = BUS__CONFIG_REQUEST__INIT;

	what.verb = verb;
	q.what_case = BUS__REQUEST__WHAT_CONFIG;
	q.config = &what;
	return hf_ctl_ask_or_fail(c, d, &q, HF_CTL_DEADLINE_MS, ret);
}

static int show(struct hf_ctl *c)
{
	_cleanup_pb_ Bus__Response *m = NULL;
	char *rest, *line;
	int r;

	r = ask_config(c, HF_CTL_AGENT, BUS__CONFIG_REQUEST__VERB__SHOW, &m);
	if (r != HF_CTL_OK)
		return r;
	if (m->what_case != BUS__RESPONSE__WHAT_CONFIG)
		return hf_ctl_fail_misfit(c, HF_CTL_AGENT);
	if (c->json)
		return print_config_json(m->config->yaml);
	rest = m->config->yaml;
	while ((line = strsep(&rest, "\n"))) {
		_cleanup_free_ char *safe = hf_term_safe(line);

		if (rest || *safe)
			(void)fprintf(c->out.f, "%s\n", safe);
	}
	return HF_CTL_OK;
}

static int tell_changes(struct hf_ctl *c, const Bus__ConfigResult *what)
{
	json_t *o, *list;

	if (!c->json) {
		(void)fprintf(c->out.f, "configuration reloaded%s\n",
			      what && what->n_changes == 0 ? ": nothing changed" : "");
		for (size_t i = 0; what && i < what->n_changes; i++) {
			_cleanup_free_ char *safe = hf_term_safe(what->changes[i]);

			(void)fprintf(c->out.f, "  %s\n", safe);
		}
		return HF_CTL_OK;
	}
	o = json_object();
	list = json_array();
	for (size_t i = 0; what && i < what->n_changes; i++)
		hf_json_append(&list, hf_json_string(what->changes[i]));
	hf_json_put(&o, "reloaded", json_true());
	hf_json_put(&o, "changes", list);
	return hf_ctl_print_json(o);
}

/*
 * The watchdog judges the file, has the kernel record by it and tells the agent; so the agent's own
 * answer comes second. Without an agent the change is made all the same, and said.
 */
static int reload(struct hf_ctl *c)
{
	_cleanup_pb_ Bus__Response *w = NULL, *a = NULL;
	int r, told;

	r = ask_config(c, HF_CTL_WATCHDOG, BUS__CONFIG_REQUEST__VERB__RELOAD, &w);
	if (r != HF_CTL_OK)
		return r;
	told = tell_changes(c, w->what_case == BUS__RESPONSE__WHAT_CONFIG ? w->config : NULL);
	r = ask_config(c, HF_CTL_AGENT, BUS__CONFIG_REQUEST__VERB__RELOAD, &a);
	if (r == HF_CTL_UNREACHABLE)
		return hf_ctl_fail(
			HF_CTL_BAD_NEWS,
			"config: the agent did not hear of it; it reads the file when it "
			"starts");
	return r != HF_CTL_OK ? r : told;
}

int hf_ctl_config(struct hf_ctl *c, int argc, char **argv)
{
	const char *words[2] = {"show", NULL};
	size_t n = 0;
	int r;

	r = hf_ctl_parse(c, argc, argv, USAGE, NULL, 0, words, HF_ARRAY_SIZE(words), &n);
	if (r != 0)
		return r;
	if (hf_streq(words[0], "check"))
		return check(c, words[1]);
	if (n == 2)
		return hf_ctl_usage(USAGE, "config %s: '%s' is one word too many", words[0],
				    words[1]);
	if (hf_streq(words[0], "show"))
		return show(c);
	if (hf_streq(words[0], "reload"))
		return reload(c);
	return hf_ctl_usage(USAGE, "config: '%s' is not one of check, show, reload", words[0]);
}
