/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor under a restart: poll() on a pidfd, waitid(), vfork(), exec. At the watchdog's priority;
 * nothing is judged, recorded or confined.
 *
 *	supervisor PROGRAM ARGUMENT
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	(void)setpriority(PRIO_PROCESS, 0, -10);
	for (;;) {
		const pid_t pid = vfork();
		struct pollfd p = {.events = POLLIN};
		siginfo_t si;

		if (pid == 0) {
			(void)execl(argv[1], argv[1], argv[2], (char *)NULL);
			_exit(127);
		}
		if (pid < 0) {
			perror("supervisor: vfork");
			return 1;
		}
		p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (p.fd < 0 || poll(&p, 1, -1) < 0 ||
		    waitid(P_PIDFD, (id_t)p.fd, &si, WEXITED) < 0) {
			perror("supervisor");
			(void)kill(pid, SIGKILL);
			return 1;
		}
		(void)close(p.fd);
	}
}
