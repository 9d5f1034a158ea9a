/* SPDX-License-Identifier: Apache-2.0 */
/* Events as JSON, and the small writers that outages and status share. */
#include "userspace/proto/event_json.h"

#include "base/clock.h"
#include "base/str.h"

void hf_json_put(json_t **o, const char *key, json_t *value)
{
	if (*o && value && json_object_set_new_nocheck(*o, key, value) == 0)
		return;
	/* json_object_set_new() has taken the value over even when it failed. */
	if (!*o)
		json_decref(value);
	json_decref(*o);
	*o = NULL;
}

void hf_json_append(json_t **array, json_t *value)
{
	if (*array && value && json_array_append_new(*array, value) == 0)
		return;
	if (!*array)
		json_decref(value);
	json_decref(*array);
	*array = NULL;
}

json_t *hf_json_time(uint64_t unix_ns)
{
	char text[HF_RFC3339_SIZE];

	if (unix_ns == 0)
		return json_null();
	hf_format_rfc3339(unix_ns, text);
	return json_string_nocheck(text);
}

/* How many bytes of s are one well-formed character; 0: none. */
static size_t utf8_char_len(const char *s)
{
	for (size_t n = 1; n <= 4; n++) {
		if (n > 1 && !s[n - 1])
			return 0;
		if (hf_utf8_valid(s, n))
			return n;
	}
	return 0;
}

json_t *hf_json_string(const char *s)
{
	struct hf_buf mended = {};
	json_t *v = NULL;
	int r = 0;

	if (!s || !*s)
		return json_null();
	if (hf_utf8_valid(s, strlen(s)))
		return json_string_nocheck(s);
	while (r == 0 && *s) {
		size_t n = utf8_char_len(s);

		r = n ? hf_buf_append(&mended, s, n) : hf_buf_append(&mended, "\xef\xbf\xbd", 3);
		s += n ? n : 1;
	}
	if (r == 0)
		v = json_stringn_nocheck((const char *)mended.data, mended.len);
	hf_buf_done(&mended);
	return v;
}

json_t *hf_json_u64(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

json_t *hf_json_u64_or_null(uint64_t v)
{
	return v ? hf_json_u64(v) : json_null();
}

json_t *hf_json_us_as_ms(uint64_t us)
{
	return json_real((double)us / 1e3);
}

json_t *hf_json_ms_as_s(uint64_t ms)
{
	return json_real((double)ms / 1e3);
}

static void put_conn(json_t **o, const Bus__ConnInfo *c)
{
	hf_json_put(o, "cookie", hf_json_u64_or_null(c->cookie));
	hf_json_put(o, "state", hf_json_string(c->state));
	hf_json_put(o, "err", hf_json_u64_or_null(c->err > 0 ? (uint64_t)c->err : 0));
	hf_json_put(o, "err_name", hf_json_string(c->err_name));
	hf_json_put(o, "age_us", hf_json_u64(c->age_us));
	hf_json_put(o, "bytes_sent", hf_json_u64(c->bytes_sent));
	hf_json_put(o, "bytes_received", hf_json_u64(c->bytes_received));
	hf_json_put(o, "unread", hf_json_u64(c->unread));
	hf_json_put(o, "unacked", hf_json_u64(c->unacked));
	hf_json_put(o, "unsent", hf_json_u64(c->unsent));
	hf_json_put(o, "srtt_us", hf_json_u64_or_null(c->srtt_us));
	hf_json_put(o, "retransmits", hf_json_u64(c->retransmits));
	hf_json_put(o, "timeout", hf_json_string(c->timeout));
	hf_json_put(o, "closed_first", hf_json_string(c->closed_first));
}

static void put_exit(json_t **o, const Bus__ExitInfo *x)
{
	hf_json_put(o, "code", x->signal ? json_null() : json_integer(x->code));
	hf_json_put(o, "signal", x->signal ? json_integer(x->signal) : json_null());
	hf_json_put(o, "core", json_boolean(x->core));
	hf_json_put(o, "by_pid", hf_json_u64_or_null(x->by_pid));
	hf_json_put(o, "by_comm", hf_json_string(x->by_comm));
	/* uid 0 is root, so only the pid says whether there was a sender. */
	hf_json_put(o, "by_uid", x->by_pid ? hf_json_u64(x->by_uid) : json_null());
	hf_json_put(o, "oom", json_boolean(x->oom));
	hf_json_put(o, "runtime_ms", hf_json_u64(x->runtime_ms));
	hf_json_put(o, "ppid", hf_json_u64_or_null(x->ppid));
	hf_json_put(o, "threads", hf_json_u64_or_null(x->threads));
}

json_t *hf_event_json(const Bus__Event *e)
{
	json_t *o = json_object();

	hf_json_put(&o, "time", hf_json_time(e->time_unix_ns));
	hf_json_put(&o, "kind", hf_json_string(e->kind));
	hf_json_put(&o, "ring", hf_json_string(e->ring));
	hf_json_put(&o, "cpu", hf_json_u64(e->cpu));
	hf_json_put(&o, "seq", hf_json_u64(e->seq));
	hf_json_put(&o, "pid", hf_json_u64_or_null(e->pid));
	hf_json_put(&o, "comm", hf_json_string(e->comm));
	hf_json_put(&o, "uid", e->pid ? hf_json_u64(e->uid) : json_null());
	hf_json_put(&o, "cgroup", hf_json_string(e->cgroup));
	hf_json_put(&o, "unit", hf_json_string(e->unit));
	hf_json_put(&o, "netns", hf_json_u64_or_null(e->netns));
	hf_json_put(&o, "owner_src", hf_json_string(e->owner_src));
	hf_json_put(&o, "local", hf_json_string(e->local));
	hf_json_put(&o, "peer", hf_json_string(e->peer));
	hf_json_put(&o, "reason", hf_json_string(e->reason));
	hf_json_put(&o, "detail", hf_json_string(e->detail));
	hf_json_put(&o, "because", hf_json_string(e->because));
	hf_json_put(&o, "container", hf_json_string(e->container));
	hf_json_put(&o, "watched", json_boolean(e->watched));
	if (e->conn)
		put_conn(&o, e->conn);
	if (e->exit)
		put_exit(&o, e->exit);
	if (e->loss) {
		hf_json_put(&o, "lost", hf_json_u64(e->loss->count));
		hf_json_put(&o, "first_seq", hf_json_u64_or_null(e->loss->first_seq));
		hf_json_put(&o, "last_seq", hf_json_u64_or_null(e->loss->last_seq));
		hf_json_put(&o, "cause", hf_json_string(e->loss->cause));
		hf_json_put(&o, "blind_ms", hf_json_u64(e->loss->blind_ms));
	}
	if (e->drop) {
		hf_json_put(&o, "count", hf_json_u64(e->drop->count));
		hf_json_put(&o, "window_ms", hf_json_u64(e->drop->window_ms));
	}
	if (e->oom) {
		hf_json_put(&o, "total_vm_kb", hf_json_u64(e->oom->total_vm_kb));
		hf_json_put(&o, "rss_kb", hf_json_u64(e->oom->rss_kb));
		hf_json_put(&o, "oom_score_adj", json_integer(e->oom->oom_score_adj));
		hf_json_put(&o, "memcg", hf_json_string(e->oom->memcg));
	}
	return o;
}
