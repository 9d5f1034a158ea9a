/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files by table: one entry per key says its type, range, default, unit, meaning and
 * whether a change applies at once, and is all there is to know about it. The table drives loading,
 * `config show`, and the man pages.
 *
 * A file is YAML; the dots of a key are nested mappings (`channel: {heartbeat_s: 20}`), and the
 * dotted form is accepted as well. Anchors may stand, aliases are refused.
 *
 * The values live in the caller's struct, at the entry's offset:
 *
 *	HF_CONFIG_STRING     char *                 never NULL after a load; "" is unset
 *	HF_CONFIG_BOOL       bool
 *	HF_CONFIG_UINT       uint64_t
 *	HF_CONFIG_DURATION   uint64_t               in the entry's unit, "s" or "ms"
 *	HF_CONFIG_SIZE       uint64_t               bytes
 *	HF_CONFIG_ENUM       unsigned               index into names
 *	HF_CONFIG_LIST       struct hf_config_list  of strings
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* What a hostile or damaged file may cost us; a real one has 2 KiB and a depth of 3. */
#define HF_CONFIG_FILE_MAX     ((size_t)256 * 1024)
#define HF_CONFIG_DEPTH_MAX    6
#define HF_CONFIG_NODES_MAX    4096
#define HF_CONFIG_WARNINGS_MAX 20
#define HF_CONFIG_ENTRIES_MAX  256
#define HF_CONFIG_KEY_MAX      128

enum hf_config_type {
	HF_CONFIG_STRING,
	HF_CONFIG_BOOL,
	HF_CONFIG_UINT,
	HF_CONFIG_DURATION,
	HF_CONFIG_SIZE,
	HF_CONFIG_ENUM,
	HF_CONFIG_LIST,
	_HF_CONFIG_TYPE_MAX,
};

struct hf_config_list {
	char **items;
	size_t n;
};

struct hf_config_entry {
	const char *key;
	enum hf_config_type type;
	size_t offset;
	/* Numbers: their range. Strings: bytes. Lists: number of items. max 0 is "no more than is
	 * sane" for strings (4096) and lists (64). */
	uint64_t min, max;
	const char *def;          /* as in the file; a list's items with commas between them */
	const char *unit;         /* "s", "ms", or a plural such as "events per second"; or NULL */
	const char *prose;        /* one sentence for an administrator */
	const char *const *names; /* ENUM, and LIST of known words: ends with NULL */
	/* STRING and each item of a LIST, "" excepted: NULL, or what was expected instead. */
	const char *(*check)(const char *text);
	const char *env; /* this environment variable overrides the file; not for lists */
	bool restart;    /* a change waits for a restart of the process */
	bool secret;     /* shown neither in errors nor by hf_config_print() */
};

/* The offset of a member that has to have this type. */
#define HF_CONFIG_AT(s, member, type) \
	(offsetof(s, member) * _Generic(&((s *)0)->member, type * : 1))

struct hf_config_table {
	const struct hf_config_entry *entries; /* those of one mapping stand together */
	size_t n;                              /* at most HF_CONFIG_ENTRIES_MAX */
	size_t struct_size;
	/* What no single key can tell; NULL if there is nothing. Sets err and returns -EINVAL. */
	int (*check)(const void *cfg, struct hf_err *err);
};

/* A line for the administrator: "config.yml:12: unknown key 'x', ignoring". */
typedef void (*hf_config_warn_fn)(void *userdata, const char *line);

/* hf_config_load() found no file and took the defaults. */
#define HF_CONFIG_MISSING 1

/*
 * Loads the file over the defaults and the environment over the file. cfg is all zero or was loaded
 * before; it is replaced as a whole on success and untouched on failure. err has the file, the line
 * and what was expected. Returns 0, HF_CONFIG_MISSING, or -errno (-EINVAL: the content).
 */
int hf_config_load(const struct hf_config_table *t, int dirfd, const char *path, void *cfg,
		   hf_config_warn_fn warn, void *userdata, struct hf_err *err);
/* The same from memory; name stands for the path in messages. */
int hf_config_load_text(const struct hf_config_table *t, const char *name, const char *text,
			size_t len, void *cfg, hf_config_warn_fn warn, void *userdata,
			struct hf_err *err);
/* Frees what the struct owns and zeroes it. */
void hf_config_done(const struct hf_config_table *t, void *cfg);

/* Appends the whole configuration as YAML, each key with its meaning, range and default. */
int hf_config_print(const struct hf_config_table *t, const void *cfg, struct hf_buf *out);
/* Appends a list of all keys in man(7) format. */
int hf_config_print_man(const struct hf_config_table *t, struct hf_buf *out);

/* Calls fn for each entry whose value differs. Returns how many there were. */
size_t hf_config_diff(const struct hf_config_table *t, const void *a, const void *b,
		      void (*fn)(void *userdata, const struct hf_config_entry *e), void *userdata);

/*
 * Appends what changed about a key: "telemetry.closed_one_in: 1 -> 10", "telemetry.kinds: +conn.closed
 * -proc.exit", "portal.proxy: changed" for a secret; with a word where it waits for a restart.
 */
int hf_config_print_change(const struct hf_config_entry *e, const void *a, const void *b,
			   struct hf_buf *out);

/* Whether the table itself is sound (defaults in range, keys unique ...); for its unit test. */
int hf_config_table_check(const struct hf_config_table *t, struct hf_err *err);
