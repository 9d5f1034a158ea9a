/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints a configuration table for the packages, at build time: `config-doc config|portal yaml|man`.
 * The conffiles and the man pages are made from it, so they cannot differ from what is parsed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/config.h"
#include "base/str.h"
#include "holdfast/config.h"

static int print_defaults(const struct hf_config_table *t, struct hf_buf *out)
{
	_cleanup_free_ void *cfg = calloc(1, t->struct_size);
	struct hf_err err = {};
	int r;

	if (!cfg)
		return -ENOMEM;
	r = hf_config_load_text(t, "defaults", "", 0, cfg, NULL, NULL, &err);
	if (r < 0) {
		fprintf(stderr, "config-doc: %s\n", err.msg);
		return r;
	}
	r = hf_config_print(t, cfg, out);
	hf_config_done(t, cfg);
	return r;
}

int main(int argc, char **argv)
{
	const struct hf_config_table *t;
	struct hf_buf out = {};
	int r;

	if (argc != 3) {
		fputs("usage: config-doc config|portal yaml|man\n", stderr);
		return 2;
	}
	/* An administrator's environment must not become the default of a package. */
	if (clearenv() != 0)
		return 1;
	t = hf_streq(argv[1], "portal") ? &hf_portal_config_table : &hf_config_table;
	r = hf_streq(argv[2], "man") ? hf_config_print_man(t, &out) : print_defaults(t, &out);
	if (r == 0 && fwrite(out.data, 1, out.len, stdout) != out.len)
		r = -EIO;
	hf_buf_done(&out);
	if (fflush(stdout) != 0)
		r = -EIO;
	return r == 0 ? 0 : 1;
}
