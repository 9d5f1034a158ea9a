/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may use the local bus beside root and the daemon's own user: members of the group "holdfast".
 * Silent, any thread, no state.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define HF_BUS_GROUP "holdfast"

/*
 * The group's number, -1 if there is none. From /etc/group: the package makes the group locally,
 * and asking name services costs a daemon a megabyte of their libraries.
 */
int64_t hf_bus_group(void);

/* Is the caller in the group (bus_gid of hf_bus_group())? Its supplementary groups are in /proc. */
bool hf_bus_in_group(uint32_t gid, pid_t pid, int64_t bus_gid);

/* Pure: the same, with the numbers of the "Groups:" line of /proc/PID/status; NULL none. */
bool hf_bus_in_groups(uint32_t gid, const char *groups, int64_t bus_gid);
/* Pure: the number of a group in the text of group(5), -1 if it is not there. */
int64_t hf_bus_group_in(const char *text, const char *name);
