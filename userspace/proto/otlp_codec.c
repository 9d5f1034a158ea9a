/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events as OTLP log records.
 *
 * One table says which attribute is which field; encoder and decoder both walk it, so neither can
 * know a field that the other does not.
 *
 * I1 the table is sorted by name (the decoder searches it; a test checks).
 * I2 a part of an event (conn, exit …) that is there has at least its `always` attribute, so that a
 *    part full of zeros (exit code 0) survives.
 */
#include "userspace/proto/otlp_codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "base/assert.h"
#include "userspace/proto/batch.h"
#include "userspace/proto/frame.h"

enum group { EVENT, CONN, EXIT, LOSS, DROP, OOM, _GROUP_MAX };

enum type {
	U32,
	U64,
	I32,
	BOOL,
	STRING,
	ADDRESS, /* of an "address:port" string */
	PORT,
};

struct attribute {
	const char *name;
	enum group group;
	enum type type;
	size_t offset;
	bool always;
};

/* Where a part hangs in the event, and what it is made of. */
static const struct {
	size_t offset;
	const ProtobufCMessageDescriptor *desc;
} groups[_GROUP_MAX] = {
	[CONN] = {offsetof(Bus__Event, conn), &bus__conn_info__descriptor},
	[EXIT] = {offsetof(Bus__Event, exit), &bus__exit_info__descriptor},
	[LOSS] = {offsetof(Bus__Event, loss), &bus__loss_info__descriptor},
	[DROP] = {offsetof(Bus__Event, drop), &bus__drop_info__descriptor},
	[OOM] = {offsetof(Bus__Event, oom), &bus__oom_info__descriptor},
};

#define E(t, field) EVENT, t, offsetof(Bus__Event, field), false
#define C(t, field) CONN, t, offsetof(Bus__ConnInfo, field), false
#define X(t, field) EXIT, t, offsetof(Bus__ExitInfo, field), false
#define L(t, field) LOSS, t, offsetof(Bus__LossInfo, field), false
#define D(t, field) DROP, t, offsetof(Bus__DropInfo, field), false
#define O(t, field) OOM, t, offsetof(Bus__OomInfo, field), false

/* clang-format off */
static const struct attribute attributes[] = {
	{"container.id",                    E(STRING, container)},
	{"cpu.logical_number",              E(U32, cpu)},
	{"error.type",                      C(STRING, err_name)},
	{"holdfast.because",                E(STRING, because)},
	{"holdfast.boot_ns",                E(U64, boot_ns)},
	{"holdfast.conn.age_us",            C(U64, age_us)},
	{"holdfast.conn.bytes_received",    C(U64, bytes_received)},
	{"holdfast.conn.bytes_sent",        C(U64, bytes_sent)},
	{"holdfast.conn.closed_first",      C(STRING, closed_first)},
	{"holdfast.conn.cookie",            CONN, U64, offsetof(Bus__ConnInfo, cookie), true},
	{"holdfast.conn.errno",             C(I32, err)},
	{"holdfast.conn.retransmits",       C(U32, retransmits)},
	{"holdfast.conn.srtt_us",           C(U32, srtt_us)},
	{"holdfast.conn.state",             C(STRING, state)},
	{"holdfast.conn.timeout",           C(STRING, timeout)},
	{"holdfast.conn.unacked",           C(U64, unacked)},
	{"holdfast.conn.unread",            C(U64, unread)},
	{"holdfast.conn.unsent",            C(U64, unsent)},
	{"holdfast.drop.count",             DROP, U64, offsetof(Bus__DropInfo, count), true},
	{"holdfast.drop.window_ms",         D(U64, window_ms)},
	{"holdfast.exit.by_comm",           X(STRING, by_comm)},
	{"holdfast.exit.by_pid",            X(U32, by_pid)},
	{"holdfast.exit.by_uid",            X(U32, by_uid)},
	{"holdfast.exit.core",              X(BOOL, core)},
	{"holdfast.exit.oom",               X(BOOL, oom)},
	{"holdfast.exit.runtime_ms",        X(U64, runtime_ms)},
	{"holdfast.exit.signal",            X(I32, signal)},
	{"holdfast.exit.threads",           X(U32, threads)},
	{"holdfast.loss.blind_ms",          L(U64, blind_ms)},
	{"holdfast.loss.cause",             L(STRING, cause)},
	{"holdfast.loss.count",             LOSS, U64, offsetof(Bus__LossInfo, count), true},
	{"holdfast.loss.first_seq",         L(U64, first_seq)},
	{"holdfast.loss.last_seq",          L(U64, last_seq)},
	{"holdfast.netns",                  E(U32, netns)},
	{"holdfast.oom.memcg",              O(STRING, memcg)},
	{"holdfast.oom.rss_kb",             OOM, U64, offsetof(Bus__OomInfo, rss_kb), true},
	{"holdfast.oom.score_adj",          O(I32, oom_score_adj)},
	{"holdfast.oom.total_vm_kb",        O(U64, total_vm_kb)},
	{"holdfast.owner_src",              E(STRING, owner_src)},
	{"holdfast.process.start_boot_ns",  E(U64, start_boot_ns)},
	{"holdfast.reason",                 E(STRING, reason)},
	{"holdfast.ring",                   E(STRING, ring)},
	{"holdfast.seq",                    E(U64, seq)},
	{"holdfast.unit",                   E(STRING, unit)},
	{"holdfast.watched",                E(BOOL, watched)},
	{"network.local.address",           E(ADDRESS, local)},
	{"network.local.port",              E(PORT, local)},
	{"network.peer.address",            E(ADDRESS, peer)},
	{"network.peer.port",               E(PORT, peer)},
	{"process.executable.name",         E(STRING, comm)},
	{"process.exit.code",               EXIT, I32, offsetof(Bus__ExitInfo, code), true},
	{"process.linux.cgroup",            E(STRING, cgroup)},
	{"process.parent_pid",              X(U32, ppid)},
	{"process.pid",                     E(U32, pid)},
	{"process.user.id",                 E(U32, uid)},
};
/* clang-format on */

#undef E
#undef C
#undef X
#undef L
#undef D
#undef O

#define ATTRIBUTES_MAX HF_ARRAY_SIZE(attributes)

unsigned hf_otlp_severity(const char *kind)
{
	/* INFO, WARN and ERROR of the logs data model; a kind we do not know is information. */
	if (hf_streq(kind, "proc.oom") || hf_streq(kind, "telemetry.loss"))
		return 17;
	if (hf_streq(kind, "proc.exit") || hf_streq(kind, "conn.closed") ||
	    (!hf_startswith(kind, "conn.") && !hf_startswith(kind, "skb.")))
		return 9;
	return 13;
}

static const char *severity_text(unsigned number)
{
	return number >= 17 ? "ERROR" : number >= 13 ? "WARN" : "INFO";
}

/* ---- encoding ------------------------------------------------------------------------------- */

/* The attributes of one record, in fixed arrays: there are never more than the table has. */
struct record {
	Otlp__KeyValue kv[ATTRIBUTES_MAX];
	Otlp__KeyValue *kvp[ATTRIBUTES_MAX];
	Otlp__AnyValue value[ATTRIBUTES_MAX];
	char *owned[ATTRIBUTES_MAX + 4]; /* copies made to mend or cut text */
	size_t n, n_owned;
	bool oom;
};

static void record_done(struct record *r)
{
	for (size_t i = 0; i < r->n_owned; i++)
		free(r->owned[i]);
	r->n = r->n_owned = 0;
}

/* s itself, or a mended copy that the record owns. Attribute and body text only. */
static char *clean_text(struct record *r, const char *s, size_t len)
{
	char *copy;

	if (!s[len] && hf_utf8_valid(s, len))
		return (char *)s;
	copy = strndup(s, len);
	if (!copy) {
		r->oom = true;
		return (char *)"";
	}
	if (!hf_utf8_valid(copy, len))
		hf_sanitize(copy);
	r->owned[r->n_owned++] = copy;
	return copy;
}

static Otlp__AnyValue *add(struct record *r, const char *name)
{
	size_t i = r->n++;

	otlp__key_value__init(&r->kv[i]);
	otlp__any_value__init(&r->value[i]);
	r->kv[i].key = (char *)name;
	r->kv[i].value = &r->value[i];
	r->kvp[i] = &r->kv[i];
	return &r->value[i];
}

static void add_string(struct record *r, const char *name, const char *s, size_t len)
{
	Otlp__AnyValue *v;

	if (len == 0)
		return;
	v = add(r, name);
	v->value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
	v->string_value = clean_text(r, s, len);
}

static void add_int(struct record *r, const char *name, int64_t i)
{
	Otlp__AnyValue *v = add(r, name);

	v->value_case = OTLP__ANY_VALUE__VALUE_INT_VALUE;
	v->int_value = i;
}

/*
 * Cuts "1.2.3.4:80" or "[2001:db8::1]:80". Returns false for anything else, which then travels whole
 * as the address.
 */
static bool split_address(const char *s, const char **ret_addr, size_t *ret_len, uint32_t *ret_port)
{
	const char *colon = strrchr(s, ':');
	size_t len = colon ? (size_t)(colon - s) : 0;

	if (len == 0 || hf_parse_u32(colon + 1, ret_port) < 0 || *ret_port > UINT16_MAX)
		return false;
	/* Leading zeros would come back as another text. */
	if (colon[1] == '0' && colon[2])
		return false;
	if (s[0] == '[' && s[len - 1] == ']') {
		*ret_addr = s + 1;
		*ret_len = len - 2;
		return memchr(s + 1, ':', len - 2) && !memchr(s + 1, ']', len - 2);
	}
	*ret_addr = s;
	*ret_len = len;
	return !memchr(s, ':', len);
}

static void add_attribute(struct record *r, const struct attribute *a, const uint8_t *base)
{
	const void *field = base + a->offset;
	const char *s = NULL, *addr;
	uint32_t u32, port;
	uint64_t u64;
	int32_t i32;
	size_t len;

	switch (a->type) {
	case U32:
		memcpy(&u32, field, sizeof(u32));
		if (u32 || a->always)
			add_int(r, a->name, u32);
		return;
	case U64:
		memcpy(&u64, field, sizeof(u64));
		if (u64 || a->always)
			add_int(r, a->name, (int64_t)u64);
		return;
	case I32:
		memcpy(&i32, field, sizeof(i32));
		if (i32 || a->always)
			add_int(r, a->name, i32);
		return;
	case BOOL: {
		protobuf_c_boolean b;

		memcpy(&b, field, sizeof(b));
		if (b) {
			Otlp__AnyValue *v = add(r, a->name);

			v->value_case = OTLP__ANY_VALUE__VALUE_BOOL_VALUE;
			v->bool_value = true;
		}
		return;
	}
	case STRING:
	case ADDRESS:
	case PORT:
		memcpy(&s, field, sizeof(s));
		break;
	}
	if (!s || !*s)
		return;
	if (a->type == STRING) {
		add_string(r, a->name, s, strlen(s));
	} else if (!split_address(s, &addr, &len, &port)) {
		if (a->type == ADDRESS)
			add_string(r, a->name, s, strlen(s));
	} else if (a->type == ADDRESS) {
		add_string(r, a->name, addr, len);
	} else {
		add_int(r, a->name, port);
	}
}

static int append_varint(struct hf_buf *b, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	do {
		bytes[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return hf_buf_append(b, bytes, n);
}

/* Tag and length of an embedded message. */
static int append_header(struct hf_buf *b, unsigned field, size_t len)
{
	int r = append_varint(b, field << 3 | 2);

	return r < 0 ? r : append_varint(b, len);
}

static int append_message(struct hf_buf *b, unsigned field, const ProtobufCMessage *m)
{
	size_t size = protobuf_c_message_get_packed_size(m);
	int r = append_header(b, field, size);

	if (r == 0)
		r = hf_buf_reserve(b, size);
	if (r == 0)
		b->len += protobuf_c_message_pack(m, b->data + b->len);
	return r;
}

/* Appends the event as ScopeLogs.log_records. */
static int append_event(struct hf_buf *b, const Bus__Event *e, struct record *rec)
{
	Otlp__LogRecord log = OTLP__LOG_RECORD__INIT;
	Otlp__AnyValue body = OTLP__ANY_VALUE__INIT;
	int r;

	rec->oom = false;
	for (size_t i = 0; i < HF_ARRAY_SIZE(attributes); i++) {
		const struct attribute *a = &attributes[i];
		const uint8_t *base = (const uint8_t *)e;

		if (a->group != EVENT) {
			memcpy(&base, base + groups[a->group].offset, sizeof(base));
			if (!base)
				continue;
		}
		add_attribute(rec, a, base);
	}
	log.time_unix_nano = e->time_unix_ns;
	log.observed_time_unix_nano = e->time_unix_ns;
	log.severity_number = (int32_t)hf_otlp_severity(e->kind);
	log.severity_text = (char *)severity_text((unsigned)log.severity_number);
	log.event_name = clean_text(rec, e->kind, strlen(e->kind));
	if (e->detail && *e->detail) {
		body.value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
		body.string_value = clean_text(rec, e->detail, strlen(e->detail));
		log.body = &body;
	}
	log.attributes = rec->kvp;
	log.n_attributes = rec->n;
	r = rec->oom ? -ENOMEM : append_message(b, 2, &log.base);
	record_done(rec);
	return r;
}

/* Appends ResourceLogs.resource. */
static int append_resource(struct hf_buf *b, const struct hf_otlp_resource *res, struct record *rec)
{
	Otlp__Resource resource = OTLP__RESOURCE__INIT;
	const struct {
		const char *name, *value;
	} all[] = {
		{"service.name", "holdfast-agent"},
		{"service.version", res->version},
		{"service.instance.id", res->instance_uid},
		{"host.name", res->hostname},
		{"host.id", res->machine_id},
		{"os.type", "linux"},
		{"holdfast.boot.id", res->boot_id},
	};
	int r;

	for (size_t i = 0; i < HF_ARRAY_SIZE(all); i++)
		if (all[i].value)
			add_string(rec, all[i].name, all[i].value, strlen(all[i].value));
	resource.attributes = rec->kvp;
	resource.n_attributes = rec->n;
	r = rec->oom ? -ENOMEM : append_message(b, 1, &resource.base);
	record_done(rec);
	return r;
}

/* What the three levels around the records cost at most: tags, lengths, the scope. */
#define ENVELOPE_MAX 64u

static int encode(const Bus__Event *const *events, size_t n, const struct hf_otlp_resource *res,
		  size_t max, struct record *rec, struct hf_buf *resource, struct hf_buf *logs,
		  struct hf_buf *ret)
{
	Otlp__InstrumentationScope scope = OTLP__INSTRUMENTATION_SCOPE__INIT;
	size_t done = 0, resource_logs;
	struct hf_buf head = {};
	int r;

	r = append_resource(resource, res, rec);
	if (r < 0)
		return r;
	scope.name = (char *)"io.holdfast";
	r = append_message(logs, 1, &scope.base);
	for (; r == 0 && done < n; done++) {
		size_t before = logs->len;

		r = append_event(logs, events[done], rec);
		if (r < 0)
			break;
		if (resource->len + logs->len + ENVELOPE_MAX > max) {
			logs->len = before;
			break;
		}
	}
	if (r < 0)
		return r;
	if (done == 0 && n > 0)
		return -EMSGSIZE;

	/* ExportLogsServiceRequest.resource_logs { resource, scope_logs { scope, records } } */
	r = append_header(&head, 2, logs->len);
	resource_logs = resource->len + head.len + logs->len;
	if (r == 0)
		r = append_header(ret, 1, resource_logs);
	if (r == 0)
		r = hf_buf_append(ret, resource->data, resource->len);
	if (r == 0)
		r = hf_buf_append(ret, head.data, head.len);
	if (r == 0)
		r = hf_buf_append(ret, logs->data, logs->len);
	hf_buf_done(&head);
	return r < 0 ? r : (int)done;
}

int hf_otlp_encode(const Bus__Event *const *events, size_t n, const struct hf_otlp_resource *res,
		   size_t max, struct hf_buf *ret)
{
	_cleanup_free_ struct record *rec = calloc(1, sizeof(*rec));
	struct hf_buf resource = {}, logs = {};
	size_t start = ret->len;
	int r;

	if (!rec)
		return -ENOMEM;
	if (n > HF_BATCH_RECORDS_MAX)
		n = HF_BATCH_RECORDS_MAX;
	r = encode(events, n, res, max, rec, &resource, &logs, ret);
	if (r < 0)
		ret->len = start;
	hf_buf_done(&resource);
	hf_buf_done(&logs);
	return r;
}

/* ---- deflate -------------------------------------------------------------------------------- */

#define RAW_WINDOW_BITS (-15)
/*
 * Ours are small: 48 KiB of memory instead of 256 for a batch of a few KiB, which malloc takes from
 * and gives back to the kernel each time. Any window up to 15 bits can be read.
 */
#define RAW_DEFLATE_BITS (-12)
#define DEFLATE_MEMORY   6

int hf_otlp_deflate(const void *data, size_t len, struct hf_buf *ret)
{
	z_stream z = {};
	uLong bound;
	int r, zr;

	if (len > UINT32_MAX / 2)
		return -EMSGSIZE;
	if (deflateInit2(&z, 6, Z_DEFLATED, RAW_DEFLATE_BITS, DEFLATE_MEMORY, Z_DEFAULT_STRATEGY) !=
	    Z_OK)
		return -ENOMEM;
	bound = deflateBound(&z, len);
	r = hf_buf_reserve(ret, bound);
	if (r < 0) {
		(void)deflateEnd(&z);
		return r;
	}
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)len;
	z.next_out = ret->data + ret->len;
	z.avail_out = (uInt)bound;
	zr = deflate(&z, Z_FINISH);
	if (zr == Z_STREAM_END)
		ret->len += bound - z.avail_out;
	(void)deflateEnd(&z);
	return zr == Z_STREAM_END ? 0 : -EIO;
}

int hf_otlp_inflate(const void *data, size_t len, size_t max_inflated, struct hf_buf *ret)
{
	size_t start = ret->len, room = 4096;
	z_stream z = {};
	int r = 0, zr = Z_OK;

	if (len > UINT32_MAX)
		return -EMSGSIZE;
	if (inflateInit2(&z, RAW_WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)len;
	while (zr != Z_STREAM_END) {
		size_t had = ret->len - start, want;

		/* One byte above the cap tells "exactly the cap" from "more". */
		want = room < max_inflated + 1 - had ? room : max_inflated + 1 - had;
		r = hf_buf_reserve(ret, want);
		if (r < 0)
			break;
		z.next_out = ret->data + ret->len;
		z.avail_out = (uInt)want;
		zr = inflate(&z, Z_NO_FLUSH);
		ret->len += want - z.avail_out;
		if (zr != Z_OK && zr != Z_STREAM_END) {
			/* Z_BUF_ERROR: the data ended before the stream did. */
			r = zr == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
			break;
		}
		if (ret->len - start > max_inflated) {
			r = -EMSGSIZE;
			break;
		}
		room *= 2;
	}
	if (r == 0 && z.avail_in > 0)
		r = -EBADMSG;
	(void)inflateEnd(&z);
	if (r < 0)
		ret->len = start;
	return r;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static int compare_name(const void *key, const void *member)
{
	const struct attribute *a = member;

	return strcmp(key, a->name);
}

/* Addresses come in two attributes; they are joined when the record is complete. */
struct halves {
	const char *address;
	int64_t port; /* -1: none */
};

static int set_string(char **field, const char *s)
{
	char *copy;

	if (!*s)
		return 0;
	copy = strdup(s);
	if (!copy)
		return -ENOMEM;
	/* A stranger may send an attribute twice; the last one counts. */
	if (*field != protobuf_c_empty_string)
		free(*field);
	*field = copy;
	return 0;
}

/* The part of the event that the attribute belongs to, made when it is the first of it. */
static uint8_t *group_base(Bus__Event *e, enum group g)
{
	uint8_t *member = (uint8_t *)e + groups[g].offset;
	ProtobufCMessage *m;

	if (g == EVENT)
		return (uint8_t *)e;
	memcpy(&m, member, sizeof(m));
	if (!m) {
		m = malloc(groups[g].desc->sizeof_message);
		if (!m)
			return NULL;
		groups[g].desc->message_init(m);
		memcpy(member, &m, sizeof(m));
	}
	return (uint8_t *)m;
}

static int set_attribute(Bus__Event *e, const struct attribute *a, const Otlp__AnyValue *v,
			 struct halves *local, struct halves *peer)
{
	struct halves *half = a->offset == offsetof(Bus__Event, local) ? local : peer;
	Otlp__AnyValue__ValueCase want;
	uint8_t *base;

	want = a->type == BOOL                           ? OTLP__ANY_VALUE__VALUE_BOOL_VALUE
	       : a->type == STRING || a->type == ADDRESS ? OTLP__ANY_VALUE__VALUE_STRING_VALUE
							 : OTLP__ANY_VALUE__VALUE_INT_VALUE;
	if (v->value_case != want)
		return 0;
	base = group_base(e, a->group);
	if (!base)
		return -ENOMEM;
	base += a->offset;
	switch (a->type) {
	case U32:
		if (v->int_value >= 0 && v->int_value <= UINT32_MAX)
			*(uint32_t *)(void *)base = (uint32_t)v->int_value;
		return 0;
	case U64:
		*(uint64_t *)(void *)base = (uint64_t)v->int_value;
		return 0;
	case I32:
		if (v->int_value >= INT32_MIN && v->int_value <= INT32_MAX)
			*(int32_t *)(void *)base = (int32_t)v->int_value;
		return 0;
	case BOOL:
		*(protobuf_c_boolean *)(void *)base = v->bool_value;
		return 0;
	case STRING:
		return set_string((char **)(void *)base, v->string_value);
	case ADDRESS:
		half->address = v->string_value;
		return 0;
	case PORT:
		if (v->int_value >= 0 && v->int_value <= UINT16_MAX)
			half->port = v->int_value;
		return 0;
	}
	return 0;
}

static int join_address(const struct halves *h, char **field)
{
	_cleanup_free_ char *s = NULL;

	if (!h->address || !*h->address)
		return 0;
	if (h->port < 0)
		return set_string(field, h->address);
	s = hf_asprintf(strchr(h->address, ':') ? "[%s]:%u" : "%s:%u", h->address,
			(unsigned)h->port);
	return s ? set_string(field, s) : -ENOMEM;
}

static int decode_record(const Otlp__LogRecord *log, Bus__Event *e)
{
	struct halves local = {.port = -1}, peer = {.port = -1};
	int r;

	e->time_unix_ns = log->time_unix_nano ? log->time_unix_nano : log->observed_time_unix_nano;
	r = set_string(&e->kind, log->event_name);
	if (r == 0 && log->body && log->body->value_case == OTLP__ANY_VALUE__VALUE_STRING_VALUE)
		r = set_string(&e->detail, log->body->string_value);
	for (size_t i = 0; r == 0 && i < log->n_attributes; i++) {
		const Otlp__KeyValue *kv = log->attributes[i];
		const struct attribute *a;

		if (!kv->value)
			continue;
		a = bsearch(kv->key, attributes, HF_ARRAY_SIZE(attributes), sizeof(*attributes),
			    compare_name);
		if (a)
			r = set_attribute(e, a, kv->value, &local, &peer);
	}
	if (r == 0)
		r = join_address(&local, &e->local);
	if (r == 0)
		r = join_address(&peer, &e->peer);
	return r;
}

static size_t count_records(const Otlp__ExportLogsServiceRequest *req)
{
	size_t n = 0;

	for (size_t i = 0; i < req->n_resource_logs; i++)
		for (size_t k = 0; k < req->resource_logs[i]->n_scope_logs; k++)
			n += req->resource_logs[i]->scope_logs[k]->n_log_records;
	return n;
}

static int decode_scope(const Otlp__ScopeLogs *scope, Bus__Events *events)
{
	for (size_t i = 0; i < scope->n_log_records; i++) {
		Bus__Event *e = malloc(sizeof(*e));
		int r;

		if (!e)
			return -ENOMEM;
		bus__event__init(e);
		hf_assert(events->items); /* sized by count_records() over the same lists */
		events->items[events->n_items++] = e;
		r = decode_record(scope->log_records[i], e);
		if (r < 0)
			return r;
	}
	return 0;
}

static void find_boot_id(const Otlp__ExportLogsServiceRequest *req, char *dst, size_t size)
{
	const Otlp__Resource *res = req->n_resource_logs ? req->resource_logs[0]->resource : NULL;

	dst[0] = '\0';
	for (size_t i = 0; res && i < res->n_attributes; i++) {
		const Otlp__KeyValue *kv = res->attributes[i];

		if (hf_streq(kv->key, "holdfast.boot.id") && kv->value &&
		    kv->value->value_case == OTLP__ANY_VALUE__VALUE_STRING_VALUE)
			(void)hf_strlcpy(dst, kv->value->string_value, size);
	}
}

static int decode(const void *otlp, size_t len, Bus__Events **ret, char *ret_boot_id,
		  size_t boot_id_size)
{
	_cleanup_pb_ Otlp__ExportLogsServiceRequest *req = NULL;
	_cleanup_pb_ Bus__Events *events = NULL;
	size_t n;
	int r;

	r = hf_pb_unpack(&otlp__export_logs_service_request__descriptor, otlp, len, &req);
	if (r < 0)
		return r;
	n = count_records(req);
	if (n > HF_BATCH_RECORDS_MAX)
		return -EMSGSIZE;
	events = malloc(sizeof(*events));
	if (!events)
		return -ENOMEM;
	bus__events__init(events);
	events->items = n ? calloc(n, sizeof(*events->items)) : NULL;
	if (n && !events->items)
		return -ENOMEM;
	for (size_t i = 0; i < req->n_resource_logs; i++) {
		for (size_t k = 0; k < req->resource_logs[i]->n_scope_logs; k++) {
			r = decode_scope(req->resource_logs[i]->scope_logs[k], events);
			if (r < 0)
				return r;
		}
	}
	if (ret_boot_id)
		find_boot_id(req, ret_boot_id, boot_id_size);
	*ret = TAKE_PTR(events);
	return 0;
}

int hf_otlp_decode(const void *otlp, size_t len, Bus__Events **ret)
{
	return decode(otlp, len, ret, NULL, 0);
}

int hf_otlp_decode_deflated(const void *data, size_t len, size_t max_inflated, Bus__Events **ret,
			    char *ret_boot_id, size_t boot_id_size)
{
	struct hf_buf otlp = {};
	int r;

	r = hf_otlp_inflate(data, len, max_inflated, &otlp);
	if (r == 0)
		r = decode(otlp.data, otlp.len, ret, ret_boot_id, boot_id_size);
	hf_buf_done(&otlp);
	return r;
}
