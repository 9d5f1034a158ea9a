/* SPDX-License-Identifier: Apache-2.0 */
/* The table of checks. Quick ones first: a cancelled scan has told what runs. */
#include "userspace/scan/checks.h"

#include "base/cleanup.h"

const struct hf_check hf_checks[] = {
	{"modules", "Kernel modules that are unsigned, forced or not of this kernel", 1, false,
	 hf_check_modules},
	{"bpf", "eBPF programs that are loaded", 1, false, hf_check_bpf},
	{"executables", "Running programs whose file was deleted or replaced", 3, false,
	 hf_check_executables},
	{"listeners", "Sockets that wait for connections, their owners and units", 4, false,
	 hf_check_listeners},
	{"writable", "What everybody may write in PATH and in unit files", 6, false,
	 hf_check_writable},
	{"setuid", "Files that give rights to whoever runs them", 25, true, hf_check_setuid},
	{"packages", "Files that differ from what their package installed", 30, true,
	 hf_check_packages},
	{"baseline", "Files that differ from the accepted state", 30, true, hf_check_baseline},
};
const size_t hf_checks_n = HF_ARRAY_SIZE(hf_checks);
_Static_assert(HF_ARRAY_SIZE(hf_checks) <= HF_CHECKS_MAX, "a state for each");
