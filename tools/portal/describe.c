/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent says of itself, taken into the endpoint's row: cut to its field, valid UTF-8, without
 * control characters (I3 of ws_opamp.c), so that database, JSON and log can have it as it is. The
 * attributes are OpenTelemetry's where it has a name for the thing.
 */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tools/portal/link.h"
#include "userspace/proto/frame.h"

#define ADDRESS_MAX 45u /* an IPv6 address with an IPv4 tail */

bool hf_link_take(char *dst, size_t size, const char *value)
{
	char clean[128];

	if (!value || !*value)
		return false;
	(void)hf_strlcpy(clean, value, size < sizeof(clean) ? size : sizeof(clean));
	/* A cut may have split a character. */
	while (*clean && !hf_utf8_valid(clean, strlen(clean)))
		clean[strlen(clean) - 1] = '\0';
	for (char *p = clean; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	}
	if (hf_streq(dst, clean))
		return false;
	(void)hf_strlcpy(dst, clean, size);
	return true;
}

static const char *attribute(const Opamp__AgentDescription *d, const char *key)
{
	const char *v = hf_opamp_kv_get(d->non_identifying_attributes,
					d->n_non_identifying_attributes, key);

	return v ? v : hf_opamp_kv_get(d->identifying_attributes, d->n_identifying_attributes, key);
}

static bool add_address(struct hf_endpoint_row *row, unsigned *n, const char *text, size_t len)
{
	char address[ADDRESS_MAX + 1];
	bool changed;

	if (*n >= HF_ENDPOINT_ADDRESSES || len == 0 || len > ADDRESS_MAX)
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	hf_sanitize(address);
	if (strchr(address, ','))
		return false;
	changed = !hf_streq(row->addresses[*n], address);
	(void)hf_strlcpy(row->addresses[(*n)++], address, sizeof(row->addresses[0]));
	return changed;
}

static bool describe_addresses(struct hf_endpoint_row *row, const Opamp__AgentDescription *d)
{
	bool changed = false, found = false;
	unsigned n = 0;

	for (size_t i = 0; i < d->n_non_identifying_attributes; i++) {
		const Opamp__KeyValue *kv = d->non_identifying_attributes[i];
		const Opamp__AnyValue *v = kv->value;

		if (!hf_streq(kv->key, "host.ip") || !v)
			continue;
		found = true;
		if (v->value_case == OPAMP__ANY_VALUE__VALUE_ARRAY_VALUE) {
			for (size_t j = 0; j < v->array_value->n_values; j++) {
				const Opamp__AnyValue *e = v->array_value->values[j];

				if (e->value_case == OPAMP__ANY_VALUE__VALUE_STRING_VALUE)
					changed |= add_address(row, &n, e->string_value,
							       strlen(e->string_value));
			}
		} else if (v->value_case == OPAMP__ANY_VALUE__VALUE_STRING_VALUE) {
			for (const char *p = v->string_value; *p;) {
				size_t len = strcspn(p, ", ");

				changed |= add_address(row, &n, p, len);
				p += len + (p[len] != '\0');
			}
		}
	}
	if (found && n < HF_ENDPOINT_ADDRESSES && row->addresses[n][0]) {
		row->addresses[n][0] = '\0';
		changed = true;
	}
	return changed;
}

static bool describe_distro(struct hf_endpoint_row *row, const Opamp__AgentDescription *d)
{
	const char *text = attribute(d, "os.description");
	const char *name = attribute(d, "os.name"), *version = attribute(d, "os.version");
	char both[64];

	if (!text && name) {
		(void)hf_strf(both, sizeof(both), "%s%s%s", name, version ? " " : "",
			      version ? version : "");
		text = both;
	}
	return hf_link_take(row->distro, sizeof(row->distro), text);
}

bool hf_link_describe(struct hf_endpoint_row *row, const Opamp__AgentToServer *m,
		      const Session__Hello *hello)
{
	const Opamp__AgentDescription *d = m ? m->agent_description : NULL;
	bool changed = false;

	if (d) {
		const char *kernel = attribute(d, "os.kernel.release");

		changed |= hf_link_take(row->version, sizeof(row->version),
					attribute(d, "service.version"));
		changed |= hf_link_take(row->os, sizeof(row->os), attribute(d, "os.type"));
		changed |= hf_link_take(row->arch, sizeof(row->arch), attribute(d, "host.arch"));
		changed |= describe_distro(row, d);
		changed |= hf_link_take(row->kernel, sizeof(row->kernel),
					kernel ? kernel : attribute(d, "holdfast.kernel"));
		changed |= hf_link_take(row->hostname, sizeof(row->hostname),
					attribute(d, "host.name"));
		changed |= hf_link_take(row->environment, sizeof(row->environment),
					attribute(d, "deployment.environment.name"));
		changed |= hf_link_take(row->kernel_assist, sizeof(row->kernel_assist),
					attribute(d, "holdfast.kernel_assist"));
		changed |= describe_addresses(row, d);
	}
	if (hello) {
		changed |= hf_link_take(row->version, sizeof(row->version), hello->version);
		changed |= hf_link_take(row->hostname, sizeof(row->hostname), hello->hostname);
		changed |= hf_link_take(row->environment, sizeof(row->environment),
					hello->environment);
		changed |= hf_link_take(row->kernel_assist, sizeof(row->kernel_assist),
					hello->kernel_assist);
	}
	return changed;
}

bool hf_link_take_presence(struct hf_endpoint *ep, const Session__Presence *presence)
{
	bool changed;

	if (!presence)
		return false;
	changed = hf_link_take(ep->row.kernel_assist, sizeof(ep->row.kernel_assist),
			       presence->kernel_assist);
	ep->lost_events = presence->lost_events;
	if (presence->n_components > 0 && !ep->components)
		ep->components = calloc(HF_COMPONENTS_MAX, sizeof(*ep->components));
	if (!ep->components)
		return changed;
	for (size_t i = 0; i < presence->n_components && i < HF_COMPONENTS_MAX; i++) {
		const Session__ComponentState *from = presence->components[i];
		struct hf_component_info *to = &ep->components[i];

		changed |= hf_link_take(to->name, sizeof(to->name), from->name);
		changed |= hf_link_take(to->version, sizeof(to->version), from->version);
		changed |= hf_link_take(to->state, sizeof(to->state), from->state);
		changed |= to->restarts != from->restarts;
		to->restarts = from->restarts;
		if (ep->n_components < i + 1)
			ep->n_components = (unsigned)(i + 1);
	}
	return changed;
}
