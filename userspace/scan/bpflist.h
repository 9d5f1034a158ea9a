/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of the list of loaded BPF programs, which the watchdog supplies (only root may ask the
 * kernel): id, type, name, uid of who loaded it, 1 when it is ours; tabs between them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hf_bpf_program {
	uint32_t id, uid;
	char type[32];
	char name[32];
	bool ours;
	uint32_t pid; /* who holds it; 0: nobody found */
	char comm[64];
};

/* False: not such a line. */
bool hf_bpf_program_parse(const char *line, struct hf_bpf_program *ret);
/* The number behind "prog_id:" in the text of /proc/PID/fdinfo/N; 0: there is none. */
uint32_t hf_bpf_fdinfo_id(const char *text);
