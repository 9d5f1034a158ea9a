/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's own files share: the only place besides store.c that sees sqlite3.h. */
#pragma once

#include <sqlite3.h>

#include "tools/portal/store.h"

/*
 * A prepared statement with its parameters bound. sql must be a string literal: the cache is keyed
 * by its address. types has one letter per parameter: 't' const char * (NULL: NULL), 'i' uint64_t,
 * 'b' const void * and size_t (NULL: NULL). NULL on failure (see hf_store_error()). The statement
 * is reset by hf_store_end() or by the next query with the same sql.
 */
sqlite3_stmt *hf_store_query(struct hf_store *s, const char *sql, const char *types, ...);
/* 1 a row, 0 none left, -errno. */
int hf_store_step(struct hf_store *s, sqlite3_stmt *st);
void hf_store_end(sqlite3_stmt *st);
/* Runs a statement without rows. Returns the number of rows changed, -errno. */
int hf_store_exec(struct hf_store *s, const char *sql, const char *types, ...);
/* The code of the last failure as -errno. */
int hf_store_errno(const struct hf_store *s);

static inline uint64_t hf_store_u64(sqlite3_stmt *st, int col)
{
	return (uint64_t)sqlite3_column_int64(st, col);
}

void hf_store_text(sqlite3_stmt *st, int col, char *dst, size_t size);
/* Copies exactly size bytes; false (dst zeroed) if the column is NULL or of another length. */
bool hf_store_blob(sqlite3_stmt *st, int col, void *dst, size_t size);
