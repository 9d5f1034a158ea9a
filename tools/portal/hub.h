/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event stream of the web page (GET /api/v1/stream, server-sent events): what changes is told
 * to every open page. A page that reads too slowly is cut off and starts anew. One loop thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/cleanup.h"

struct hf_conn;
struct hf_hub;
typedef struct sd_event sd_event;

int hf_hub_new(sd_event *event, struct hf_hub **ret);
struct hf_hub *hf_hub_free(struct hf_hub *h);
HF_DEFINE_CLEANUP(struct hf_hub *, hf_hub_free);

/* Answers the request on c with the stream. -EUSERS: as many as we serve are open already. */
int hf_hub_subscribe(struct hf_hub *h, struct hf_conn *c);
/* Nobody listens: the caller need not make the value. */
bool hf_hub_idle(const struct hf_hub *h);
size_t hf_hub_subscribers(const struct hf_hub *h);
/* Consumes value. */
void hf_hub_publish(struct hf_hub *h, const char *event, json_t *value);
