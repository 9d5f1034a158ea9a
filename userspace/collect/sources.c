/* SPDX-License-Identifier: Apache-2.0 */
/* What is collected: the table, and how each text is made. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "bus.pb-c.h"
#include "holdfast/config.h"
#include "userspace/collect/collect.h"
#include "userspace/collect/redact.h"
#include "userspace/proto/event_json.h"
#include "userspace/proto/frame.h"
#include "userspace/proto/outage_json.h"
#include "userspace/proto/status_json.h"

#define UNIT "holdfast.service"
/* Single kernel events, and outages: the newest. */
#define EVENTS_MAX  1000
#define OUTAGES_MAX 200

/* ---- the daemons ------------------------------------------------------------------------------- */

static int ask(const char *socket_path, Bus__Request *q, Bus__Response **ret, char why[static 160])
{
	struct hf_buf request = {}, answer = {};
	Bus__Response *m = NULL;
	int r = hf_pb_pack(&q->base, &request);

	if (r == 0)
		r = hf_collect_ask(socket_path, request.data, request.len, &answer);
	if (r == 0)
		r = hf_pb_unpack(&bus__response__descriptor, answer.data, answer.len, &m);
	hf_buf_done(&request);
	hf_buf_done(&answer);
	if (r < 0 || !m) {
		r = r < 0 ? r : -EPROTO;
		(void)hf_strf(why, 160, "ask '%s': %s", socket_path, strerror(-r));
		return r;
	}
	if (m->error) {
		r = -m->error;
		(void)hf_strf(why, 160, "'%s' refused: %.100s", socket_path, m->message);
		bus__response__free_unpacked(m, NULL);
		return r < 0 ? r : -EPROTO;
	}
	*ret = m;
	return 0;
}

/* Takes the reference. */
static int append_json(json_t *v, struct hf_buf *out)
{
	_cleanup_free_ char *text = v ? json_dumps(v, HF_JSON_FLAGS | JSON_INDENT(1)) : NULL;

	json_decref(v);
	if (!text)
		return -ENOMEM;
	return hf_buf_appendf(out, "%s\n", text);
}

static int make_status(struct hf_collect *c, struct hf_buf *out, bool *ret_cut,
		       char why[static 160])
{
	_cleanup_pb_ Bus__Response *agent = NULL, *watchdog = NULL;
	Bus__StatusRequest what = BUS__STATUS_REQUEST__INIT;
	Bus__Request q = BUS__REQUEST__INIT;
	char agent_why[160] = "", watchdog_why[160] = "";

	(void)ret_cut;
	(void)why;
	q.what_case = BUS__REQUEST__WHAT_STATUS;
	q.status = &what;
	/* One that does not answer is part of the answer. */
	(void)ask(c->paths.agent_sock, &q, &agent, agent_why);
	(void)ask(c->paths.watchdog_sock, &q, &watchdog, watchdog_why);
	return append_json(hf_status_json(agent ? agent->agent_status : NULL, agent_why,
					  watchdog ? watchdog->watchdog_status : NULL,
					  watchdog_why),
			   out);
}

static int make_outages(struct hf_collect *c, struct hf_buf *out, bool *ret_cut,
			char why[static 160])
{
	_cleanup_pb_ Bus__Response *m = NULL;
	Bus__OutagesRequest what = BUS__OUTAGES_REQUEST__INIT;
	Bus__Request q = BUS__REQUEST__INIT;
	int r;

	what.limit = OUTAGES_MAX;
	q.what_case = BUS__REQUEST__WHAT_OUTAGES;
	q.outages = &what;
	r = ask(c->paths.agent_sock, &q, &m, why);
	if (r == 0 && m->what_case != BUS__RESPONSE__WHAT_OUTAGES)
		r = -EPROTO;
	for (size_t i = 0; r == 0 && i < m->outages->n_items; i++)
		r = append_json(hf_outage_json(m->outages->items[i]), out);
	*ret_cut = r == 0 && m->outages->n_items == OUTAGES_MAX;
	return r;
}

static int make_events(struct hf_collect *c, struct hf_buf *out, bool *ret_cut,
		       char why[static 160])
{
	_cleanup_pb_ Bus__Response *m = NULL;
	Bus__EventsRequest what = BUS__EVENTS_REQUEST__INIT;
	Bus__Request q = BUS__REQUEST__INIT;
	int r;

	what.limit = EVENTS_MAX;
	q.what_case = BUS__REQUEST__WHAT_EVENTS;
	q.events = &what;
	r = ask(c->paths.agent_sock, &q, &m, why);
	if (r == 0 && m->what_case != BUS__RESPONSE__WHAT_EVENTS)
		r = -EPROTO;
	for (size_t i = 0; r == 0 && i < m->events->n_items; i++) {
		_cleanup_free_ char *text = NULL;
		json_t *v = hf_event_json(m->events->items[i]);

		text = v ? json_dumps(v, HF_JSON_FLAGS) : NULL;
		json_decref(v);
		r = text ? hf_buf_appendf(out, "%s\n", text) : -ENOMEM;
	}
	*ret_cut = r == 0 && m->events->n_items == EVENTS_MAX;
	return r;
}

/* ---- files ---------------------------------------------------------------------------------------- */

int hf_collect_tail(const char *path, size_t max, struct hf_buf *out, bool *ret_cut)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	off_t from = 0;
	size_t begin = out->len;
	char *eol;
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_cut = (uint64_t)st.st_size > max;
	if (*ret_cut)
		from = st.st_size - (off_t)max;
	r = hf_buf_reserve(out, max + 1);
	if (r < 0)
		return r;
	n = lseek(fd, from, SEEK_SET) < 0 ? -errno : hf_read_full(fd, out->data + begin, max);
	if (n < 0)
		return (int)n;
	out->len += (size_t)n;
	eol = *ret_cut ? memchr(out->data + begin, '\n', (size_t)n) : NULL;
	if (eol) {
		size_t skip = (size_t)(eol + 1 - (char *)(out->data + begin));

		memmove(out->data + begin, out->data + begin + skip, (size_t)n - skip);
		out->len -= skip;
	}
	return 0;
}

static int tail_of(const char *dir, const char *name, struct hf_buf *out, bool *ret_cut,
		   char why[static 160])
{
	char path[256];
	int r;

	(void)hf_strf(path, sizeof(path), "%s/%s", dir, name);
	r = hf_collect_tail(path, HF_COLLECT_SOURCE_MAX, out, ret_cut);
	if (r < 0)
		(void)hf_strf(why, 160, "read '%s': %s", path, strerror(-r));
	return r;
}

/* The daemons' own words: the journal where they are a unit, files in a development instance. */
static int make_log(struct hf_collect *c, struct hf_buf *out, bool *ret_cut, char why[static 160])
{
	int r;

	if (!c->paths.installed)
		return tail_of(c->paths.log_dir, "launch.log", out, ret_cut, why);
	r = hf_collect_journal(UNIT, HF_COLLECT_SOURCE_MAX, out, ret_cut);
	if (r < 0)
		(void)hf_strf(why, 160, "read the journal of " UNIT ": %s", strerror(-r));
	return r;
}

static void ignore_warning(void *userdata, const char *line)
{
	(void)userdata;
	(void)line;
}

/* What is in effect, with every key; secrets are masked by the table that knows them. */
static int make_config(struct hf_collect *c, struct hf_buf *out, bool *ret_cut,
		       char why[static 160])
{
	struct hf_config config = {};
	struct hf_err err = {};
	int r;

	(void)ret_cut;
	r = hf_config_load(&hf_config_table, AT_FDCWD, c->paths.config, &config, ignore_warning,
			   NULL, &err);
	if (r < 0) {
		(void)hf_strlcpy(why, err.msg, 160);
		return r;
	}
	r = hf_config_print(&hf_config_table, &config, out);
	hf_config_done(&hf_config_table, &config);
	return r;
}

static int append_file(const char *path, struct hf_buf *out)
{
	bool cut;

	(void)hf_buf_appendf(out, "\n# %s\n", path);
	/* Not every host has every file. */
	return hf_collect_tail(path, 65536, out, &cut) == -ENOMEM ? -ENOMEM : 0;
}

/* /proc has files without a size. */
static int append_proc(const char *path, struct hf_buf *out)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (hf_read_file(AT_FDCWD, path, 65536, &text, &len) < 0)
		return 0;
	return hf_buf_appendf(out, "\n# %s\n%s", path, text);
}

static int make_host(struct hf_collect *c, struct hf_buf *out, bool *ret_cut, char why[static 160])
{
	static const char *const proc[] = {"/proc/uptime",
					   "/proc/loadavg",
					   "/proc/meminfo",
					   "/proc/pressure/cpu",
					   "/proc/pressure/memory",
					   "/proc/pressure/io",
					   "/proc/sys/kernel/tainted"};
	struct utsname u;
	char now[HF_RFC3339_SIZE];
	int r;

	(void)c;
	(void)ret_cut;
	(void)why;
	if (uname(&u) < 0)
		return -errno;
	hf_format_rfc3339(hf_now_realtime_ns(), now);
	r = hf_buf_appendf(out, "collected %s by holdfast-collect %s\n%s %s %s %s %s\n", now,
			   HF_VERSION, u.sysname, u.nodename, u.release, u.version, u.machine);
	if (r == 0)
		r = append_file("/etc/os-release", out);
	for (size_t i = 0; i < HF_ARRAY_SIZE(proc) && r == 0; i++)
		r = append_proc(proc[i], out);
	return r;
}

/* Names, sizes and times below the state directory; what is in it are keys and telemetry. */
static int make_state(struct hf_collect *c, struct hf_buf *out, bool *ret_cut, char why[static 160])
{
	const char *const dirs[] = {c->paths.state_dir, c->paths.agent_state,
				    c->paths.watchdog_state, c->paths.run_dir};
	int r = 0;

	(void)ret_cut;
	(void)why;
	for (size_t i = 0; i < HF_ARRAY_SIZE(dirs) && r == 0; i++)
		r = hf_collect_list(dirs[i], out);
	return r;
}

const struct hf_collect_source hf_collect_sources[] = {
	{"host.txt", make_host},        {"status.json", make_status}, {"config.yml", make_config},
	{"outages.json", make_outages}, {"log.txt", make_log},        {"events.jsonl", make_events},
	{"state.txt", make_state},
};
const size_t hf_collect_sources_n = HF_ARRAY_SIZE(hf_collect_sources);

/* ---- into the archive --------------------------------------------------------------------------------- */

int hf_collect_add(struct hf_collect *c, const struct hf_collect_source *source)
{
	struct hf_buf raw = {}, clean = {};
	char why[160] = "", name[100];
	bool cut = false;
	long n = 0;
	int r;

	r = source->make(c, &raw, &cut, why);
	if (r == 0 && raw.len > HF_COLLECT_SOURCE_MAX) {
		raw.len = HF_COLLECT_SOURCE_MAX;
		cut = true;
	}
	if (r == 0) {
		n = hf_redact((const char *)raw.data, raw.len, &clean);
		r = n < 0 ? (int)n : 0;
	}
	if (r == 0) {
		(void)hf_strf(name, sizeof(name), "holdfast/%s", source->name);
		r = hf_archive_add(&c->archive, name, clean.data, clean.len);
		if (r == -EFBIG)
			(void)hf_strlcpy(why, "the archive is full", sizeof(why));
	}
	if (r < 0)
		c->failed++;
	else
		c->redactions += (unsigned long long)n;
	hf_sanitize(why);
	for (char *p = why; *p; p++)
		if (*p == '"' || *p == '\\')
			*p = '\'';
	(void)hf_buf_appendf(
		&c->manifest,
		"%s{\"name\":\"%s\",\"bytes\":%zu,\"cut\":%s,\"redacted\":%ld,\"error\":"
		"\"%s\"}",
		c->files++ ? "," : "", source->name, r < 0 ? 0 : clean.len, cut ? "true" : "false",
		n < 0 ? 0 : n, r < 0 && !*why ? strerror(-r) : why);
	hf_buf_done(&raw);
	hf_buf_done(&clean);
	return r == -EFBIG ? r : 0;
}

void hf_collect_manifest(const struct hf_collect *c, struct hf_buf *out)
{
	char now[HF_RFC3339_SIZE];

	hf_format_rfc3339(hf_now_realtime_ns(), now);
	(void)hf_buf_appendf(
		out,
		"{\"collected\":\"%s\",\"version\":\"%s\",\"redacted\":%llu,\"failed\":%u,"
		"\"files\":[%.*s]}\n",
		now, HF_VERSION, c->redactions, c->failed, (int)c->manifest.len,
		(const char *)c->manifest.data);
}
