/* SPDX-License-Identifier: Apache-2.0 */
/* Randomness from getrandom(2) and identifiers made of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Never fails after boot; aborts if the kernel refuses (our platform is then broken). */
void hf_random_bytes(void *dst, size_t len);
/* Uniform in [0, bound); 0 when bound is 0. */
uint64_t hf_random_below(uint64_t bound);

/* UUID version 7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, the rest random. */
void hf_uuid_v7(uint8_t ret[static 16]);

#define HF_UUID_TEXT_SIZE 37
void hf_uuid_format(const uint8_t uuid[static 16], char dst[static HF_UUID_TEXT_SIZE]);
/* Accepts the 36-character form only. -EINVAL. */
int hf_uuid_parse(const char *s, uint8_t ret[static 16]);
