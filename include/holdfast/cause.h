/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a channel was lost or could not be made: the one list that agent, portal, CLI and doctor
 * share. Each line: name as it travels, who can mend it, and a half sentence for people. Add a
 * line when something real is missing; the order is not part of any contract, the name is.
 */
#pragma once

/* Where the cause lies; decides whether a loss may be redialled at once. */
enum hf_cause_side {
	HF_SIDE_LOCAL,  /* this host */
	HF_SIDE_PATH,   /* network or proxy between */
	HF_SIDE_PORTAL, /* the portal */
	HF_SIDE_POLICY, /* somebody decided so */
};

/* clang-format off */
#define HF_CAUSE_TABLE(X)                                                                             \
	X(PEER_RESET,           "peer_reset",           PATH,   "the connection was reset from the other side") \
	X(LOCAL_RESET,          "local_reset",          LOCAL,  "this host reset the connection")             \
	X(PEER_CLOSED,          "peer_closed",          PORTAL, "the other side closed the connection")       \
	X(LOCAL_FIREWALL,       "local_firewall",       LOCAL,  "a firewall on this host drops the traffic")  \
	X(REMOTE_FIREWALL,      "remote_firewall",      PATH,   "a firewall on the path rejects the traffic") \
	X(BLACKHOLE,            "blackhole",            PATH,   "packets vanish without an answer")           \
	X(PMTU_BLACKHOLE,       "pmtu_blackhole",       PATH,   "large packets vanish, small ones pass")      \
	X(LINK_DOWN,            "link_down",            LOCAL,  "the network interface is down")              \
	X(ADDRESS_LOST,         "address_lost",         LOCAL,  "the local address was removed")              \
	X(NO_ROUTE,             "no_route",             LOCAL,  "no route to the portal")                     \
	X(DNS_FAILED,           "dns_failed",           PATH,   "the portal's name could not be resolved")    \
	X(DNS_WRONG,            "dns_wrong",            PATH,   "the portal's name resolves to a wrong address") \
	X(PROXY_REFUSED,        "proxy_refused",        PATH,   "the proxy refused the connection")           \
	X(PROXY_TIMEOUT,        "proxy_timeout",        PATH,   "the proxy does not answer")                  \
	X(PROXY_AUTH,           "proxy_auth",           PATH,   "the proxy asks for credentials")             \
	X(PROXY_STRIPS_UPGRADE, "proxy_strips_upgrade", PATH,   "a proxy does not let WebSocket upgrades pass") \
	X(CAPTIVE_PORTAL,       "captive_portal",       PATH,   "a captive portal answers instead")           \
	X(TLS_INTERCEPTED,      "tls_intercepted",      PATH,   "something on the path inspects TLS")         \
	X(CERT_EXPIRED,         "cert_expired",         PORTAL, "a certificate has expired")                  \
	X(CERT_NOT_YET_VALID,   "cert_not_yet_valid",   PORTAL, "a certificate is not valid yet")             \
	X(CERT_REVOKED,         "cert_revoked",         PORTAL, "a certificate was revoked")                  \
	X(CERT_UNTRUSTED,       "cert_untrusted",       PORTAL, "a certificate is not from the configured CA") \
	X(WEAK_CRYPTO,          "weak_crypto",          PORTAL, "a key, signature or protocol is too weak")   \
	X(CLOCK_SKEW,           "clock_skew",           LOCAL,  "this host's clock is wrong")                 \
	X(PORTAL_RESTART,       "portal_restart",       PORTAL, "the portal restarts")                        \
	X(PORTAL_OVERLOAD,      "portal_overload",      PORTAL, "the portal asked to come back later")        \
	X(PORTAL_UNREACHABLE,   "portal_unreachable",   PORTAL, "nothing listens at the portal's address")    \
	X(PORTAL_TIMEOUT,       "portal_timeout",       PORTAL, "the portal accepted and then said nothing")  \
	X(PROTOCOL_ERROR,       "protocol_error",       PORTAL, "the other side broke the protocol")          \
	X(REGISTRY_LOST,        "registry_lost",        PORTAL, "the portal no longer knew this connection")  \
	X(CLONE_DETECTED,       "clone_detected",       POLICY, "another machine uses the same identity")     \
	X(NOT_AUTHORIZED,       "not_authorized",       POLICY, "the endpoint is not authorized")             \
	X(TOKEN_EXPIRED,        "token_expired",        POLICY, "the enrolment token has expired")            \
	X(TOKEN_EXHAUSTED,      "token_exhausted",      POLICY, "the enrolment token was used up")            \
	X(TOKEN_REVOKED,        "token_revoked",        POLICY, "the enrolment token was revoked")            \
	X(TOKEN_UNKNOWN,        "token_unknown",        POLICY, "the portal does not know this enrolment token") \
	X(REVOKED,              "revoked",              POLICY, "the endpoint was revoked in the portal")     \
	X(ENVIRONMENT_MISMATCH, "environment_mismatch", POLICY, "endpoint and portal are of different environments") \
	X(AGENT_CRASH,          "agent_crash",          LOCAL,  "the agent crashed")                          \
	X(AGENT_HANG,           "agent_hang",           LOCAL,  "the agent hung and was restarted")           \
	X(AGENT_KILLED,         "agent_killed",         LOCAL,  "somebody killed the agent")                  \
	X(AGENT_OOM,            "agent_oom",            LOCAL,  "the agent was killed for lack of memory")    \
	X(AGENT_STOPPED,        "agent_stopped",        LOCAL,  "the agent was stopped")                      \
	X(AGENT_UPDATE,         "agent_update",         LOCAL,  "the agent was updated")                      \
	X(AGENT_ROLLBACK,       "agent_rollback",       LOCAL,  "the agent was rolled back")                  \
	X(HOST_SHUTDOWN,        "host_shutdown",        LOCAL,  "the host shut down or rebooted")             \
	X(HOST_SUSPEND,         "host_suspend",         LOCAL,  "the host was suspended")                     \
	X(HOST_OVERLOAD,        "host_overload",        LOCAL,  "the host is overloaded")                     \
	X(PORTS_EXHAUSTED,      "ports_exhausted",      LOCAL,  "no local port is free")                      \
	X(UNKNOWN,              "unknown",              PATH,   "no evidence says why")
/* clang-format on */

enum hf_cause {
#define X(id, name, side, text) HF_CAUSE_##id,
	HF_CAUSE_TABLE(X)
#undef X
		_HF_CAUSE_MAX,
};

const char *hf_cause_name(enum hf_cause c);
const char *hf_cause_text(enum hf_cause c);
enum hf_cause_side hf_cause_side(enum hf_cause c);
/* HF_CAUSE_UNKNOWN for a name that is not in the list; never fails, names come from peers. */
enum hf_cause hf_cause_from_name(const char *name);
