/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of everything the probe tries, in the order of the report. One row is one BPF program of
 * probe.bpf.c, loaded alone, so that what one kernel refuses does not hide the next row.
 *
 * P(program, maps it needs, workload that must make it run)
 * maps: names separated by blanks, "" for none. workload: TCP, RETRANS, PROC, OOM, ITER, NONE.
 */
#ifndef PROBE_H
#define PROBE_H

#define PROBE_TABLE(P)                                            \
	/* hooks: does it attach, does it fire */                 \
	P(h_inet_sock_set_state, "", TCP)                         \
	P(h_tcp_send_reset, "", TCP)                              \
	P(h_tcp_receive_reset, "", TCP)                           \
	P(h_inet_sk_error_report, "", TCP)                        \
	P(h_tcp_rcv_space_adjust, "", TCP)                        \
	P(h_tcp_retransmit_skb, "", RETRANS)                      \
	P(h_tcp_destroy_sock, "", TCP)                            \
	P(h_tcp_probe, "", TCP)                                   \
	P(h_kfree_skb, "", TCP)                                   \
	P(h_sched_process_fork, "", PROC)                         \
	P(h_sched_process_exec, "", PROC)                         \
	P(h_sched_process_exit, "", PROC)                         \
	P(h_sched_process_free, "", PROC)                         \
	P(h_signal_generate, "", PROC)                            \
	P(h_signal_deliver, "", PROC)                             \
	P(h_mark_victim, "", OOM)                                 \
	P(h_cgroup_attach_task, "", OOM)                          \
	/* optional arguments */                                  \
	P(a_send_reset_reason, "", TCP)                           \
	P(a_kfree_skb_reason, "", TCP)                            \
	P(a_kfree_skb_rx_sk, "", TCP)                             \
	P(a_retransmit_err, "", RETRANS)                          \
	P(a_exit_group_dead, "", PROC)                            \
	P(a_mark_victim_task, "", OOM)                            \
	/* maps */                                                \
	P(m_hash, "hash", TCP)                                    \
	P(m_lru_hash, "lru", TCP)                                 \
	P(m_percpu_array, "percpu", TCP)                          \
	P(m_percpu_lookup, "percpu", TCP)                         \
	P(m_mmapable_array, "mmapable", TCP)                      \
	P(m_hash_no_prealloc, "hash_lazy", TCP)                   \
	P(m_ringbuf_reserve, "ring", TCP)                         \
	P(m_ringbuf_output, "ring", TCP)                          \
	P(m_ringbuf_query, "ring", TCP)                           \
	P(m_perf_event_output, "perf", TCP)                       \
	P(m_sk_storage, "sks", TCP)                               \
	P(m_sk_storage_clone, "sks_clone", TCP)                   \
	P(m_sk_storage_reset, "sks", TCP)                         \
	P(m_task_storage, "tasks", PROC)                          \
	P(m_task_storage_current, "tasks", PROC)                  \
	P(m_spin_lock, "locked", TCP)                             \
	P(m_timer, "timers", TCP)                                 \
	/* instructions */                                        \
	P(i_atomic_add, "", TCP)                                  \
	P(i_atomic_fetch_add, "", TCP)                            \
	P(i_atomic_xchg, "", TCP)                                 \
	P(i_atomic_cmpxchg, "", TCP)                              \
	P(i_atomic_fetch_or, "", TCP)                             \
	P(i_bounded_loop, "", TCP)                                \
	P(i_global_function, "", TCP)                             \
	/* helpers in tracing programs */                         \
	P(f_socket_cookie, "", TCP)                               \
	P(f_socket_cookie_reset, "", TCP)                         \
	P(f_skc_to_tcp_sock, "", TCP)                             \
	P(f_skc_to_tcp6_sock, "", TCP)                            \
	P(f_current_task, "", PROC)                               \
	P(f_current_task_btf, "", PROC)                           \
	P(f_current_cgroup_id, "", PROC)                          \
	P(f_current_ancestor_cgroup_id, "", PROC)                 \
	P(f_ns_current_pid_tgid, "", PROC)                        \
	P(f_ktime_boot, "", PROC)                                 \
	P(f_ktime_coarse, "", PROC)                               \
	P(f_ktime_tai, "", PROC)                                  \
	P(f_probe_read_kernel_str, "", PROC)                      \
	P(f_snprintf, "", PROC)                                   \
	P(f_loop, "", PROC)                                       \
	P(f_for_each, "percpu", PROC)                             \
	P(f_strncmp, "", PROC)                                    \
	P(f_d_path_exec, "", PROC)                                \
	P(f_func_arg_cnt, "", PROC)                               \
	P(f_dynptr_ringbuf, "ring", PROC)                         \
	/* sockets and tasks in other hooks */                    \
	P(s_send_reset_checked, "", TCP)                          \
	P(s_send_reset_unchecked, "", TCP)                        \
	P(s_send_reset_storage, "sks", TCP)                       \
	P(s_send_reset_cookie, "", TCP)                           \
	P(s_error_storage, "sks", TCP)                            \
	P(s_rcv_space_storage, "sks", TCP)                        \
	P(s_retransmit_storage, "sks", RETRANS)                   \
	P(s_destroy_storage, "sks", TCP)                          \
	P(s_skb_sk_storage, "sks", TCP)                           \
	P(s_skb_sk_cookie, "", TCP)                               \
	P(s_skb_rx_sk_storage, "sks", TCP)                        \
	P(s_cookie_field, "", TCP)                                \
	P(s_signal_task_storage, "tasks", PROC)                   \
	/* code that cannot be reached */                         \
	P(d_dead_argument, "", TCP)                               \
	P(d_dead_cookie, "", TCP)                                 \
	P(d_dead_sk_storage, "sks", TCP)                          \
	P(d_dead_sk_storage_no_map, "", TCP)                      \
	P(d_dead_task_storage_no_map, "", PROC)                   \
	P(d_dead_fetch_add, "", TCP)                              \
	/* fields by CO-RE */                                     \
	P(c_exit_status, "", PROC)                                \
	P(c_task_cgroup_name, "", PROC)                           \
	P(c_sock_fields, "", TCP)                                 \
	P(c_siginfo_sender, "", PROC)                             \
	/* iterators */                                           \
	P(t_task, "", ITER)                                       \
	P(t_task_file, "", ITER)                                  \
	P(t_task_file_sock, "", ITER)                             \
	P(t_task_file_sock_storage, "sks", ITER)                  \
	P(t_task_file_d_path, "", ITER)                           \
	P(t_tcp, "", ITER)                                        \
	P(t_tcp_cookie, "", ITER)                                 \
	P(t_tcp_storage, "sks", ITER)                             \
	/* other program types, should a hook be missing above */ \
	P(o_raw_tp, "", TCP)                                      \
	P(o_fentry, "", TCP)                                      \
	P(o_fexit, "", TCP)                                       \
	P(o_fentry_error_report, "", TCP)                         \
	P(o_kprobe, "", TCP)                                      \
	P(o_tracepoint, "", TCP)                                  \
	P(o_lsm, "", PROC)

#endif
