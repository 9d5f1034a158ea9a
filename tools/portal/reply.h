/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the API: JSON and problem+json (RFC 9457). */
#pragma once

#include <jansson.h>

struct hf_conn;

/* Consumes value. NULL (out of memory while it was made) answers 500. */
void hf_reply_json(struct hf_conn *c, unsigned status, json_t *value);
/* The same with further header lines. */
void hf_reply_json_with(struct hf_conn *c, unsigned status, json_t *value, const char *headers);
void hf_reply_empty(struct hf_conn *c, unsigned status);

/* {type,title,status,detail,code}: code is for programs and never changes, detail is for people. */
void hf_reply_problem(struct hf_conn *c, unsigned status, const char *code, const char *detail, ...)
	__attribute__((format(printf, 4, 5)));
void hf_reply_problem_with(struct hf_conn *c, unsigned status, const char *code,
			   const char *headers, const char *detail, ...)
	__attribute__((format(printf, 5, 6)));
/* A negative errno of the store or a request as the fitting problem. */
void hf_reply_error(struct hf_conn *c, int r, const char *what);
