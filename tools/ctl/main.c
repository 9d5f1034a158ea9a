/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast(1): global options and the table of verbs. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "tools/ctl/ctl.h"

static const struct verb {
	const char *name;
	hf_ctl_verb_fn run; /* NULL: not in this version */
	const char *arguments;
	const char *summary;
} verbs[] = {
	{"status", hf_ctl_status, "", "is this host online, since when, and if not, why"},
	{"outages", hf_ctl_outages, "[--since T]", "when the portal was out of reach, and why"},
	{"events", hf_ctl_events,
	 "[--follow] [--kind K]... [--pid P] [--unit U] [--since T] [--limit N]",
	 "resets, drops, failed connects and exits on this host"},
	{"top", hf_ctl_top,
	 "[--by process|unit|peer] [--sort COLUMN] [--window all|1m|last] [--interval S] [--count "
	 "N] [--limit N]",
	 "who resets, drops, fails and dies, live"},
	{"actions", hf_ctl_actions, "[--running] [--limit N]",
	 "what the portal asked of this host, and what became of it"},
	{"enroll", hf_ctl_enroll,
	 "--portal URL {--token T|--token -|--token-file FILE} [--ca FILE]",
	 "introduce this host to a portal"},
	{"reset", hf_ctl_reset, "[--yes]", "forget the portal and this host's identity"},
	{"component", hf_ctl_component, "{list|show|start|stop|restart|rollback} [NAME]",
	 "the processes that the watchdog keeps running"},
	{"release", hf_ctl_release, "{list|stage FILE [--wait]|rollback [COMPONENT]|keys FILE}",
	 "which version runs; install one, go back"},
	{"config", hf_ctl_config, "{check [FILE]|show|reload}", "the configuration"},
	{"doctor", NULL, NULL, NULL},
	{"scan", hf_ctl_scan, "[--checks A,B] [--path P]... [--accept-baseline] [--local]",
	 "what on this host is not as it should be"},
};

static void print_help(void)
{
	bool first = true;

	(void)printf(
		"holdfast: keeps this host reachable from its portal, and says why when it was "
		"not\n\nusage: holdfast [--dir DIR] [--json] VERB ...\n\n");
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++)
		if (verbs[i].run)
			(void)printf("  %-10s %s\n", verbs[i].name, verbs[i].summary);
	(void)printf("\n  not in this version:");
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++) {
		if (verbs[i].run)
			continue;
		(void)printf("%s %s", first ? "" : ",", verbs[i].name);
		first = false;
	}
	(void)printf("\n\n  --dir DIR   the instance in DIR instead of the installed one (or "
		     "HOLDFAST_DIR)\n"
		     "  --json      machine-readable output, of every verb\n"
		     "  --help      this list; 'holdfast VERB --help' for one verb\n"
		     "  --version   the version of this program\n\n"
		     "exit code: 0 ok, 1 the answer is bad news, 2 usage, 3 nobody answers\n");
}

static void print_verb_help(const struct verb *v)
{
	(void)printf("usage: holdfast %s%s%s\n\n%s\n", v->name, *v->arguments ? " " : "",
		     v->arguments, v->summary);
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < HF_ARRAY_SIZE(verbs); i++)
		if (hf_streq(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* The options that every verb has, wherever they stand. */
struct global {
	const char *dir;
	bool json, help, version;
};

/*
 * Takes the global options out of argv; the rest moves up. Words behind "--" stay, and so does the
 * value of an option that is not ours, which we cannot tell from a word: a file named --json is
 * given as ./--json. 0 or HF_CTL_USAGE.
 */
static int take_global(int *argc, char **argv, struct global *g)
{
	int kept = 1, i;

	for (i = 1; i < *argc && !hf_streq(argv[i], "--"); i++) {
		if (hf_streq(argv[i], "--help") || hf_streq(argv[i], "-h")) {
			g->help = true;
		} else if (hf_streq(argv[i], "--version")) {
			g->version = true;
		} else if (hf_streq(argv[i], "--json")) {
			g->json = true;
		} else if (hf_streq(argv[i], "--dir") && i + 1 < *argc) {
			g->dir = argv[++i];
		} else if (hf_startswith(argv[i], "--dir=") && argv[i][6]) {
			g->dir = argv[i] + 6;
		} else if (hf_streq(argv[i], "--dir") || hf_streq(argv[i], "--dir=")) {
			return hf_ctl_fail(HF_CTL_USAGE,
					   "--dir: needs a directory; see 'holdfast --help'");
		} else {
			argv[kept++] = argv[i];
		}
	}
	for (; i < *argc; i++)
		argv[kept++] = argv[i];
	argv[kept] = NULL;
	*argc = kept;
	return 0;
}

static int run_verb(struct hf_ctl *c, const struct global *g, int argc, char **argv)
{
	const struct verb *v = find_verb(argv[0]);
	int r;

	if (!v)
		return hf_ctl_fail(HF_CTL_USAGE, "%s: no such %s; see 'holdfast --help'", argv[0],
				   argv[0][0] == '-' ? "option" : "verb");
	if (!v->run)
		return hf_ctl_fail(HF_CTL_USAGE, "%s: not in this version", v->name);
	if (g->help) {
		print_verb_help(v);
		return HF_CTL_OK;
	}
	c->verb = v->name;
	c->json = g->json;
	c->cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = hf_paths_init(g->dir, &c->paths);
	if (r == -EACCES)
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "%s: %s", v->name, HF_CTL_DENIED);
	if (r < 0)
		return hf_ctl_fail(HF_CTL_UNREACHABLE,
				   "%s: %s: %s; give --dir the directory of an instance", v->name,
				   g->dir, strerror(-r));
	return v->run(c, argc, argv);
}

int main(int argc, char **argv)
{
	struct global g = {.dir = getenv("HOLDFAST_DIR")};
	struct hf_ctl c = {.cwd = -1};
	int r;

	(void)setlocale(LC_CTYPE, ""); /* without one: ASCII */
	hf_term_init(&c.out, stdout);
	if (g.dir && !*g.dir)
		g.dir = NULL;
	r = take_global(&argc, argv, &g);
	if (r != 0)
		return r;
	if (g.version) {
		(void)printf("holdfast %s\n", HF_VERSION);
		r = HF_CTL_OK;
	} else if (argc > 1) {
		r = run_verb(&c, &g, argc - 1, argv + 1);
	} else if (g.help) {
		print_help();
		r = HF_CTL_OK;
	} else {
		r = hf_ctl_fail(HF_CTL_USAGE, "which verb? see 'holdfast --help'");
	}
	/* A full disk or a closed pipe behind stdout must not look like success. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && r == HF_CTL_OK)
		return hf_ctl_fail(HF_CTL_BAD_NEWS, "write: %s; the output is not complete",
				   strerror(errno));
	return r;
}
