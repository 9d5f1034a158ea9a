/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owners of sockets that are older than the programs: run once by the loader over every open file
 * of every process. The first process found with a socket is its owner; what the other programs
 * know better is left alone.
 */
#include "lib/conn.h"

SEC("iter/task_file")
int snapshot_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct hf_sock_life *life;
	struct socket *sock;
	struct sock *sk;

	if (!task || !file || !hf_kernel.sk_storage)
		return 0;
	sock = bpf_sock_from_file(file);
	if (!sock)
		return 0;
	sk = sock->sk;
	if (!sk || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (sk->__sk_common.skc_family != AF_INET && sk->__sk_common.skc_family != AF_INET6)
		return 0;
	life = bpf_sk_storage_get(&sock_life, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!life || life->src != HF_OWNER_NONE)
		return 0;
	hf_life_capture(life, task, HF_OWNER_SNAPSHOT);
	return 0;
}
