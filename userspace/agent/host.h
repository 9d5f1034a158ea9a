/* SPDX-License-Identifier: Apache-2.0 */
/* What this host is: read once at start, never fails (unknown is ""). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"

struct hf_host {
	char hostname[256];
	char os[32];     /* linux */
	char arch[32];   /* amd64, arm64 … as OpenTelemetry names them */
	char distro[64]; /* os-release ID */
	char distro_version[64];
	char pretty[128];
	char kernel[128]; /* uname -r */
	uint8_t boot_id[16];
	char boot_id_text[HF_UUID_TEXT_SIZE];
	uint8_t machine_id_hash[32]; /* SHA-256 of "holdfast" and the machine id's text */
	char machine_id_hex[65];
};

void hf_host_read(struct hf_host *h);

/* For tests: reads one key of an os-release file's text into dst. False if it is not there. */
bool hf_os_release_get(const char *text, const char *key, char *dst, size_t size);
