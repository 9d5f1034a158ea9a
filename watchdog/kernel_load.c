/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the loader's object: opened by one of two ways (kernel_object.c), judged, explained,
 * closed or unpinned.
 *
 * I1. A set of pins is complete or not there (kernel_pins.h).
 */
#include "kernel_load.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fd.h"
#include "base/log.h"
#include "kernel_private.h"

static const char *const assist_names[_HF_KERNEL_ASSIST_MAX] = {
	[HF_KERNEL_ASSIST_OFF] = "off",
	[HF_KERNEL_ASSIST_PARTIAL] = "partial",
	[HF_KERNEL_ASSIST_EBPF] = "ebpf",
};

const char *hf_kernel_assist_name(enum hf_kernel_assist assist)
{
	hf_assert(assist < _HF_KERNEL_ASSIST_MAX);
	return assist_names[assist];
}

void hf_kernel_switch_off(struct hf_kernel_slot *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
	va_end(ap);
	p->pub.attached = false;
}

static void close_all(struct hf_kernel *k)
{
	int i;

	for (i = 0; i < _MAP_MAX; i++)
		k->map_fd[i] = hf_close(k->map_fd[i]);
	for (i = 0; i < _PROGRAM_MAX; i++) {
		k->programs[i].fd = hf_close(k->programs[i].fd);
		k->programs[i].link_fd = hf_close(k->programs[i].link_fd);
	}
}

static void forget_progress(struct hf_kernel *k)
{
	int i;

	close_all(k);
	for (i = 0; i < _PROGRAM_MAX; i++)
		k->programs[i].pub.attached = false;
}

static void explain_off(struct hf_kernel *k, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void explain_off(struct hf_kernel *k, const char *fmt, ...)
{
	va_list ap;
	int i;

	forget_progress(k);
	k->assist = HF_KERNEL_ASSIST_OFF;
	va_start(ap, fmt);
	(void)vsnprintf(k->reason, sizeof(k->reason), fmt, ap);
	va_end(ap);
	for (i = 0; i < _PROGRAM_MAX; i++)
		if (!k->programs[i].reason[0])
			(void)hf_strlcpy(k->programs[i].reason, k->reason,
					 sizeof(k->programs[i].reason));
}

static void judge(struct hf_kernel *k)
{
	const struct hf_kernel_slot *missing = NULL;
	int i, on = 0, off = 0;

	for (i = 0; i < _PROGRAM_MAX; i++) {
		if (k->programs[i].pub.attached) {
			on++;
			continue;
		}
		off++;
		if (!missing)
			missing = &k->programs[i];
	}
	if (!on) {
		explain_off(k, "no program could be attached: %s", missing->reason);
		return;
	}
	k->assist = off ? HF_KERNEL_ASSIST_PARTIAL : HF_KERNEL_ASSIST_EBPF;
	if (off)
		(void)hf_strf(k->reason, sizeof(k->reason),
			      "%d of %d programs are off, first %s: %s", off, _PROGRAM_MAX,
			      missing->pub.name, missing->reason);
}

static void log_result(const struct hf_kernel *k)
{
	int i;

	if (k->assist == HF_KERNEL_ASSIST_OFF) {
		hf_notice("Kernel assist is off: %s", k->reason);
		return;
	}
	for (i = 0; i < _PROGRAM_MAX; i++)
		if (!k->programs[i].pub.attached)
			hf_notice("Program '%s' is off: %s", k->programs[i].pub.name,
				  k->programs[i].reason);
	hf_info("Kernel assist is %s%s%s", assist_names[k->assist],
		k->reopened ? ", programs kept from an earlier watchdog" : "",
		k->pinned ? "" : ", not pinned: events are lost while the watchdog is down");
}

static void set_up(struct hf_kernel *k, const struct hf_kernel_options *o)
{
	const char *root = o->pin_root ? o->pin_root : HF_KERNEL_PIN_ROOT;
	struct hf_policy policy;
	bool mounted = false;
	int r;

	if (o->policy)
		policy = *o->policy;
	else
		hf_kernel_default_policy(&policy);

	r = hf_kernel_probe(k);
	if (r < 0) {
		if (r == -ENOENT)
			explain_off(
				k, "this kernel has no type information (/sys/kernel/btf/vmlinux)");
		else
			explain_off(k, "%s", strerror(-r));
		return;
	}

	r = hf_pins_init(&k->pins, root, o->instance, hf_kernel_schema(k));
	if (r < 0) {
		explain_off(k, "instance name '%s': %s", o->instance, strerror(-r));
		return;
	}
	r = hf_pins_ensure_bpffs(root, &mounted);
	k->pinned = r == 0;
	if (mounted)
		hf_notice("Mounted a bpf file system on '/sys/fs/bpf': nobody had");
	if (r < 0)
		hf_warn_r(r, "Cannot pin below '%s'", root);

	if (k->pinned && hf_pins_exist(&k->pins)) {
		r = hf_kernel_reopen(k);
		if (r == 0) {
			k->reopened = true;
			r = hf_kernel_read_policy(k);
			/* What was asked for last goes on until it is said otherwise. */
			if (r == 0)
				r = hf_kernel_set_policy(k, o->policy ? o->policy : &k->policy);
		}
		if (r < 0) {
			hf_warn_r(r, "Cannot re-open pins in '%s', loading anew", k->pins.final);
			forget_progress(k);
			k->reopened = false;
			(void)hf_pins_remove_all(&k->pins);
		}
	}
	if (!k->reopened) {
		r = hf_kernel_load_fresh(k, &policy);
		if (r < 0) {
			explain_off(
				k, "%s%s", strerror(-r),
				r == -EPERM
					? ": needs CAP_BPF and CAP_PERFMON, and a kernel not locked down"
					: hf_kernel_refusal());
			return;
		}
	}
	if (k->pinned) {
		r = hf_pins_remove_others(&k->pins);
		if (r < 0)
			hf_warn_r(r, "Cannot remove old pins in '%s'", k->pins.instance);
		else if (r > 0)
			hf_info("Removed %d older set(s) of pins", r);
	}
	judge(k);
}

int hf_kernel_open(const struct hf_kernel_options *options, struct hf_kernel **ret)
{
	struct hf_kernel *k;
	int i;

	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->magic = HF_KERNEL_MAGIC;
	k->ring_bytes[HF_RING_URGENT] =
		options->urgent_bytes ? options->urgent_bytes : HF_KERNEL_URGENT_BYTES;
	k->ring_bytes[HF_RING_BULK] =
		options->bulk_bytes ? options->bulk_bytes : HF_KERNEL_BULK_BYTES;
	for (i = 0; i < _MAP_MAX; i++)
		k->map_fd[i] = -1;
	for (i = 0; i < _PROGRAM_MAX; i++) {
		k->programs[i].pub.name = hf_kernel_program_table[i].name;
		k->programs[i].pub.reason = k->programs[i].reason;
		k->programs[i].fd = k->programs[i].link_fd = -1;
	}
	hf_kernel_quiet();
	k->cpus = hf_kernel_cpus();

	if (options->mode == HF_KERNEL_OFF)
		explain_off(k, "switched off by configuration");
	else
		set_up(k, options);
	/* The loader's peak is many times what stays (I3). */
	(void)malloc_trim(0);
	hf_kernel_object_release();
	log_result(k);
	*ret = k;
	return 0;
}

struct hf_kernel *hf_kernel_free(struct hf_kernel *k)
{
	if (!k)
		return NULL;
	hf_assert(k->magic == HF_KERNEL_MAGIC);
	close_all(k);
	hf_buf_done(&k->names);
	k->filter = hf_kernel_filter_copy_free(k->filter);
	k->magic = 0;
	free(k);
	return NULL;
}

int hf_kernel_unpin(struct hf_kernel *k)
{
	int i, r = 0;

	if (k->pinned)
		r = hf_pins_remove_all(&k->pins);
	k->pinned = false;
	/* The last descriptor of a link is what detaches it. */
	for (i = 0; i < _PROGRAM_MAX; i++) {
		k->programs[i].link_fd = hf_close(k->programs[i].link_fd);
		k->programs[i].pub.attached = false;
	}
	return r;
}

enum hf_kernel_assist hf_kernel_assist(const struct hf_kernel *k)
{
	return k->assist;
}

const char *hf_kernel_reason(const struct hf_kernel *k)
{
	return k->reason;
}

bool hf_kernel_reopened(const struct hf_kernel *k)
{
	return k->reopened;
}

const struct hf_kernel_program *hf_kernel_program(const struct hf_kernel *k, size_t i)
{
	return i < _PROGRAM_MAX ? &k->programs[i].pub : NULL;
}
