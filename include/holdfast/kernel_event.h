/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the BPF programs put on the two rings: the kernel → user ABI. Seen by bpf/, by the agent's
 * ring.c and kernel_decode.c, and through kernel_policy.h by the watchdog's loader. Nobody else
 * needs it: the rest of the agent works on decoded events.
 *
 * I1. Every record begins with struct hf_event_header, and header.len is the size of the whole
 *     record; a reader takes nothing beyond it.
 * I2. header.seq goes up by 1 for each (ring, cpu) and is taken before the room on the ring: an
 *     event that found no room leaves a gap, so the reader proves every loss. A program that
 *     interrupts another one on its CPU may overtake it by a few places.
 * I3. All numbers are in host byte order and fixed width, padding is explicit, there are no
 *     pointers. Ports are in host byte order, addresses are bytes as on the wire.
 * I4. Reasons (reset, drop) are the running kernel's own numbers. They change between kernels, so
 *     they leave the host only as names (see "rst" and "drop" lines in kernel_policy.h).
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define HF_EVENT_ABI 1u

enum hf_ring_id {
	HF_RING_URGENT, /* watched sockets, watched exits, OOM, loss marks; wakes at once */
	HF_RING_BULK,   /* the rest; wakes by fill level, read every 100 ms otherwise */
	_HF_RING_MAX,
};

enum hf_event_kind {
	HF_EVENT_NONE,
	HF_EVENT_CONN_FAILED, /* SYN_SENT or SYN_RECV ended without a connection */
	HF_EVENT_CONN_RESET_RECEIVED,
	HF_EVENT_CONN_RESET_SENT,
	HF_EVENT_CONN_DROPPED,    /* the kernel gave it up: a timeout or a hard error */
	HF_EVENT_CONN_CLOSED,     /* orderly; watched sockets: already at the peer's FIN */
	HF_EVENT_CONN_RETRANSMIT, /* watched sockets only, from the 2nd in a row on */
	HF_EVENT_PROC_EXIT,       /* one per process, at its last thread */
	HF_EVENT_PROC_OOM,        /* chosen as a victim; its proc.exit follows */
	HF_EVENT_SKB_DROP,        /* a watched socket's packet, or an aggregate by reason */
	HF_EVENT_TELEMETRY_LOSS,  /* a cgroup's events were throttled */
	_HF_EVENT_KIND_MAX,
};

/* Room for kinds in masks and counter arrays, so that a new kind does not change their layout. */
#define HF_EVENT_KIND_SLOTS 16

/* header.flags */
#define HF_EVENT_F_WATCHED   (1u << 0) /* socket or process somebody asked to watch */
#define HF_EVENT_F_SAMPLED   (1u << 1) /* stands for header.weight like it */
#define HF_EVENT_F_NO_SOCKET (1u << 2) /* addresses come from the packet: nobody owned it */
#define HF_EVENT_F_RST_SENT  (1u << 3) /* conn.dropped: the kernel also sent a reset for it */

struct hf_event_header {
	__u64 boot_ns; /* CLOCK_BOOTTIME */
	__u64 seq;     /* I2 */
	__u32 kind;    /* enum hf_event_kind */
	__u32 flags;   /* HF_EVENT_F_* */
	__u32 cpu;
	__u32 ring;   /* enum hf_ring_id */
	__u32 len;    /* I1 */
	__u32 weight; /* how many events this record stands for; 1 unless sampled or aggregated */
};

/* TASK_COMM_LEN; fixed by the kernel's user ABI. */
#define HF_COMM_SIZE 16
/* Longest names in the field: "cri-containerd-<64 hex>.scope" and a kubepods pod slice. */
#define HF_CGROUP_LEAF_SIZE   96
#define HF_CGROUP_PARENT_SIZE 80

enum hf_owner_src {
	HF_OWNER_NONE,     /* not known; every other field of the owner is then 0 */
	HF_OWNER_CONNECT,  /* called connect() */
	HF_OWNER_ACCEPT,   /* reads from the accepted socket */
	HF_OWNER_LISTEN,   /* called listen(); the connection was not accepted (or not read) yet */
	HF_OWNER_SNAPSHOT, /* held a descriptor of it when the programs were loaded */
	HF_OWNER_SELF,     /* process events: the process the event is about */
	_HF_OWNER_SRC_MAX,
};

/* All strings are NUL-terminated by the programs and padded with NULs; readers check anyway. */
struct hf_owner {
	__u32 tgid;
	__u32 uid;       /* effective, initial user namespace */
	__u64 start_ns;  /* CLOCK_BOOTTIME of the process's start: identity is (tgid, start_ns) */
	__u64 cgroup_id; /* v2; the memory hierarchy's where the process is in the v2 root */
	__u32 src;       /* enum hf_owner_src */
	__u32 reserved;
	char comm[HF_COMM_SIZE];
	char cgroup_leaf[HF_CGROUP_LEAF_SIZE];     /* last component of the cgroup's path */
	char cgroup_parent[HF_CGROUP_PARENT_SIZE]; /* the one before it; "" below the root */
};

enum hf_closed_by {
	HF_CLOSED_BY_NONE,
	HF_CLOSED_BY_LOCAL, /* sent the first FIN */
	HF_CLOSED_BY_PEER,
	_HF_CLOSED_BY_MAX,
};

enum hf_timeout_kind {
	HF_TIMEOUT_NONE,
	HF_TIMEOUT_SYN,         /* no answer to SYN or SYN-ACK */
	HF_TIMEOUT_RTO,         /* data unacknowledged, retransmissions used up */
	HF_TIMEOUT_USER,        /* data unacknowledged for TCP_USER_TIMEOUT */
	HF_TIMEOUT_KEEPALIVE,   /* probes of an idle connection unanswered */
	HF_TIMEOUT_ZERO_WINDOW, /* the peer's window stayed shut */
	_HF_TIMEOUT_KIND_MAX,
};

#define HF_REASON_NONE 0xffffffffu

/* conn.sock_flags */
#define HF_SOCK_F_KEEPALIVE     (1u << 0) /* SO_KEEPALIVE is set */
#define HF_SOCK_F_ORPHAN        (1u << 1) /* the owner had closed its last descriptor */
#define HF_SOCK_F_ABORTED       (1u << 2) /* closed without FIN: linger 0, or unread data */
#define HF_SOCK_F_TUPLE_GUESSED (1u << 3) /* local/peer from the packet that was answered */

struct hf_conn {
	__u64 cookie; /* SO_COOKIE; 0 where there is no socket */
	__u64 age_ns; /* since connect() or the handshake; 0 unknown */
	__u64 bytes_received;
	__u64 bytes_acked;   /* sent and acknowledged */
	__u32 netns;         /* inode number of the network namespace */
	__u32 family;        /* AF_INET or AF_INET6; v4-mapped is AF_INET */
	__u8 local_addr[16]; /* AF_INET uses the first 4 */
	__u8 peer_addr[16];
	__u16 local_port;
	__u16 peer_port;
	__u32 state;  /* the TCP state the event found, TCP_ESTABLISHED = 1 … */
	__s32 sk_err; /* positive errno, 0 none; conn.retransmit: why sending failed (negative) */
	__u32 reason; /* enum sk_rst_reason or skb_drop_reason of this kernel, HF_REASON_NONE */
	__u32 unread_bytes;  /* received, not read by the owner */
	__u32 unacked_bytes; /* sent, not acknowledged */
	__u32 unsent_bytes;  /* written, not sent */
	__u32 srtt_us;
	__u32 retransmits;     /* segments, in the connection's life */
	__u32 retransmits_now; /* without progress, until this event */
	__u32 probes_out;      /* keepalive or window probes unanswered */
	__u32 user_timeout_ms; /* TCP_USER_TIMEOUT, 0 none */
	__u32 timeout_kind;    /* enum hf_timeout_kind */
	__u32 closed_by;       /* enum hf_closed_by: who sent the first FIN */
	__u32 sock_flags;      /* HF_SOCK_F_* */
	__u32 backlog;         /* listener: connections waiting for accept() */
	__u32 backlog_max;
	__u32 reserved;
};

struct hf_conn_event {
	struct hf_event_header header;
	struct hf_owner owner;
	struct hf_conn conn;
};

/* Who sent a signal. With pid 0 it was the kernel: si_code says why (a fault, a timer, OOM …). */
struct hf_sender {
	__u64 boot_ns; /* when; 0: no fatal signal was seen */
	__u32 pid;     /* tgid, initial pid namespace */
	__u32 uid;
	__s32 si_code;
	__u32 signal;
	char comm[HF_COMM_SIZE];
};

struct hf_exit {
	struct hf_sender sender;
	__u64 runtime_ns; /* CLOCK_BOOTTIME from start to exit */
	__u64 utime_ns;   /* whole process */
	__u64 stime_ns;
	__u64 max_rss_kib;
	__u32 status; /* as waitpid() gives it: signal & 0x7f, core 0x80, code << 8 */
	__u32 oom;    /* 1: the kernel's OOM killer ended it */
	__u32 ppid;
	__u32 threads; /* how many the process had, all told, that were not gone before */
	char parent_comm[HF_COMM_SIZE];
	__u32 netns;
	__u32 reserved;
};

struct hf_exit_event {
	struct hf_event_header header;
	struct hf_owner owner; /* src = HF_OWNER_SELF */
	struct hf_exit exit;
};

struct hf_oom {
	__u64 total_vm_kib;
	__u64 anon_rss_kib;
	__u64 file_rss_kib;
	__u64 shmem_rss_kib;
	__u64 pgtables_kib;
	__s32 oom_score_adj;
	__u32 invoker_pid; /* whose allocation found no memory */
	char invoker_comm[HF_COMM_SIZE];
	__u32 netns;
	__u32 reserved;
};

struct hf_oom_event {
	struct hf_event_header header;
	struct hf_owner owner; /* the victim */
	struct hf_oom oom;
};

enum hf_loss_cause {
	HF_LOSS_THROTTLED = 1, /* the token bucket of owner.cgroup_id was empty */
	_HF_LOSS_CAUSE_MAX,
};

struct hf_loss {
	__u64 count; /* events this mark stands for */
	__u64 since_boot_ns;
	__u32 cause; /* enum hf_loss_cause */
	__u32 kind;  /* of the event that met the empty bucket */
	__u32 ring;
	__u32 reserved;
};

struct hf_loss_event {
	struct hf_event_header header;
	struct hf_owner owner; /* owner of the event that met the empty bucket */
	struct hf_loss loss;
};

/* The largest record: a reader's buffer. */
union hf_event_any {
	struct hf_event_header header;
	struct hf_conn_event conn;
	struct hf_exit_event exit;
	struct hf_oom_event oom;
	struct hf_loss_event loss;
};

_Static_assert(sizeof(struct hf_event_header) == 40, "ABI");
_Static_assert(sizeof(struct hf_owner) == 224, "ABI");
_Static_assert(sizeof(struct hf_conn) == 144, "ABI");
_Static_assert(sizeof(struct hf_conn_event) == 408, "ABI");
_Static_assert(sizeof(struct hf_sender) == 40, "ABI");
_Static_assert(sizeof(struct hf_exit) == 112, "ABI");
_Static_assert(sizeof(struct hf_exit_event) == 376, "ABI");
_Static_assert(sizeof(struct hf_oom) == 72, "ABI");
_Static_assert(sizeof(struct hf_oom_event) == 336, "ABI");
_Static_assert(sizeof(struct hf_loss) == 32, "ABI");
_Static_assert(sizeof(struct hf_loss_event) == 296, "ABI");
_Static_assert(_HF_EVENT_KIND_MAX <= HF_EVENT_KIND_SLOTS, "kinds fit the masks and counters");
