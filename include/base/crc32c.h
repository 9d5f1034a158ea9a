/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), reflected, initial value and final xor all ones. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continue with the previous result; start with 0. */
uint32_t hf_crc32c(uint32_t crc, const void *data, size_t len);

/* The same without the processor's instruction: the fallback, and what tests compare with. */
uint32_t hf_crc32c_portable(uint32_t crc, const void *data, size_t len);
