/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logind for tests, as far as a client sees it: inhibitors, and the two signals. Lines on standard
 * input say what happens ("sleep 1", "sleep 0", "shutdown 1"); lines on standard output say what
 * clients do ("inhibit WHAT MODE", "released").
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#define PATH    "/org/freedesktop/login1"
#define MANAGER "org.freedesktop.login1.Manager"

static sd_event *event;
static sd_bus *bus;

static int on_released(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	(void)revents;
	(void)userdata;
	printf("released\n");
	(void)close(fd);
	(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
	return 0;
}

static int on_inhibit(sd_bus_message *m, void *userdata, sd_bus_error *err)
{
	const char *what, *who, *why, *mode;
	int fds[2], r;

	(void)userdata;
	(void)err;
	r = sd_bus_message_read(m, "ssss", &what, &who, &why, &mode);
	if (r < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return r < 0 ? r : -errno;
	printf("inhibit %s %s\n", what, mode);
	r = sd_event_add_io(event, NULL, fds[0], 0, on_released, NULL); /* EPOLLHUP always comes */
	if (r >= 0)
		r = sd_bus_reply_method_return(m, "h", fds[1]);
	(void)close(fds[1]);
	return r;
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Inhibit", "ssss", "h", on_inhibit, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL("PrepareForSleep", "b", 0),
	SD_BUS_SIGNAL("PrepareForShutdown", "b", 0),
	SD_BUS_VTABLE_END,
};

static int on_line(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	char line[64] = {};
	ssize_t n = read(fd, line, sizeof(line) - 1);

	(void)s;
	(void)revents;
	(void)userdata;
	if (n <= 0)
		return sd_event_exit(event, 0);
	if (strncmp(line, "sleep ", 6) == 0)
		return sd_bus_emit_signal(bus, PATH, MANAGER, "PrepareForSleep", "b",
					  line[6] == '1');
	if (strncmp(line, "shutdown ", 9) == 0)
		return sd_bus_emit_signal(bus, PATH, MANAGER, "PrepareForShutdown", "b",
					  line[9] == '1');
	return 0;
}

int main(void)
{
	int r = sd_event_default(&event);

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (r >= 0)
		r = sd_bus_open_system(&bus);
	if (r >= 0)
		r = sd_bus_attach_event(bus, event, 0);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, PATH, MANAGER, vtable, NULL);
	if (r >= 0)
		r = sd_bus_request_name(bus, "org.freedesktop.login1", 0);
	if (r >= 0)
		r = sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_line, NULL);
	if (r >= 0) {
		printf("ready\n");
		r = sd_event_loop(event);
	}
	if (r < 0)
		fprintf(stderr, "fakelogind: %s\n", strerror(-r));
	return r < 0;
}
