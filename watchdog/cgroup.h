/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroup v2 directories for the components, where the host allows it. Without them (v1 only, no
 * rights, a container) every call says so by -1 or -errno and the watchdog works by pid.
 *
 * Under systemd (Delegate=yes) the watchdog moves itself into the leaf `watchdog` of its unit's
 * cgroup and components get sister leaves. Otherwise they are made below the cgroup it was started
 * in: holdfast-<instance>/<component>.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* Directory under which component cgroups are made: a descriptor, or -errno with why in *why. */
int hf_cgroup_open_base(const char *instance, const char **why);

/* The component's own directory below base, made when missing. -errno. */
int hf_cgroup_open_component(int base_dir, const char *component);

/* Most memory of its processes, where the host gives us that controller. Best effort. */
void hf_cgroup_limit_memory(int base_dir, int cgroup_dir, uint64_t bytes);

/* SIGKILL to every process in it. */
int hf_cgroup_kill(int cgroup_dir);

/* How often its own memory limit (not the host) was the cause of an OOM; 0 if unknown. */
uint64_t hf_cgroup_ooms(int cgroup_dir);

/* Calls fn for each process in it. */
int hf_cgroup_each(int cgroup_dir, void (*fn)(uint32_t pid, void *arg), void *arg);

/* Removes the component's directory; and the base, when it is ours and empty. Best effort. */
void hf_cgroup_remove(int base_dir, const char *component);
void hf_cgroup_remove_base(const char *instance);

/*
 * What a process's cgroups do to it, v1 and v2, its own and all above: time it was kept from
 * running by a quota (cumulative), and whether it is frozen. Zero and false where nothing is known.
 */
void hf_cgroup_hardship(uint32_t pid, uint64_t *ret_throttled_ns, bool *ret_frozen);
