/* SPDX-License-Identifier: Apache-2.0 */
/* Which hosts a no_proxy list takes out. There is no standard; this is what curl and Go agree on. */
#include "userspace/net/dial.h"

#include <arpa/inet.h>
#include <strings.h>

#include "base/str.h"
#include "userspace/net/resolve.h"

/* "network/bits". */
static bool in_network(const char *entry, const struct hf_address *addr)
{
	const char *slash = strchr(entry, '/');
	const uint8_t *a, *n;
	struct hf_address net;
	char text[64];
	uint32_t bits;

	if ((size_t)(slash - entry) >= sizeof(text) || hf_parse_u32(slash + 1, &bits) < 0)
		return false;
	memcpy(text, entry, (size_t)(slash - entry));
	text[slash - entry] = '\0';
	if (hf_address_parse(text, &net) < 0 || net.sa.sa_family != addr->sa.sa_family ||
	    bits > (net.sa.sa_family == AF_INET ? 32u : 128u))
		return false;
	if (net.sa.sa_family == AF_INET) {
		a = (const uint8_t *)&addr->in.sin_addr;
		n = (const uint8_t *)&net.in.sin_addr;
	} else {
		a = addr->in6.sin6_addr.s6_addr;
		n = net.in6.sin6_addr.s6_addr;
	}
	if (memcmp(a, n, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || (a[bits / 8] ^ n[bits / 8]) >> (8 - bits % 8) == 0;
}

static bool entry_matches(const char *entry, const char *host, const struct hf_address *addr)
{
	size_t host_len = strlen(host), len;
	struct hf_address other;

	if (hf_streq(entry, "*"))
		return true;
	if (addr) {
		if (strchr(entry, '/'))
			return in_network(entry, addr);
		return hf_address_parse(entry, &other) == 0 && hf_address_equal(&other, addr);
	}
	if (*entry == '.')
		entry++;
	len = strlen(entry);
	if (len > 0 && entry[len - 1] == '.')
		len--;
	if (host_len > 0 && host[host_len - 1] == '.')
		host_len--;
	if (len == 0 || len > host_len || strncasecmp(host + host_len - len, entry, len) != 0)
		return false;
	return len == host_len || host[host_len - len - 1] == '.';
}

bool hf_no_proxy_matches(const char *no_proxy, const char *host)
{
	struct hf_address addr;
	bool literal = hf_address_parse(host, &addr) == 0;

	while (no_proxy && *no_proxy) {
		char entry[256], *text = entry;
		size_t len;

		no_proxy += strspn(no_proxy, ", \t");
		len = strcspn(no_proxy, ", \t");
		if (len > 0 && len < sizeof(entry)) {
			memcpy(entry, no_proxy, len);
			entry[len] = '\0';
			if (entry[0] == '[' && entry[len - 1] == ']') {
				entry[len - 1] = '\0';
				text++;
			}
			if (entry_matches(text, host, literal ? &addr : NULL))
				return true;
		}
		no_proxy += len;
	}
	return false;
}
