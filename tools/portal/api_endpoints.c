/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /endpoints: lists come from memory, changes go to the database first and take effect (and are
 * answered) after its commit, each with its line in the audit log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/fleet.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"
#include "tools/portal/token.h"
#include "tools/portal/writer.h"
#include "tools/portal/ws_opamp.h"

/* ---- lists ---------------------------------------------------------------------------------- */

struct filter {
	unsigned statuses; /* bit per enum hf_status; 0: all */
	int authorization; /* -1: all */
	int authorized;    /* -1: all */
	char q[96];
	char group[64];
	bool by_group;
};

/* Case-insensitive for ASCII, which is what people type; bytes else. */
static bool contains(const char *text, const char *needle)
{
	size_t len = strlen(needle);

	for (; *text; text++) {
		if (strncasecmp(text, needle, len) == 0)
			return true;
	}
	return len == 0;
}

static bool wanted(const struct filter *f, const struct hf_endpoint *ep)
{
	const struct hf_endpoint_row *r = &ep->row;
	char id[HF_UUID_TEXT_SIZE];

	if (f->statuses && !(f->statuses & (1u << ep->verdict.status)))
		return false;
	if (f->authorization >= 0 && (int)r->authorization != f->authorization)
		return false;
	if (f->authorized >= 0 && (r->authorization == HF_AUTH_AUTHORIZED) != (f->authorized == 1))
		return false;
	if (f->by_group && !hf_streq(r->group, f->group))
		return false;
	if (!f->q[0])
		return true;
	hf_uuid_format(r->id, id);
	return contains(r->name, f->q) || contains(r->hostname, f->q) || contains(id, f->q) ||
	       contains(r->version, f->q) || contains(r->distro, f->q) || contains(r->group, f->q);
}

/* One status or several with commas between them. */
static int read_statuses(struct hf_request *rq, unsigned *ret)
{
	char text[256], *save = NULL;
	int r = hf_api_query(rq, "status", text, sizeof(text));

	if (r <= 0)
		return r;
	for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		int status = hf_status_from_name(w);

		if (status < 0) {
			hf_reply_problem(rq->conn, 400, "invalid_query", "there is no such status");
			return -EINVAL;
		}
		*ret |= 1u << status;
	}
	return 0;
}

static int read_filter(struct hf_request *rq, struct filter *f)
{
	char text[64];
	int r;

	*f = (struct filter){.authorization = -1, .authorized = -1};
	r = read_statuses(rq, &f->statuses);
	if (r < 0)
		return r;
	r = hf_api_query(rq, "authorized", text, sizeof(text));
	if (r < 0)
		return r;
	if (r > 0 && (hf_streq(text, "true") || hf_streq(text, "false"))) {
		f->authorized = hf_streq(text, "true");
	} else if (r > 0) {
		f->authorization = hf_authorization_from_name(text);
		if (f->authorization < 0) {
			hf_reply_problem(rq->conn, 400, "invalid_query",
					 "authorized must be true, false, pending, authorized, "
					 "suspended or revoked");
			return -EINVAL;
		}
	}
	r = hf_api_query(rq, "group", f->group, sizeof(f->group));
	if (r < 0)
		return r;
	f->by_group = r > 0;
	r = hf_api_query(rq, "q", f->q, sizeof(f->q));
	return r < 0 ? r : 0;
}

/* A cursor is the id and the name of the last row shown: it stays true when that row goes. */
static int read_cursor(struct hf_portal *p, struct hf_request *rq, size_t *ret)
{
	char text[2 * HF_ID_SIZE + 2 * 96 + 1];
	uint8_t id[HF_ID_SIZE];
	char name[96] = "", hex[2 * HF_ID_SIZE + 1];
	size_t len;
	int r = hf_api_query(rq, "after", text, sizeof(text));

	*ret = 0;
	if (r <= 0)
		return r;
	len = strlen(text);
	if (len >= 2 * HF_ID_SIZE && len % 2 == 0 && len < 2 * (HF_ID_SIZE + sizeof(name))) {
		memcpy(hex, text, sizeof(hex) - 1);
		hex[sizeof(hex) - 1] = '\0';
		if (hf_hex_decode(id, HF_ID_SIZE, hex) == 0 &&
		    hf_hex_decode(name, (len - 2 * HF_ID_SIZE) / 2, text + 2 * HF_ID_SIZE) == 0) {
			*ret = hf_registry_after(p->registry, name, id);
			return 0;
		}
	}
	hf_reply_problem(rq->conn, 400, "invalid_query", "after is not a cursor of this list");
	return -EINVAL;
}

static void write_cursor(const struct hf_endpoint *ep, char *dst)
{
	hf_hex_encode(dst, ep->row.id, HF_ID_SIZE);
	hf_hex_encode(dst + 2 * HF_ID_SIZE, ep->row.name, strlen(ep->row.name));
}

void hf_api_endpoints_list(struct hf_portal *p, struct hf_request *rq)
{
	char next[2 * HF_ID_SIZE + 2 * 96 + 1] = "";
	const struct hf_endpoint *last = NULL;
	struct filter f;
	unsigned limit, n = 0;
	json_t *items;
	size_t i;

	if (read_filter(rq, &f) < 0 || hf_api_limit(rq, &limit) < 0 || read_cursor(p, rq, &i) < 0)
		return;
	items = json_array();
	for (; i < hf_registry_count(p->registry); i++) {
		const struct hf_endpoint *ep = hf_registry_at(p->registry, i);

		if (!wanted(&f, ep))
			continue;
		if (last && n == limit) {
			write_cursor(last, next);
			break;
		}
		(void)json_array_append_new(items, hf_endpoint_json(p, ep)); /* ENOMEM: shorter */
		last = ep;
		n++;
	}
	hf_api_list(rq, items, next);
}

void hf_api_fleet(struct hf_portal *p, struct hf_request *rq)
{
	size_t counts[_HF_STATUS_MAX];
	json_t *by_status = json_object();

	hf_fleet_count(p, counts);
	for (unsigned s = 0; s < _HF_STATUS_MAX; s++)
		(void)json_object_set_new(by_status, hf_status_name((enum hf_status)s),
					  json_integer((json_int_t)counts[s]));
	hf_reply_json(rq->conn, 200,
		      json_pack("{s:I, s:o}", "endpoints",
				(json_int_t)hf_registry_count(p->registry), "by_status",
				by_status));
}

static struct hf_endpoint *find(struct hf_portal *p, struct hf_request *rq)
{
	uint8_t id[HF_ID_SIZE];
	struct hf_endpoint *ep = NULL;

	if (hf_uuid_parse(rq->id, id) == 0)
		ep = hf_registry_find(p->registry, id);
	if (!ep)
		hf_reply_problem(rq->conn, 404, "not_found", "there is no endpoint with this id");
	return ep;
}

void hf_api_endpoint_get(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find(p, rq);

	if (ep)
		hf_reply_json(rq->conn, 200, hf_endpoint_json(p, ep));
}

/* ---- changes -------------------------------------------------------------------------------- */

enum change_kind { CHANGE_AUTHORIZATION, CHANGE_NAMES, CHANGE_DELETE };

struct change {
	struct hf_portal *portal;
	struct hf_conn *conn;
	enum change_kind kind;
	struct hf_endpoint_row row; /* as it will be */
	bool clear_clone;
	struct hf_audit_row audit;
};

static int run_change(struct hf_store *s, void *arg)
{
	struct change *c = arg;
	int r = c->kind == CHANGE_DELETE ? hf_store_endpoint_delete(s, c->row.id, c->audit.at_ns)
					 : hf_store_endpoint_update(s, &c->row);

	if (r == 0 && c->clear_clone)
		r = hf_store_clone_clear(s, c->row.id);

	return r < 0 ? r : hf_store_audit_insert(s, &c->audit);
}

static void apply_change(struct change *c, struct hf_endpoint *ep)
{
	struct hf_portal *p = c->portal;

	switch (c->kind) {
	case CHANGE_AUTHORIZATION:
		if (c->clear_clone)
			hf_fleet_clear_clone(p, ep);
		hf_fleet_apply_authorization(p, ep, c->row.authorization, c->row.authorization_by,
					     c->row.authorization_changed_ns);
		break;
	case CHANGE_NAMES:
		(void)hf_strlcpy(ep->row.group, c->row.group, sizeof(ep->row.group));
		(void)hf_registry_rename(p->registry, ep, c->row.name);
		hf_fleet_publish(p, ep);
		break;
	case CHANGE_DELETE:
		hf_fleet_remove(p, ep);
		break;
	}
}

static void done_change(int r, void *arg)
{
	struct change *c = arg;
	struct hf_endpoint *ep = hf_registry_find(c->portal->registry, c->row.id);

	if (r == 0 && !ep)
		r = -ENOENT; /* deleted by another request just before */
	if (r < 0) {
		hf_reply_error(c->conn, r, "change the endpoint");
	} else {
		hf_notice("%s: %s '%s' %s", c->audit.actor, c->audit.action, c->row.name,
			  c->audit.detail);
		apply_change(c, ep);
		if (c->kind == CHANGE_DELETE)
			hf_reply_empty(c->conn, 204);
		else
			hf_reply_json(c->conn, 200, hf_endpoint_json(c->portal, ep));
	}
	(void)hf_conn_unref(c->conn);
	free(c);
}

static struct change *change_new(struct hf_portal *p, struct hf_request *rq, enum change_kind kind,
				 const char *action)
{
	struct hf_endpoint *ep = find(p, rq);
	struct change *c;

	if (!ep)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c) {
		hf_reply_error(rq->conn, -ENOMEM, "change the endpoint");
		return NULL;
	}
	c->portal = p;
	c->kind = kind;
	c->row = ep->row;
	hf_api_audit_row(rq, action, rq->id, &c->audit);
	return c;
}

/* Consumes c. */
static void change_submit(struct change *c, struct hf_request *rq)
{
	int r;

	c->conn = hf_conn_ref(rq->conn);
	r = hf_writer_submit(c->portal->writer, run_change, done_change, c, sizeof(*c));
	if (r < 0) {
		hf_reply_error(rq->conn, r, "change the endpoint");
		(void)hf_conn_unref(c->conn);
		free(c);
	}
}

/* An operator who authorizes has judged who the endpoint is: whoever connects next. */
static void lift_quarantine(struct hf_portal *p, struct change *c)
{
	const struct hf_endpoint *ep = hf_registry_find(p->registry, c->row.id);
	size_t len = strlen(c->audit.detail);

	if (!ep || !ep->clone)
		return;
	c->clear_clone = true;
	(void)hf_strf(c->audit.detail + len, sizeof(c->audit.detail) - len,
		      ", quarantine of '%s' at %s lifted", ep->clone->hostname, ep->clone->address);
}

static void set_authorization(struct hf_portal *p, struct hf_request *rq, enum hf_authorization to,
			      const char *action)
{
	struct change *c = change_new(p, rq, CHANGE_AUTHORIZATION, action);

	if (!c)
		return;
	if (c->row.authorization == HF_AUTH_REVOKED && to != HF_AUTH_REVOKED) {
		hf_reply_problem(rq->conn, 409, "revoked",
				 "a revoked endpoint stays revoked; enrol the host again");
		free(c);
		return;
	}
	(void)hf_strf(c->audit.detail, sizeof(c->audit.detail), "%s → %s",
		      hf_authorization_name(c->row.authorization), hf_authorization_name(to));
	if (to == HF_AUTH_AUTHORIZED)
		lift_quarantine(p, c);
	c->row.authorization = to;
	c->row.authorization_changed_ns = c->audit.at_ns;
	(void)hf_strlcpy(c->row.authorization_by, rq->who.name, sizeof(c->row.authorization_by));
	change_submit(c, rq);
}

void hf_api_endpoint_authorize(struct hf_portal *p, struct hf_request *rq)
{
	set_authorization(p, rq, HF_AUTH_AUTHORIZED, "endpoint.authorize");
}

void hf_api_endpoint_suspend(struct hf_portal *p, struct hf_request *rq)
{
	set_authorization(p, rq, HF_AUTH_SUSPENDED, "endpoint.suspend");
}

void hf_api_endpoint_revoke(struct hf_portal *p, struct hf_request *rq)
{
	set_authorization(p, rq, HF_AUTH_REVOKED, "endpoint.revoke");
}

static bool take_text(json_t *body, const char *key, char *dst, size_t size, bool may_be_empty)
{
	json_t *v = json_object_get(body, key);

	if (!v)
		return true;
	if (!json_is_string(v) || !hf_name_valid(json_string_value(v), size) ||
	    strlen(json_string_value(v)) != json_string_length(v) ||
	    (!may_be_empty && !json_string_length(v)))
		return false;
	(void)hf_strlcpy(dst, json_string_value(v), size);
	return true;
}

void hf_api_endpoint_patch(struct hf_portal *p, struct hf_request *rq)
{
	json_t *body = hf_api_body(rq);
	struct change *c;

	if (!body)
		return;
	c = change_new(p, rq, CHANGE_NAMES, "endpoint.change");
	if (!c) {
		json_decref(body);
		return;
	}
	if (!take_text(body, "name", c->row.name, sizeof(c->row.name), false) ||
	    !take_text(body, "group", c->row.group, sizeof(c->row.group), true)) {
		hf_reply_problem(rq->conn, 400, "invalid",
				 "name and group are texts of at most 95 and 63 bytes");
		free(c);
	} else {
		(void)hf_strf(c->audit.detail, sizeof(c->audit.detail), "name '%s', group '%s'",
			      c->row.name, c->row.group);
		change_submit(c, rq);
	}
	json_decref(body);
}

void hf_api_endpoint_delete(struct hf_portal *p, struct hf_request *rq)
{
	struct change *c = change_new(p, rq, CHANGE_DELETE, "endpoint.delete");

	if (!c)
		return;
	(void)hf_strlcpy(c->audit.detail, c->row.name, sizeof(c->audit.detail));
	c->clear_clone = true;
	change_submit(c, rq);
}

/* ---- cutting the connection ----------------------------------------------------------------- */

struct cut {
	struct hf_portal *portal;
	struct hf_conn *conn;
	uint8_t id[HF_ID_SIZE];
	bool reset;
	struct hf_audit_row audit;
};

static int run_cut(struct hf_store *s, void *arg)
{
	const struct cut *c = arg;

	return hf_store_audit_insert(s, &c->audit);
}

static void done_cut(int r, void *arg)
{
	struct cut *c = arg;
	struct hf_endpoint *ep = hf_registry_find(c->portal->registry, c->id);

	if (r < 0) {
		hf_reply_error(c->conn, r, "cut the connection");
	} else if (!ep || !ep->link) {
		hf_reply_problem(c->conn, 409, "not_connected", "the endpoint is not connected");
	} else {
		uint64_t epoch = ep->epoch;

		hf_notice("%s: %s '%s' by %s", c->audit.actor, c->audit.action, ep->row.name,
			  c->audit.detail);
		hf_link_cut(ep->link, c->reset);
		hf_reply_json(c->conn, 200,
			      json_pack("{s:b, s:s, s:I}", "disconnected", true, "mode",
					c->reset ? "reset" : "close", "epoch", (json_int_t)epoch));
	}
	(void)hf_conn_unref(c->conn);
	free(c);
}

void hf_api_endpoint_disconnect(struct hf_portal *p, struct hf_request *rq)
{
	struct hf_endpoint *ep = find(p, rq);
	json_t *body = ep ? hf_api_body(rq) : NULL;
	const char *mode;
	struct cut *c;
	int r;

	if (!body)
		return;
	mode = json_string_value(json_object_get(body, "mode"));
	if (!mode || (!hf_streq(mode, "reset") && !hf_streq(mode, "close"))) {
		hf_reply_problem(rq->conn, 400, "invalid", "mode must be \"reset\" or \"close\"");
		json_decref(body);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		hf_reply_error(rq->conn, -ENOMEM, "cut the connection");
		json_decref(body);
		return;
	}
	c->portal = p;
	c->reset = hf_streq(mode, "reset");
	memcpy(c->id, ep->row.id, HF_ID_SIZE);
	hf_api_audit_row(rq, "endpoint.disconnect", rq->id, &c->audit);
	(void)hf_strlcpy(c->audit.detail, mode, sizeof(c->audit.detail));
	json_decref(body);
	c->conn = hf_conn_ref(rq->conn);
	r = hf_writer_submit(p->writer, run_cut, done_cut, c, sizeof(*c));
	if (r < 0) {
		hf_reply_error(rq->conn, r, "cut the connection");
		(void)hf_conn_unref(c->conn);
		free(c);
	}
}
