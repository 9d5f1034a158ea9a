/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two machines with one identity: the rule, as a pure function of who holds the endpoint, who came
 * with its credential before and was refused, and who comes now. Silent.
 *
 * A machine is known by three things its Hello tells: the machine id (of the installation), the boot
 * id (of the running kernel) and the run id (of the agent process). A restarted agent has a new run
 * id, a rebooted host a new boot id, a re-imaged host a new machine id; all of these come after the
 * old one is gone. Who differs while the old one is still there and answers is a copy.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tools/portal/store.h"

/* Zeros: not told (a plain OpAMP agent, or not known since our restart). */
struct hf_origin {
	uint8_t machine_id_hash[HF_HASH_SIZE];
	uint8_t boot_id[HF_ID_SIZE];
	uint8_t run_id[HF_ID_SIZE];
};

enum hf_clone_verdict {
	HF_CLONE_NO,      /* the endpoint itself: registered, or replaced by its epoch */
	HF_CLONE_CONTEST, /* ask the holder: if it answers, the newcomer is a copy */
	HF_CLONE_YES,     /* known as a copy, or not to be told from one */
};

/* Something that both tell is different. */
bool hf_origin_differs(const struct hf_origin *a, const struct hf_origin *b);

/*
 * holder: who had the endpoint last; lives: with a registered link and a recent proof. suspect: who
 * is in quarantine for this endpoint, NULL for nobody.
 */
enum hf_clone_verdict hf_clone_judge(const struct hf_origin *holder, bool lives,
				     const struct hf_origin *suspect,
				     const struct hf_origin *claim);
