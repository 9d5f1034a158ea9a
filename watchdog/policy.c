/* SPDX-License-Identifier: Apache-2.0 */
/* Only translation: ranges and forms were checked when the file was read. */
#include "watchdog/policy.h"

/* At most one of the two lists has items (config_table.c). Both empty: everything. */
static struct hf_kernel_choice choice(const struct hf_config_list *only,
				      const struct hf_config_list *except)
{
	const struct hf_config_list *l = only->n ? only : except;

	return (struct hf_kernel_choice){
		.mode = only->n     ? HF_KERNEL_ONLY
			: except->n ? HF_KERNEL_EXCEPT
				    : HF_KERNEL_ALL,
		.names = (const char *const *)l->items,
		.n = l->n,
	};
}

void hf_policy_from_config(const struct hf_config *cfg, struct hf_kernel_filter *ret)
{
	static const struct hf_config_list none;

	hf_kernel_filter_default(ret);
	ret->kinds = 0;
	for (size_t i = 0; i < cfg->telemetry.kinds.n; i++)
		ret->kinds |= hf_kernel_kind_by_name(cfg->telemetry.kinds.items[i]);
	ret->closed_one_in = (uint32_t)cfg->telemetry.closed_one_in;
	ret->exit_bad_only = cfg->telemetry.exits == HF_CONFIG_EXITS_BAD;
	ret->own_netns = cfg->kernel.netns == HF_CONFIG_NETNS_OWN;
	ret->burst = (uint32_t)cfg->telemetry.cgroup_burst;
	ret->per_s = (uint32_t)cfg->telemetry.cgroup_events_per_s;
	ret->drop_window_ms = (uint32_t)cfg->telemetry.drop_window_ms;
	ret->ports = choice(&cfg->telemetry.ports, &cfg->telemetry.ports_except);
	ret->units = choice(&cfg->telemetry.units, &cfg->telemetry.units_except);
	ret->cgroups = choice(&cfg->telemetry.cgroups, &cfg->telemetry.cgroups_except);
	ret->drop_reasons = choice(&cfg->telemetry.drop_reasons, &none);
}
