/* SPDX-License-Identifier: Apache-2.0 */
/* One line per worker. A line may only give what its program cannot do without. */
#include "watchdog/worker_table.h"

#include <linux/capability.h>

#include "base/clock.h"
#include "base/str.h"
#include "watchdog/scan.h"

#define CAP(n) (UINT64_C(1) << (n))
#define MIB    (UINT64_C(1024) * 1024)

size_t hf_worker_table(const struct hf_config *c,
		       struct hf_worker_spec table[static HF_WORKERS_MAX])
{
	size_t n = 0;

	/* A scan may take hours on a slow disk; it shows progress four times a second. */
	table[n] = (struct hf_worker_spec){
		.name = "scan",
		.program = "holdfast-scan",
		.account_key = "scan.user",
		.capabilities = CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_SYS_PTRACE),
		.memory_bytes = c->scan.memory_max_bytes,
		.result_bytes = MIB,
		.file_bytes = HF_SCAN_BASELINE_MAX,
		.idle_limit_ns = 60 * HF_NS_PER_S,
		.hard_limit_ns = 4 * 3600 * HF_NS_PER_S,
	};
	(void)hf_strlcpy(table[n].account, c->scan.user, sizeof(table[n].account));
	n++;
	/* As the agent's user: both daemons tell it what they tell the agent's own, and no more. */
	table[n] = (struct hf_worker_spec){
		.name = "collect",
		.program = "holdfast-collect",
		.account_key = "component.agent.user",
		.capabilities = CAP(CAP_DAC_READ_SEARCH),
		.memory_bytes = 128 * MIB,
		.result_bytes = 16 * MIB,
		.file_bytes = 16 * MIB,
		.idle_limit_ns = 60 * HF_NS_PER_S,
		.hard_limit_ns = 600 * HF_NS_PER_S,
	};
	(void)hf_strlcpy(table[n].account, c->component.agent.user, sizeof(table[n].account));
	n++;
	return n;
}

void hf_worker_table_reload(struct hf_watchdog *w)
{
	struct hf_worker_spec table[HF_WORKERS_MAX];
	size_t n = hf_worker_table(&w->config, table);

	for (size_t i = 0; i < n; i++)
		hf_workers_reconfigure(w->workers, &table[i]);
}
