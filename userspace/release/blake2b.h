/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLAKE2b without a key, for any length of output (RFC 7693). OpenSSL 3.0 has the 64-byte output
 * only, and minisign's secret key files carry a checksum of 32, which is another function and not a
 * part of it. For that checksum; signatures use OpenSSL's.
 */
#pragma once

#include <stddef.h>

/* dst gets dst_len bytes, 1 to 64. */
void hf_blake2b(void *dst, size_t dst_len, const void *data, size_t len);
