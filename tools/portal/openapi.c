/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /api/v1/openapi.json: made from the router's table, so that it cannot tell of what is not
 * there; the schemas of bodies are below.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "tools/portal/api.h"
#include "tools/portal/conn.h"
#include "tools/portal/portal.h"
#include "tools/portal/reply.h"

/* One schema: name and its properties as "key:type", '?' behind what may be null. */
static const struct {
	const char *name;
	const char *properties;
} schemas[] = {
	{"Health", "status:string"},
	{"Problem", "type:string title:string status:integer detail:string code:string"},
	{"Login", "token:string"},
	{"Session", "name:string role:string csrf:string"},
	{"About", "version:string environment:string public_url:string started:time schema:integer"
		  " heartbeat_s:integer agent_max_offline_time_s:integer"
		  " tunnel_status_check_interval_s:integer"},
	{"Fleet", "endpoints:integer by_status:object"},
	{"Outage", "id:string endpoint:string endpoint_name:string? began:time detected_at:time"
		   " restored:time? cause:string detected_by:string detail:string? detect_ms:number"
		   " outage_ms:number evidence:object attempts:array telemetry_gap:string?"},
	{"Endpoint",
	 "id:string name:string status:string reason:string reason_text:string"
	 " authorized:boolean authorization:string last_seen:time? since:time version:string?"
	 " os:string? arch:string? distro:string? kernel:string? kernel_assist:string?"
	 " environment:string? group:string? hostname:string? addresses:array"
	 " clock_offset_ms:integer cert_expires:time? last_outage:object? components:array"
	 " instance_uid:string epoch:integer remote:string? tls_version:string? rtt_us:integer"
	 " created:time authorization_changed:time authorization_by:string? clone:object?"
	 " health:object? connection:object?"},
	{"Connection", "heartbeat_s:integer destination:string"},
	{"Config", "name:string? content_type:string? changed:time masked:integer body:string"},
	{"ConfigList", "items:[Config] next:string?"},
	{"EndpointChange", "name:string group:string"},
	{"Disconnect", "mode:string"},
	{"Disconnected", "disconnected:boolean mode:string epoch:integer"},
	{"TokenRequest",
	 "name:string ttl_s:integer max_uses:integer group:string pre_authorize:boolean"},
	{"Token", "id:string token:string name:string? state:string created:time expires_at:time"
		  " max_uses:integer used:integer group:string? pre_authorize:boolean"
		  " created_by:string? last_used:time? revoked_at:time?"},
	{"Event",
	 "time:time kind:string endpoint:string endpoint_name:string? ring:string? cpu:integer"
	 " seq:integer pid:integer? comm:string? uid:integer? cgroup:string? unit:string?"
	 " netns:integer? owner_src:string? local:string? peer:string? reason:string?"},
	{"Audit", "id:integer time:time actor:string? address:string? action:string object:string?"
		  " detail:string?"},
	{"ActionRequest", "kind:string params:object delivery_ttl_s:integer idle_limit_s:integer"
			  " hard_limit_s:integer"},
	{"Action",
	 "id:string endpoint:string endpoint_name:string? kind:string params:object state:string"
	 " reason:string? text:string? progress:integer created:time expires_at:time started:time?"
	 " finished:time? changed:time delivery_ttl_s:integer idle_limit_s:integer"
	 " hard_limit_s:integer actor:string? cancel_requested:boolean result:object?"
	 " history:array artifact:object?"},
	{"ActionKey", "id:string created:time keys:integer"},
	{"ActionList", "items:[Action] next:string?"},
	{"EndpointList", "items:[Endpoint] next:string?"},
	{"TokenList", "items:[Token] next:string?"},
	{"EventList", "items:[Event] next:string?"},
	{"OutageList", "items:[Outage] next:string?"},
	{"AuditList", "items:[Audit] next:string?"},
};

static json_t *reference(const char *schema)
{
	char path[64];

	(void)hf_strf(path, sizeof(path), "#/components/schemas/%s", schema);
	return json_pack("{s:s}", "$ref", path);
}

static json_t *property(char *type)
{
	size_t len = strlen(type);
	bool nullable = type[len - 1] == '?';

	if (nullable)
		type[len - 1] = '\0';
	if (type[0] == '[') {
		type[strlen(type) - 1] = '\0';
		return json_pack("{s:s, s:o}", "type", "array", "items", reference(type + 1));
	}
	if (hf_streq(type, "array"))
		return json_pack("{s:s, s:{}}", "type", "array", "items");
	if (hf_streq(type, "time"))
		return nullable ? json_pack("{s:[s,s], s:s}", "type", "string", "null", "format",
					    "date-time")
				: json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
	return nullable ? json_pack("{s:[s,s]}", "type", type, "null")
			: json_pack("{s:s}", "type", type);
}

/* A failed set leaves the document without a part: only under ENOMEM. */
static json_t *schema(const char *properties)
{
	_cleanup_free_ char *copy = strdup(properties);
	json_t *all = json_object();
	char *save = NULL;

	for (char *w = copy ? strtok_r(copy, " ", &save) : NULL; w;
	     w = strtok_r(NULL, " ", &save)) {
		char *colon = strchr(w, ':');

		*colon = '\0';
		(void)json_object_set_new(all, w, property(colon + 1));
	}
	return json_pack("{s:s, s:o}", "type", "object", "properties", all);
}

static json_t *content(const char *type, json_t *what)
{
	return json_pack("{s:{s:o}}", type, "schema", what);
}

static json_t *parameters(const struct hf_route *r)
{
	_cleanup_free_ char *copy = strdup(r->query ? r->query : "");
	json_t *list = json_array();
	char *save = NULL;

	if (strstr(r->path, "{id}"))
		(void)json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:{s:s}}", "name",
							    "id", "in", "path", "required", 1,
							    "schema", "type", "string"));
	for (char *w = copy ? strtok_r(copy, " ", &save) : NULL; w; w = strtok_r(NULL, " ", &save))
		(void)json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s}}", "name", w, "in",
							    "query", "schema", "type", "string"));
	return list;
}

static json_t *responses(const struct hf_route *r)
{
	json_t *all = json_object();
	json_t *error = json_pack("{s:s, s:o}", "description", "What went wrong", "content",
				  content("application/problem+json", reference("Problem")));

	if (!r->handler) {
		(void)json_object_set_new(all, "501", error);
		return all;
	}
	if (r->response)
		(void)json_object_set_new(
			all, hf_streq(r->method, "POST") && r->request ? "2XX" : "200",
			json_pack("{s:s, s:o}", "description", r->summary, "content",
				  content("application/json", reference(r->response))));
	else
		(void)json_object_set_new(all, "2XX",
					  json_pack("{s:s}", "description", r->summary));
	(void)json_object_set_new(all, "default", error);
	return all;
}

static json_t *operation(const struct hf_route *r)
{
	json_t *o = json_pack("{s:s, s:o, s:o}", "summary", r->summary, "parameters", parameters(r),
			      "responses", responses(r));

	if (r->request)
		(void)json_object_set_new(
			o, "requestBody",
			json_pack("{s:o}", "content",
				  content("application/json", reference(r->request))));
	if (r->role == HF_ROLE_NONE)
		(void)json_object_set_new(o, "security", json_array());
	else
		(void)json_object_set_new(o, "x-role", json_string(hf_role_name(r->role)));
	if (!r->handler)
		(void)json_object_set_new(o, "x-not-implemented", json_true());
	return o;
}

static json_t *paths(void)
{
	json_t *all = json_object();
	size_t n;
	const struct hf_route *routes = hf_router_table(&n);

	for (size_t i = 0; i < n; i++) {
		json_t *path = json_object_get(all, routes[i].path);
		char method[8];

		if (!path) {
			(void)json_object_set_new(all, routes[i].path, json_object());
			path = json_object_get(all, routes[i].path);
		}
		(void)hf_strlcpy(method, routes[i].method, sizeof(method));
		for (char *m = method; *m; m++)
			*m = (char)(*m | 0x20);
		(void)json_object_set_new(path, method, operation(&routes[i]));
	}
	return all;
}

void hf_api_openapi(struct hf_portal *p, struct hf_request *rq)
{
	json_t *all = json_object();

	for (size_t i = 0; i < HF_ARRAY_SIZE(schemas); i++)
		(void)json_object_set_new(all, schemas[i].name, schema(schemas[i].properties));
	hf_reply_json(rq->conn, 200,
		      json_pack("{s:s, s:{s:s, s:s}, s:[{s:s}], s:[{s:[]},{s:[]}], s:o,"
				" s:{s:o, s:{s:{s:s, s:s}, s:{s:s, s:s, s:s}}}}",
				"openapi", "3.1.0", "info", "title", "Holdfast portal", "version",
				HF_VERSION, "servers", "url", p->public_url, "security", "bearer",
				"session", "paths", paths(), "components", "schemas", all,
				"securitySchemes", "bearer", "type", "http", "scheme", "bearer",
				"session", "type", "apiKey", "in", "cookie", "name",
				HF_SESSION_COOKIE));
}
