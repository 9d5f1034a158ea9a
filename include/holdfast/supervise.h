/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local protocol on /run/holdfast/supervise.sock between the watchdog and a component.
 *
 * SOCK_SEQPACKET, one message a packet, same machine and same build family: fixed structs in host
 * byte order, no pointers. Every message starts with struct hf_sup_hdr; a packet whose length is
 * not exactly that of its type, or whose protocol number differs, ends the connection. The
 * watchdog checks the peer by SO_PEERCRED/SO_PEERPIDFD against the process it started; what a
 * component may ask is a permit table (watchdog/permit.c) keyed by its state, and a request that
 * is not permitted ends the connection and is logged.
 *
 * Order: component sends HELLO; watchdog answers WELCOME, then KERNEL (with descriptors) when the
 * component consumes kernel events, then LAST_EXIT when there is a predecessor. The component
 * sends READY when it can work, PROGRESS each expect_ms, and requests as they come. When the
 * watchdog was replaced, the component re-dials the socket and starts with HELLO again.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HF_SUP_PROTOCOL    1u
#define HF_SUP_NAME_MAX    32u /* component name with NUL */
#define HF_SUP_VERSION_MAX 32u
#define HF_SUP_WORKERS_MAX 8u   /* progress counters of one component */
#define HF_SUP_TEXT_MAX    256u /* status and reason texts with NUL */
#define HF_SUP_COMM_MAX    16u
#define HF_SUP_PACKET_MAX  4096u /* no message is longer */
#define HF_SUP_BLOB_MAX    3840u /* bytes of a peer that the component passes on unchanged */
#define HF_SUP_ID_MAX      40u   /* UUID text with NUL, padded */
#define HF_SUP_NONCE_SIZE  16u

enum hf_sup_type {
	/* component → watchdog */
	HF_SUP_HELLO = 1,      /* struct hf_sup_hello */
	HF_SUP_READY,          /* header only: it does its work now */
	HF_SUP_PROGRESS,       /* struct hf_sup_progress */
	HF_SUP_STATUS,         /* struct hf_sup_text: one line for people */
	HF_SUP_WATCH_SOCKET,   /* struct hf_sup_cookie */
	HF_SUP_UNWATCH_SOCKET, /* struct hf_sup_cookie */
	HF_SUP_STOPPING,       /* struct hf_sup_text: it leaves on its own, reason */
	HF_SUP_CANARY_SEEN,    /* struct hf_sup_canary: the agent saw that process exit */
	HF_SUP_SESSION,       /* struct hf_sup_session: whether it has its portal, at each change */
	HF_SUP_ACTION_KEYS,   /* struct hf_sup_blob: action.Keys; answered by ACTION_NONCE */
	HF_SUP_ACTION_TIME,   /* struct hf_sup_blob: action.Time with the watchdog's nonce */
	HF_SUP_ACTION,        /* struct hf_sup_blob: action.Envelope; answered by ACTION_STATE */
	HF_SUP_ACTION_CANCEL, /* struct hf_sup_action_id */
	HF_SUP_ACTION_QUERY,  /* struct hf_sup_action_id: answered by ACTION_STATE */
	HF_SUP_ACTION_FORGET, /* struct hf_sup_action_id: the portal has its result */

	/* watchdog → component */
	HF_SUP_WELCOME = 64, /* struct hf_sup_welcome */
	HF_SUP_KERNEL,       /* struct hf_sup_kernel, with descriptors by SCM_RIGHTS */
	HF_SUP_LAST_EXIT,    /* struct hf_sup_last_exit */
	HF_SUP_STOP,         /* struct hf_sup_text: stop now, reason */
	HF_SUP_RELOAD,       /* header only: read the configuration again */
	HF_SUP_DENIED,       /* struct hf_sup_denied: request refused or failed */
	HF_SUP_RELEASE, /* struct hf_sup_release: how far an update is; after WELCOME, at each change */
	HF_SUP_ACTION_NONCE, /* struct hf_sup_action_nonce */
	HF_SUP_ACTION_STATE, /* struct hf_sup_action_state, perhaps with descriptors */
};

struct hf_sup_hdr {
	uint16_t protocol; /* HF_SUP_PROTOCOL */
	uint16_t type;     /* enum hf_sup_type */
	uint32_t length;   /* whole packet, bytes */
};

struct hf_sup_hello {
	struct hf_sup_hdr hdr;
	char component[HF_SUP_NAME_MAX];
	char version[HF_SUP_VERSION_MAX];
	uint32_t wants_kernel; /* 1: send KERNEL */
	uint32_t readopted;    /* 1: it was running before this watchdog */
};

struct hf_sup_progress {
	struct hf_sup_hdr hdr;
	uint32_t workers; /* used entries of counter[] */
	uint32_t healthy; /* 1 unless the component knows better; its text comes with STATUS */
	uint64_t counter
		[HF_SUP_WORKERS_MAX]; /* grow while the worker does work or is idle in its loop */
};

struct hf_sup_text {
	struct hf_sup_hdr hdr;
	char text[HF_SUP_TEXT_MAX]; /* NUL-terminated UTF-8 */
};

struct hf_sup_cookie {
	struct hf_sup_hdr hdr;
	uint64_t cookie; /* SO_COOKIE */
};

/*
 * A canary is a child of the watchdog that ends under a name that tells its nonce: the prefix and 12
 * hexadecimal digits. Who reads the kernel's rings reports it and shows it to nobody.
 */
#define HF_CANARY_PREFIX    "hfc"
#define HF_CANARY_DIGITS    12
#define HF_CANARY_NONCE_MAX (UINT64_C(1) << 48)
/* The program (kernel_load.h) without which there are none. */
#define HF_CANARY_PROGRAM "proc.exit"

struct hf_sup_canary {
	struct hf_sup_hdr hdr;
	uint64_t nonce;
};

/* What the portal said, for the watchdog's own eyes. */
struct hf_sup_blob {
	struct hf_sup_hdr hdr;
	uint32_t length; /* used bytes; the rest is zero */
	uint32_t reserved;
	uint8_t bytes[HF_SUP_BLOB_MAX];
};

struct hf_sup_action_id {
	struct hf_sup_hdr hdr;
	char id[HF_SUP_ID_MAX];
};

/* The answer to ACTION_KEYS: are they taken, and does the watchdog need the portal's time? */
struct hf_sup_action_nonce {
	struct hf_sup_hdr hdr;
	int32_t error;        /* 0, or -errno: the keys were not taken */
	uint32_t time_wanted; /* 1: have the portal sign this nonce */
	uint8_t nonce[HF_SUP_NONCE_SIZE];
	uint8_t key_id[8];          /* the trusted key, zero: none */
	char text[HF_SUP_TEXT_MAX]; /* why the keys were not taken */
};

/*
 * Where an action is; sent for each change of one that was asked for on this connection. A final
 * one brings descriptors of files to read: the result if result_bytes, then the artifact if
 * artifact_bytes.
 */
struct hf_sup_action_state {
	struct hf_sup_hdr hdr;
	char id[HF_SUP_ID_MAX];
	uint32_t state;   /* enum hf_action_state (holdfast/action.h) */
	uint32_t refusal; /* enum hf_action_refusal */
	uint32_t percent;
	uint32_t leaving;         /* 1: the component that hears this will be stopped by it */
	uint64_t started_unix_ns; /* 0: it did not; local clock */
	uint64_t finished_unix_ns;
	uint64_t result_bytes;
	uint64_t artifact_bytes;
	uint8_t artifact_sha256[32];
	char text[HF_SUP_TEXT_MAX];
};

struct hf_sup_session {
	struct hf_sup_hdr hdr;
	uint32_t online;
	uint32_t reserved;
};

#define HF_SUP_RELEASE_VERSION_MAX 48u /* HF_VERSION_MAX of the release library */
#define HF_SUP_RELEASE_REASON_MAX  32u

enum hf_sup_release_step {
	HF_SUP_RELEASE_RUNS,      /* nothing under way; version runs */
	HF_SUP_RELEASE_VERIFYING, /* candidate is being verified and unpacked; percent */
	HF_SUP_RELEASE_REFUSED,   /* candidate was refused: reason, text */
	HF_SUP_RELEASE_STAGED,    /* candidate waits for its turn */
	HF_SUP_RELEASE_PREFLIGHT,
	HF_SUP_RELEASE_TRIAL,       /* candidate runs; percent of its probation */
	HF_SUP_RELEASE_COMMITTED,   /* version runs and stays */
	HF_SUP_RELEASE_ROLLED_BACK, /* candidate failed, version runs: reason, text, at */
	HF_SUP_RELEASE_SAFE,        /* all versions fail */
	_HF_SUP_RELEASE_MAX,
};

struct hf_sup_release {
	struct hf_sup_hdr hdr;
	char component[HF_SUP_NAME_MAX];
	char version[HF_SUP_RELEASE_VERSION_MAX];   /* that should run; "": the package's own */
	char candidate[HF_SUP_RELEASE_VERSION_MAX]; /* "": none */
	uint8_t version_hash[32];                   /* SHA-256 of the manifest */
	uint8_t candidate_hash[32];                 /* zeros: not known */
	uint32_t step;                              /* enum hf_sup_release_step */
	uint32_t percent;
	uint64_t security_epoch;                /* the floor */
	uint64_t at_unix_ns;                    /* of the last rollback; 0: none */
	char reason[HF_SUP_RELEASE_REASON_MAX]; /* one word */
	char text[HF_SUP_TEXT_MAX];
};

struct hf_sup_welcome {
	struct hf_sup_hdr hdr;
	uint32_t expect_ms;   /* send PROGRESS at least this often */
	uint32_t deadline_ms; /* silence or a stuck counter for this long is a hang */
	uint32_t starts;      /* how often this component was started by the watchdog chain */
	uint32_t watchdog_pid;
	char watchdog_version[HF_SUP_VERSION_MAX];
};

/* Descriptors that come with KERNEL, in this order. Absent when assist is OFF. */
enum hf_sup_kernel_fd {
	HF_SUP_FD_RING_URGENT,
	HF_SUP_FD_RING_BULK,
	HF_SUP_FD_COUNTERS, /* read-only mmapable array */
	HF_SUP_FD_INFO,     /* memfd: text, see watchdog/kernel_load.h */
	_HF_SUP_FD_MAX,
};

enum hf_sup_assist {
	HF_SUP_ASSIST_OFF,
	HF_SUP_ASSIST_PARTIAL,
	HF_SUP_ASSIST_EBPF,
	_HF_SUP_ASSIST_MAX,
};

struct hf_sup_kernel {
	struct hf_sup_hdr hdr;
	uint32_t assist; /* enum hf_sup_assist */
	uint32_t fds;    /* 0 or _HF_SUP_FD_MAX; INFO alone (1) when OFF */
};

enum hf_exit_cause {
	HF_EXIT_UNKNOWN,
	HF_EXIT_EXITED,             /* called exit; code */
	HF_EXIT_SIGNALLED,          /* by a signal whose sender is not a person: kernel or itself */
	HF_EXIT_KILLED_BY_OPERATOR, /* by another process; by_pid, by_comm, by_uid */
	HF_EXIT_OOM,
	HF_EXIT_CRASHED, /* SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSYS */
	HF_EXIT_HUNG,    /* the watchdog killed it: no progress */
	HF_EXIT_LIMIT,   /* the watchdog killed it: memory or CPU limit */
	HF_EXIT_STOPPED_BY_REQUEST,
	_HF_EXIT_MAX,
};

/* How the component's previous process ended. */
struct hf_sup_last_exit {
	struct hf_sup_hdr hdr;
	uint32_t cause; /* enum hf_exit_cause */
	uint32_t pid;
	int32_t code;   /* exit code, -1 when ended by a signal */
	int32_t signal; /* 0 when it exited */
	uint32_t core;
	uint32_t by_pid; /* 0 unknown */
	uint32_t by_uid;
	uint32_t from_kernel; /* 1: kernel record; 0: pidfd/waitid only */
	uint64_t at_boot_ns;  /* when it died */
	uint64_t exit_to_exec_us;
	char by_comm[HF_SUP_COMM_MAX];
	char text[HF_SUP_TEXT_MAX]; /* one line for people */
};

struct hf_sup_denied {
	struct hf_sup_hdr hdr;
	uint32_t request; /* enum hf_sup_type */
	int32_t error;    /* -errno */
};

/*
 * The gate every packet passes first (userspace/proto/supervise.c): 0 when it is exactly as long
 * as its type demands, of our protocol, and each text in it ends with a NUL and is UTF-8;
 * -EPROTONOSUPPORT for another protocol number, -EBADMSG for anything else. packet needs no
 * alignment.
 */
int hf_sup_check(const void *packet, size_t len);

/* Exact size of a message; 0 for an unknown type. */
size_t hf_sup_size(unsigned type);

/* Names for people and JSON; "unknown" for a value out of range. */
const char *hf_sup_type_name(unsigned type);
const char *hf_exit_cause_name(unsigned cause);
/* "runs", "verifying" … */
const char *hf_sup_release_step_name(unsigned step);
/* The nonce of a canary's process name; 0: it is none. */
uint64_t hf_sup_canary_nonce(const char *comm);
/* "ebpf", "partial", "off" */
const char *hf_sup_assist_name(unsigned assist);
