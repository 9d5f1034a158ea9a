/* SPDX-License-Identifier: Apache-2.0 */
/* What the resources share: bodies, query parameters, lists. */
#include "tools/portal/api.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "tools/portal/conn.h"
#include "tools/portal/reply.h"

json_t *hf_api_body(struct hf_request *rq)
{
	json_error_t error;
	json_t *o;

	if (rq->msg->body_len == 0)
		return json_object();
	o = json_loadb((const char *)rq->msg->body, rq->msg->body_len, JSON_REJECT_DUPLICATES,
		       &error);
	if (!json_is_object(o)) {
		json_decref(o);
		hf_reply_problem(rq->conn, 400, "invalid_json",
				 "the body must be a JSON object%s%s", error.text[0] ? ": " : "",
				 error.text);
		return NULL;
	}
	return o;
}

int hf_api_query(struct hf_request *rq, const char *key, char *dst, size_t size)
{
	int r = hf_http_query(rq->query, key, dst, size);

	if (r == -ENOENT)
		return 0;
	if (r < 0 || !hf_utf8_valid(dst, strlen(dst))) {
		hf_reply_problem(rq->conn, 400, "invalid_query",
				 "the query parameter '%s' is malformed or too long", key);
		return -EINVAL;
	}
	return dst[0] ? 1 : 0;
}

int hf_api_limit(struct hf_request *rq, unsigned *ret)
{
	char text[16];
	uint32_t n;
	int r = hf_api_query(rq, "limit", text, sizeof(text));

	*ret = HF_LIST_LIMIT_DEFAULT;
	if (r <= 0)
		return r;
	if (hf_parse_u32(text, &n) < 0 || n == 0) {
		hf_reply_problem(rq->conn, 400, "invalid_query",
				 "limit must be a number from 1 to %u", HF_LIST_LIMIT_MAX);
		return -EINVAL;
	}
	*ret = n > HF_LIST_LIMIT_MAX ? HF_LIST_LIMIT_MAX : n;
	return 0;
}

int hf_api_since(struct hf_request *rq, const char *key, uint64_t *ret_ns)
{
	char text[64];
	uint64_t ms;
	int r = hf_api_query(rq, key, text, sizeof(text));

	*ret_ns = 0;
	if (r <= 0)
		return r;
	if (hf_parse_rfc3339(text, ret_ns) == 0)
		return 1;
	if (hf_parse_duration_ms(text, &ms) == 0 && ms < hf_now_realtime_ns() / HF_NS_PER_MS) {
		*ret_ns = hf_now_realtime_ns() - ms * HF_NS_PER_MS;
		return 1;
	}
	hf_reply_problem(rq->conn, 400, "invalid_query",
			 "%s must be a time (RFC 3339) or a duration before now (15m, 2h)", key);
	return -EINVAL;
}

int hf_api_query_id(struct hf_request *rq, const char *key, uint8_t ret[static HF_ID_SIZE])
{
	char text[64];
	int r = hf_api_query(rq, key, text, sizeof(text));

	if (r <= 0)
		return r;
	if (hf_uuid_parse(text, ret) == 0)
		return 1;
	hf_reply_problem(rq->conn, 400, "invalid_query", "%s must be an id", key);
	return -EINVAL;
}

void hf_api_list(struct hf_request *rq, json_t *items, const char *next)
{
	json_t *cursor = next && *next ? json_string(next) : json_null();

	hf_reply_json(rq->conn, 200, json_pack("{s:o, s:o}", "items", items, "next", cursor));
}

void hf_api_audit_row(const struct hf_request *rq, const char *action, const char *object,
		      struct hf_audit_row *ret)
{
	*ret = (struct hf_audit_row){.at_ns = hf_now_realtime_ns()};
	(void)hf_strlcpy(ret->actor, rq->who.name, sizeof(ret->actor));
	(void)hf_strlcpy(ret->address, hf_conn_address(rq->conn), sizeof(ret->address));
	(void)hf_strlcpy(ret->action, action, sizeof(ret->action));
	(void)hf_strlcpy(ret->object, object, sizeof(ret->object));
}
