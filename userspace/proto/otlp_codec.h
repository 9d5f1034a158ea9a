/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.Event ⇄ OTLP log records ⇄ raw deflate. Silent, any thread, no state.
 *
 * A record: event_name = kind, time = the kernel's, severity by kind, body = the sentence for
 * people, attributes with OpenTelemetry's semantic names where they exist (process.pid,
 * network.peer.address …) and "holdfast." names else. Every field of bus.Event survives the way
 * there and back. The names are one table in the .c file; they are a contract, never renamed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "bus.pb-c.h"
#include "otlp.pb-c.h"

/* Who the events are of; strings borrowed, NULL leaves the attribute out. */
struct hf_otlp_resource {
	const char *instance_uid; /* service.instance.id */
	const char *hostname;     /* host.name */
	const char *machine_id;   /* host.id: the hash, never the id itself */
	const char *boot_id;      /* holdfast.boot.id, UUID text */
	const char *version;      /* service.version */
};

/*
 * The protobuf, not compressed, appended to ret: as many of the n events as fit into max bytes.
 * Bytes of their strings that are not UTF-8 become '?'. Returns the number encoded; -EMSGSIZE when
 * not even the first fits; -ENOMEM. ret is unchanged on failure.
 */
int hf_otlp_encode(const Bus__Event *const *events, size_t n, const struct hf_otlp_resource *res,
		   size_t max, struct hf_buf *ret);
/* Raw deflate (RFC 1951) of data, appended to ret. */
int hf_otlp_deflate(const void *data, size_t len, struct hf_buf *ret);

/*
 * Inflates at most max_inflated bytes, appended to ret. -EMSGSIZE above it, -EBADMSG if it is not
 * one whole deflate stream and nothing more.
 */
int hf_otlp_inflate(const void *data, size_t len, size_t max_inflated, struct hf_buf *ret);

/*
 * The way back: records of all resources and scopes in order. Unknown attributes are skipped,
 * known ones of a wrong type too; a record of another producer becomes an event with what fits.
 * *ret is owned by the caller (bus__events__free_unpacked(e, NULL), _cleanup_pb_). Errors of
 * hf_otlp_inflate() and hf_pb_unpack(). ret_boot_id (may be NULL) gets the first resource's
 * holdfast.boot.id, "" if there is none.
 */
int hf_otlp_decode(const void *otlp, size_t len, Bus__Events **ret);
int hf_otlp_decode_deflated(const void *data, size_t len, size_t max_inflated, Bus__Events **ret,
			    char *ret_boot_id, size_t boot_id_size);

/* OpenTelemetry severity number of a kind: 9 info, 13 warn, 17 error. */
unsigned hf_otlp_severity(const char *kind);
