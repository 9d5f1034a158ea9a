/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Behaviours: each makes exactly one thing happen to the kernel's eyes and ends. They know nothing
 * of BPF. Facts that a test needs to expect the right event are printed as `key=value` lines.
 *
 * By hand: build/test/behave NAME [ARGUMENT…]. The BPF tests carry the same table and run
 * themselves as `--behave NAME`, so that one file is all a virtual machine needs.
 *
 * A network behaviour uses 127.0.0.1 (or ::1 when its first argument is "6") of the network
 * namespace it is started in, and ports that the kernel chooses.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct behaviour {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the name; exit code */
};

extern const struct behaviour behaviours[];

/* Runs one by name; 2 if there is none. */
int behave_main(int argc, char **argv);

/* ---- what several of them use; each ends the process with a message when it fails ---------- */

void fact(const char *key, uint64_t value);
void check(bool ok, const char *what);

struct endpoint {
	struct sockaddr_storage addr;
	socklen_t len;
};

/* Loopback of the family, port in host order. */
struct endpoint loopback(int family, uint16_t port);
/* AF_INET unless arg is "6", or "mapped" for 127.0.0.1 by IPv6 sockets from then on. */
int family_of(const char *arg);
int tcp_socket(int family);
/* Listens on a free port and says which. */
int listener(int family, int backlog, uint16_t *ret_port);
uint16_t local_port(int fd);
uint64_t cookie_of(int fd);
/* Blocking connect to loopback; the descriptor. */
int dial(int family, uint16_t port);
void linger_zero(int fd);
/* From now on nothing that arrives at fd is looked at: its peer talks to a wall. */
void become_wall(int fd);

/* Table entries, by file. */
int behave_refused(int argc, char **argv);
int behave_syn_timeout(int argc, char **argv);
int behave_abandoned(int argc, char **argv);
int behave_reset_by_peer(int argc, char **argv);
int behave_close_unread(int argc, char **argv);
int behave_orderly(int argc, char **argv);
int behave_orderly_wait(int argc, char **argv);
int behave_user_timeout(int argc, char **argv);
int behave_rto(int argc, char **argv);
int behave_keepalive(int argc, char **argv);
int behave_retransmit(int argc, char **argv);
int behave_reset_before_accept(int argc, char **argv);
int behave_prefork(int argc, char **argv);
int behave_older_socket(int argc, char **argv);
int behave_storm(int argc, char **argv);
int behave_exit(int argc, char **argv);
int behave_killed(int argc, char **argv);
int behave_abort(int argc, char **argv);
int behave_leader_first(int argc, char **argv);
int behave_thread_exit(int argc, char **argv);
int behave_many_threads(int argc, char **argv);
int behave_exec_thread(int argc, char **argv);
int behave_oom(int argc, char **argv);
int behave_exits(int argc, char **argv);
