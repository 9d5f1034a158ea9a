/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls of a component, as a seccomp program.
 *
 * Three lists: what a component needs is allowed; what only a taken-over one would try kills it, so
 * that it is seen and restarted clean; everything else is refused with EPERM. Calls newer than this
 * table get ENOSYS, which tells libc to fall back to an older one.
 *
 * I1. A component executes nothing. The exec that starts it passes, and only that: execveat() of one
 *     descriptor with one address as its path. The descriptor's number is the component's limit of
 *     descriptors, so it can never open that one again; the address is of our own memory, chosen by
 *     the loader at random and gone after the exec. A taken-over component that guesses it has won
 *     a program under the same filter.
 * I2. A namespace is no way out: clone() with a namespace flag kills, clone3(), whose flags a filter
 *     cannot see, does not exist (libc falls back to clone()).
 * I3. io_uring is not in the first list: it would do what the filter refuses.
 * I4. Another machine's calls (i386 on x86-64) kill; x32 is newer than the table.
 */
#include "watchdog/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cleanup.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH 0 /* no filter: told as such in status */
#endif

/* The newest call that somebody looked at for this table: set_mempolicy_home_node (Linux 5.17). */
#define CALLS 451

/* What a component needs: files of its own, memory, threads, time, events, sockets. */
static const uint16_t allowed[] = {
	/* memory */
	SYS_brk,
	SYS_mmap,
	SYS_munmap,
	SYS_mremap,
	SYS_mprotect,
	SYS_madvise,
	SYS_mincore,
	SYS_msync,
	SYS_mlock,
	SYS_mlock2,
	SYS_munlock,
	SYS_membarrier,
	SYS_memfd_create,
	/* files */
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_preadv,
	SYS_pwritev,
	SYS_preadv2,
	SYS_pwritev2,
	SYS_openat,
	SYS_openat2,
	SYS_close,
	SYS_close_range,
	SYS_lseek,
	SYS_fstat,
	SYS_newfstatat,
	SYS_statx,
	SYS_statfs,
	SYS_fstatfs,
	SYS_faccessat,
	SYS_faccessat2,
	SYS_ftruncate,
	SYS_truncate,
	SYS_fallocate,
	SYS_fadvise64,
	SYS_fsync,
	SYS_fdatasync,
	SYS_sync_file_range,
	SYS_getdents64,
	SYS_getcwd,
	SYS_chdir,
	SYS_fchdir,
	SYS_mkdirat,
	SYS_unlinkat,
	SYS_renameat,
	SYS_renameat2,
	SYS_linkat,
	SYS_symlinkat,
	SYS_readlinkat,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_umask,
	SYS_utimensat,
	SYS_fcntl,
	SYS_flock,
	SYS_dup,
	SYS_dup3,
	SYS_pipe2,
	SYS_ioctl,
	SYS_sendfile,
	SYS_splice,
	SYS_copy_file_range,
	SYS_getxattr,
	SYS_lgetxattr,
	SYS_fgetxattr,
	SYS_listxattr,
	SYS_llistxattr,
	SYS_flistxattr,
	SYS_inotify_init1,
	SYS_inotify_add_watch,
	SYS_inotify_rm_watch,
	/* events and time */
	SYS_ppoll,
	SYS_pselect6,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_epoll_pwait,
	SYS_eventfd2,
	SYS_signalfd4,
	SYS_timerfd_create,
	SYS_timerfd_settime,
	SYS_timerfd_gettime,
	SYS_clock_gettime,
	SYS_clock_getres,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_gettimeofday,
	SYS_times,
	SYS_getitimer,
	SYS_setitimer,
	SYS_timer_create,
	SYS_timer_settime,
	SYS_timer_gettime,
	SYS_timer_getoverrun,
	SYS_timer_delete,
	/* itself, its threads and children (which it may fork, but not turn into other programs) */
	SYS_exit,
	SYS_exit_group,
	SYS_clone,
	SYS_wait4,
	SYS_waitid,
	SYS_kill,
	SYS_tkill,
	SYS_tgkill,
	SYS_pidfd_open,
	SYS_pidfd_send_signal,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_rt_sigpending,
	SYS_rt_sigtimedwait,
	SYS_rt_sigsuspend,
	SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo,
	SYS_sigaltstack,
	SYS_restart_syscall,
	SYS_futex,
	SYS_set_robust_list,
	SYS_get_robust_list,
	SYS_set_tid_address,
	SYS_rseq,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_sched_getparam,
	SYS_sched_getscheduler,
	SYS_sched_setscheduler,
	SYS_sched_getattr,
	SYS_sched_get_priority_max,
	SYS_sched_get_priority_min,
	SYS_getpriority,
	SYS_setpriority,
	SYS_ioprio_get,
	SYS_ioprio_set,
	SYS_getpid,
	SYS_getppid,
	SYS_gettid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_getresuid,
	SYS_getresgid,
	SYS_getgroups,
	SYS_getpgid,
	SYS_setpgid,
	SYS_getsid,
	SYS_setsid,
	SYS_capget,
	SYS_prctl,
	SYS_seccomp,
	SYS_prlimit64,
	SYS_getrlimit,
	SYS_setrlimit,
	SYS_getrusage,
	SYS_sysinfo,
	SYS_uname,
	SYS_getcpu,
	SYS_getrandom,
	/* sockets; which families is a rule of its own */
	SYS_socket,
	SYS_socketpair,
	SYS_connect,
	SYS_accept,
	SYS_accept4,
	SYS_bind,
	SYS_listen,
	SYS_getsockname,
	SYS_getpeername,
	SYS_getsockopt,
	SYS_setsockopt,
	SYS_sendto,
	SYS_sendmsg,
	SYS_sendmmsg,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_recvmmsg,
	SYS_shutdown,
#ifdef __x86_64__
	/* what newer machines never had */
	SYS_open,
	SYS_creat,
	SYS_stat,
	SYS_lstat,
	SYS_access,
	SYS_mkdir,
	SYS_rmdir,
	SYS_unlink,
	SYS_rename,
	SYS_link,
	SYS_symlink,
	SYS_readlink,
	SYS_chmod,
	SYS_utime,
	SYS_utimes,
	SYS_getdents,
	SYS_dup2,
	SYS_pipe,
	SYS_poll,
	SYS_select,
	SYS_epoll_create,
	SYS_epoll_wait,
	SYS_eventfd,
	SYS_signalfd,
	SYS_inotify_init,
	SYS_time,
	SYS_alarm,
	SYS_pause,
	SYS_fork,
	SYS_vfork,
	SYS_getpgrp,
	SYS_arch_prctl,
#endif
#ifdef __SANITIZE_ADDRESS__
	/* Only in a sanitized build: how LeakSanitizer looks for leaks at the end. */
	SYS_ptrace,
	SYS_personality,
#endif
};

/* What no component ever does, and what another does to get further. */
static const uint16_t killing[] = {
	/* another program (see I1), other processes' memory */
	SYS_execve,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_pidfd_getfd,
#ifndef __SANITIZE_ADDRESS__
	SYS_ptrace,
#endif
	/* namespaces and mounts */
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_unshare,
	SYS_setns,
	SYS_move_mount,
	SYS_open_tree,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
	SYS_mount_setattr,
	/* the kernel itself */
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
#ifdef SYS_kexec_file_load
	SYS_kexec_file_load,
#endif
	SYS_reboot,
	SYS_swapon,
	SYS_swapoff,
	SYS_acct,
	SYS_quotactl,
	SYS_syslog,
	SYS_vhangup,
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_open_by_handle_at,
	/* the clock and the name of the host */
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_sethostname,
	SYS_setdomainname,
#ifdef __x86_64__
	SYS_iopl,
	SYS_ioperm,
	SYS_modify_ldt,
#endif
};

enum verdict { REFUSE, ALLOW, KILL, MISSING };

static uint32_t action_of(enum verdict v)
{
	switch (v) {
	case ALLOW:
		return SECCOMP_RET_ALLOW;
	case KILL:
		return SECCOMP_RET_KILL_PROCESS;
	case MISSING:
		return SECCOMP_RET_ERRNO | ENOSYS;
	case REFUSE:
		break;
	}
	return SECCOMP_RET_ERRNO | EPERM;
}

static uint16_t emit(struct hf_confine *c, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	hf_assert(c->filter_len < HF_CONFINE_FILTER_MAX);
	c->filter[c->filter_len] = (struct sock_filter)BPF_JUMP(code, k, jt, jf);
	return c->filter_len++;
}

static void load(struct hf_confine *c, size_t offset)
{
	(void)emit(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The low half of an argument; both machines are little endian. */
static void load_arg(struct hf_confine *c, unsigned arg)
{
	load(c, offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t));
}

static void load_arg_high(struct hf_confine *c, unsigned arg)
{
	load(c, offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t) + sizeof(uint32_t));
}

static void give(struct hf_confine *c, uint32_t action)
{
	(void)emit(c, BPF_RET | BPF_K, action, 0, 0);
}

/* ---- rules over arguments -------------------------------------------------------------------------- */

/* Opens a block that is entered for this call only; the number is in the accumulator. */
static uint16_t begin_rule(struct hf_confine *c, uint32_t call)
{
	return emit(c, BPF_JMP | BPF_JEQ | BPF_K, call, 0, 0);
}

/* Every path through a block ends in a verdict; other calls jump over it. */
static void end_rule(struct hf_confine *c, uint16_t begin)
{
	hf_assert(c->filter_len - begin - 1 <= UINT8_MAX);
	c->filter[begin].jf = (uint8_t)(c->filter_len - begin - 1);
}

static void rule_socket(struct hf_confine *c, bool network)
{
	static const uint32_t families[] = {AF_UNIX, AF_NETLINK, AF_INET, AF_INET6};
	const size_t n = network ? HF_ARRAY_SIZE(families) : 1;
	uint16_t begin = begin_rule(c, SYS_socket);

	load_arg(c, 0);
	for (size_t i = 0; i < n; i++) /* to the last instruction of the block */
		(void)emit(c, BPF_JMP | BPF_JEQ | BPF_K, families[i], (uint8_t)(n - i), 0);
	give(c, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
	give(c, SECCOMP_RET_ALLOW);
	end_rule(c, begin);
}

static void rule_clone(struct hf_confine *c)
{
	const uint32_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
				    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
	uint16_t begin = begin_rule(c, SYS_clone);

	load_arg(c, 0); /* the flags, on both machines */
	(void)emit(c, BPF_JMP | BPF_JSET | BPF_K, namespaces, 1, 0);
	give(c, SECCOMP_RET_ALLOW);
	give(c, SECCOMP_RET_KILL_PROCESS);
	end_rule(c, begin);
	begin = begin_rule(c, SYS_clone3);
	give(c, SECCOMP_RET_ERRNO | ENOSYS);
	end_rule(c, begin);
}

/* I1; descriptor and address are put in by hf_confine_seal(). */
static void rule_execveat(struct hf_confine *c)
{
	uint16_t begin = begin_rule(c, SYS_execveat);

	load_arg(c, 0);
	c->exec_fd_at = emit(c, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5);
	load_arg(c, 1);
	c->exec_lo_at = emit(c, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
	load_arg_high(c, 1);
	c->exec_hi_at = emit(c, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
	give(c, SECCOMP_RET_ALLOW);
	give(c, SECCOMP_RET_KILL_PROCESS);
	end_rule(c, begin);
}

/* ---- the three lists, as a binary search over ranges of numbers ----------------------------------- */

struct range {
	uint32_t from;
	enum verdict verdict;
};

static size_t make_ranges(struct range ranges[static CALLS + 1])
{
	enum verdict of[CALLS] = {}; /* REFUSE */
	size_t n = 0;

	for (size_t i = 0; i < HF_ARRAY_SIZE(allowed); i++) {
		hf_assert(allowed[i] < CALLS);
		of[allowed[i]] = ALLOW;
	}
	for (size_t i = 0; i < HF_ARRAY_SIZE(killing); i++) {
		hf_assert(killing[i] < CALLS && of[killing[i]] == REFUSE);
		of[killing[i]] = KILL;
	}
	for (uint32_t call = 0; call < CALLS; call++)
		if (n == 0 || ranges[n - 1].verdict != of[call])
			ranges[n++] = (struct range){call, of[call]};
	ranges[n++] = (struct range){CALLS, MISSING};
	return n;
}

static void search(struct hf_confine *c, const struct range *r, size_t n)
{
	uint16_t jump;

	if (n == 1) {
		give(c, action_of(r->verdict));
		return;
	}
	jump = emit(c, BPF_JMP | BPF_JGE | BPF_K, r[n / 2].from, 0, 0);
	search(c, r, n / 2);
	hf_assert(c->filter_len - jump - 1 <= UINT8_MAX);
	c->filter[jump].jt = (uint8_t)(c->filter_len - jump - 1);
	search(c, r + n / 2, n - n / 2);
}

void hf_confine_make(bool network, struct hf_confine *c)
{
	struct range ranges[CALLS + 1];

	*c = (struct hf_confine){};
	if (!ARCH)
		return;
	load(c, offsetof(struct seccomp_data, arch));
	(void)emit(c, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	give(c, SECCOMP_RET_KILL_PROCESS);
	load(c, offsetof(struct seccomp_data, nr));
	rule_socket(c, network);
	rule_clone(c);
	rule_execveat(c);
	search(c, ranges, make_ranges(ranges));
}

int hf_confine_seal(const struct hf_confine *c, int exec_fd, const char *path)
{
	struct sock_filter filter[HF_CONFINE_FILTER_MAX];
	struct sock_fprog program = {.len = c->filter_len, .filter = filter};
	uint64_t address = (uint64_t)(uintptr_t)path;

	if (!c->filter_len)
		return -EOPNOTSUPP;
	memcpy(filter, c->filter, c->filter_len * sizeof(filter[0]));
	filter[c->exec_fd_at].k = (uint32_t)exec_fd;
	filter[c->exec_lo_at].k = (uint32_t)address;
	filter[c->exec_hi_at].k = (uint32_t)(address >> 32);
	/* Not seccomp(2): the filters that systemd makes for its services leave that out. */
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}
