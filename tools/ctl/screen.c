/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain ANSI, no terminal library: what is used here every terminal since the VT100 has, but for the
 * alternate screen, which those without ignore.
 *
 * I1. Signal handlers only set flags, but for those that stop or end us while nobody can act: they
 *     restore the terminal with write() and tcsetattr(), which are async-signal-safe.
 */
#include "tools/ctl/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define ENTER "\033[?1049h\033[?25l"
#define LEAVE "\033[?25h\033[?1049l"

static struct termios saved;
static volatile sig_atomic_t open_now, have_keys, resized, ended;
static int screen_fd = -1;

static void leave(void)
{
	if (!open_now)
		return;
	open_now = 0;
	/* Nothing can be done where it fails. */
	if (write(screen_fd, LEAVE, sizeof(LEAVE) - 1) < 0)
		have_keys = have_keys;
	if (have_keys)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
}

static void enter(void)
{
	struct termios raw = saved;

	if (have_keys) {
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	open_now = 1;
	if (write(screen_fd, ENTER, sizeof(ENTER) - 1) < 0)
		ended = 1;
}

static void on_end(int sig)
{
	(void)sig;
	ended = 1;
}

static void on_resize(int sig)
{
	(void)sig;
	resized = 1;
}

/* Ctrl-Z: the shell gets its terminal as it was, and we ours when we go on. */
static void on_stop(int sig)
{
	int saved_errno = errno;

	(void)sig;
	leave();
	(void)raise(SIGSTOP);
	enter();
	resized = 1;
	errno = saved_errno;
}

void hf_screen_open(const struct hf_term *t)
{
	const struct {
		int sig;
		void (*handler)(int);
	} signals[] = {
		{SIGINT, on_end},  {SIGTERM, on_end},     {SIGHUP, on_end},
		{SIGQUIT, on_end}, {SIGWINCH, on_resize}, {SIGTSTP, on_stop},
	};

	screen_fd = fileno(t->f);
	have_keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction a = {.sa_handler = signals[i].handler};

		(void)sigaction(signals[i].sig, &a, NULL);
	}
	enter();
}

void hf_screen_close(void)
{
	leave();
}

unsigned hf_screen_rows(const struct hf_term *t)
{
	struct winsize size;

	if (ioctl(fileno(t->f), TIOCGWINSZ, &size) == 0 && size.ws_row > 0)
		return size.ws_row;
	return 24;
}

void hf_screen_draw(const struct hf_term *t, const char *text, const char *footer)
{
	unsigned rows = hf_screen_rows(t);

	(void)fputs("\033[H", t->f);
	/* Each line is cleared behind its text, so that nothing flickers. */
	for (unsigned row = 1; row < rows && *text; row++) {
		size_t len = strcspn(text, "\n");

		(void)fprintf(t->f, "%.*s\033[K\r\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
	(void)fprintf(t->f, "\033[J\033[%u;1H%s%s%s\033[K", rows, hf_term_on(t, HF_TERM_DIM),
		      footer, hf_term_off(t, HF_TERM_DIM));
	if (fflush(t->f) != 0)
		ended = 1;
}

bool hf_screen_ended(void)
{
	return ended;
}

int hf_screen_key(uint64_t until_ns)
{
	for (;;) {
		struct pollfd p = {.fd = have_keys ? STDIN_FILENO : -1, .events = POLLIN};
		uint64_t now = hf_now_monotonic_ns();
		uint64_t left = until_ns > now ? until_ns - now : 0;
		char c;
		int r;

		if (ended)
			return HF_SCREEN_ENDED;
		if (resized) {
			resized = 0;
			return HF_SCREEN_RESIZED;
		}
		if (left == 0)
			return HF_SCREEN_TIMEOUT;
		/* A signal between the check above and here is seen a tenth of a second late. */
		if (left > 100 * HF_NS_PER_MS)
			left = 100 * HF_NS_PER_MS;
		r = poll(&p, 1, (int)(left / HF_NS_PER_MS) + 1);
		if (r <= 0)
			continue;
		if (read(STDIN_FILENO, &c, 1) == 1)
			return (unsigned char)c;
		/* The other end of the terminal is gone. */
		if (p.revents & (POLLHUP | POLLERR))
			return HF_SCREEN_ENDED;
	}
}
