/* SPDX-License-Identifier: Apache-2.0 */
/* The bus's answers about releases. */
#pragma once

#include "bus.pb-c.h"
#include "watchdog/release.h"

/* Everything that the message points at. */
struct hf_bus_releases {
	Bus__Releases m;
	Bus__Release item[HF_COMPONENTS_MAX + 1];
	Bus__Release *items[HF_COMPONENTS_MAX + 1];
	struct {
		Bus__ReleaseVersion version[3];
		char hash[3][2 * HF_SHA256_SIZE + 1];
		Bus__ReleaseRollback rollback;
		char bad[HF_RELEASE_BAD_MAX][2 * HF_RELEASE_BAD_SIZE + 1];
		char *bads[HF_RELEASE_BAD_MAX];
	} of[HF_COMPONENTS_MAX + 1];
	Bus__ReleaseKeys keys;
	struct hf_release_keys_view keys_view;
	Bus__ReleaseJob job;
};

/* Strings are borrowed from all until the next turn of the loop. */
void hf_bus_fill_releases(const struct hf_releases *all, struct hf_bus_releases *ret);

/* … and of the keys, for which two files are read. */
void hf_bus_fill_release_keys(const struct hf_releases *all, struct hf_bus_releases *ret);

/* 0 or a positive errno, with what to say. */
int hf_bus_release_request(struct hf_releases *all, const Bus__ReleaseRequest *q, char *text,
			   size_t size);
