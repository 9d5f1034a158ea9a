/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which function answers which request: one table of method, path, role. The OpenAPI document is
 * made from it, and what is planned but absent stands in it too and answers 501.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "tools/portal/auth.h"
#include "userspace/net/http.h"

struct hf_conn;
struct hf_portal;

struct hf_request {
	struct hf_conn *conn;
	const struct hf_http_message *msg; /* until the handler returns */
	char path[HF_HTTP_TARGET_MAX];
	const char *query; /* "" if none */
	char id[64];       /* {id} of the path, decoded */
	struct hf_principal who;
};

typedef void (*hf_handler)(struct hf_portal *p, struct hf_request *rq);

struct hf_route {
	const char *method;
	const char *path; /* {id} stands for one segment */
	enum hf_role role;
	hf_handler handler; /* NULL: 501 */
	const char *summary;
	const char *request;  /* name of a schema in openapi.c, NULL: no body */
	const char *response; /* likewise */
	const char *query;    /* space-separated query parameters, NULL: none */
};

const struct hf_route *hf_router_table(size_t *ret_n);

/* Authenticates, matches and calls; answers errors itself. */
void hf_router_dispatch(struct hf_portal *p, struct hf_conn *conn,
			const struct hf_http_message *msg);

/* Whether path is of pattern; the {id} segment goes to id. Pure; for the unit test. */
bool hf_router_match(const char *pattern, const char *path, char *id, size_t id_size);
