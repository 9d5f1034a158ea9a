/* SPDX-License-Identifier: Apache-2.0 */
/* holdfast-portal's administrative subcommands: they work on the database, also beside a portal. */
#pragma once

struct hf_portal;

/* The working directory is the state directory. Returns the exit code; 2: usage. */
int hf_portal_cli(struct hf_portal *p, int argc, char **argv);
