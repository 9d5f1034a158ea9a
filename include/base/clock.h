/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks. Intervals and timers use CLOCK_MONOTONIC or CLOCK_BOOTTIME; CLOCK_REALTIME is only for
 * showing. State machines take `now_ns` as an argument, so that tests pass their own.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HF_NS_PER_S  UINT64_C(1000000000)
#define HF_NS_PER_MS UINT64_C(1000000)
#define HF_NS_PER_US UINT64_C(1000)

uint64_t hf_now_monotonic_ns(void);
uint64_t hf_now_boottime_ns(void);
uint64_t hf_now_realtime_ns(void);

/* Wall-clock time of a CLOCK_BOOTTIME stamp, by the offset between both clocks now. */
uint64_t hf_boottime_to_realtime_ns(uint64_t boot_ns);

#define HF_RFC3339_SIZE sizeof("2026-01-02T03:04:05.123456789Z")

/* RFC 3339 with nanoseconds, UTC. */
void hf_format_rfc3339(uint64_t realtime_ns, char dst[static HF_RFC3339_SIZE]);
/* Accepts 'Z' and numeric offsets, 0 to 9 digits of fraction. -EINVAL. */
int hf_parse_rfc3339(const char *s, uint64_t *ret_realtime_ns);

/* "2 h 12 min", "8.3 s", "4 ms", "35 µs": for people. */
void hf_format_duration(uint64_t ns, char *dst, size_t size);

/* /proc/sys/kernel/random/boot_id as 16 bytes. */
int hf_boot_id(uint8_t ret[static 16]);
