/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the running kernel allows, found out by asking it (BTF) or by trying (a throw-away program),
 * never by its version: distributions port features back.
 */
#include "kernel_probe.h"

#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "base/cleanup.h"
#include "base/fd.h"

int hf_probe_tracepoint_args(const struct btf *btf, const char *tracepoint)
{
	const struct btf_type *t;
	char name[64];
	int id;

	(void)hf_strf(name, sizeof(name), "btf_trace_%s", tracepoint);
	id = btf__find_by_name_kind(btf, name, BTF_KIND_TYPEDEF);
	if (id < 0)
		return -ENOENT;
	t = btf__type_by_id(btf, btf__type_by_id(btf, (uint32_t)id)->type);
	if (!t || !btf_is_ptr(t))
		return -ENOENT;
	t = btf__type_by_id(btf, t->type);
	if (!t || !btf_is_func_proto(t))
		return -ENOENT;
	/* The first is the probe's own context. */
	return btf_vlen(t) - 1;
}

static bool has_function(const struct btf *btf, const char *name)
{
	return btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;
}

static int append_enum(struct hf_buf *b, const struct btf *btf, const char *enum_name,
		       const char *keyword, const char *prefix)
{
	int id = btf__find_by_name_kind(btf, enum_name, BTF_KIND_ENUM), i, r;
	const struct btf_type *t;
	const struct btf_enum *e;
	const char *name;

	if (id < 0)
		return 0;
	t = btf__type_by_id(btf, (uint32_t)id);
	e = btf_enum(t);
	for (i = 0; i < btf_vlen(t); i++, e++) {
		name = btf__name_by_offset(btf, e->name_off);
		if (!name)
			continue;
		if (hf_startswith(name, prefix))
			name += strlen(prefix);
		/* Bookkeeping members: masks, counts. */
		if (e->val < 0 || e->val > 0xffff || hf_streq(name, "MAX") ||
		    hf_streq(name, "SUBSYS_MASK"))
			continue;
		r = hf_buf_appendf(b, "%s %d %s\n", keyword, e->val, name);
		if (r < 0)
			return r;
	}
	return 0;
}

void hf_probe_features(const struct btf *btf, struct hf_kernel_features *ret)
{
	/* The helpers' own functions: what they are called for tracing programs. */
	ret->sk_storage = has_function(btf, "bpf_sk_storage_get_tracing");
	ret->sk_cookie = has_function(btf, "bpf_get_socket_ptr_cookie");
	ret->rst_reason = hf_probe_tracepoint_args(btf, "tcp_send_reset") >= 3;
	ret->group_dead = hf_probe_tracepoint_args(btf, "sched_process_exit") >= 2;
	ret->retransmit_err = hf_probe_tracepoint_args(btf, "tcp_retransmit_skb") >= 3;
	ret->drop_rx_sk = hf_probe_tracepoint_args(btf, "kfree_skb") >= 4;
}

int hf_probe_reason_names(const struct btf *btf, struct hf_buf *ret)
{
	int r;

	r = append_enum(ret, btf, "sk_rst_reason", "rst", "SK_RST_REASON_");
	if (r < 0)
		return r;
	return append_enum(ret, btf, "skb_drop_reason", "drop", "SKB_DROP_REASON_");
}

/*
 * Whether BPF_ATOMIC with BPF_FETCH exists (5.12): the smallest program that uses it. Its registers
 * and slots are initialised, so nothing else can be the reason for a refusal.
 */
bool hf_probe_atomic_fetch(void)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_STX | BPF_MEM | BPF_DW,
		 .dst_reg = BPF_REG_10,
		 .src_reg = BPF_REG_0,
		 .off = -8},
		{.code = BPF_STX | BPF_ATOMIC | BPF_DW,
		 .dst_reg = BPF_REG_10,
		 .src_reg = BPF_REG_0,
		 .off = -8,
		 .imm = BPF_ADD | BPF_FETCH},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "hf_probe", "GPL", insns,
			       HF_ARRAY_SIZE(insns), NULL);

	if (fd < 0)
		return false;
	(void)hf_close(fd);
	return true;
}
