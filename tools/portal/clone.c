/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First line that matches; "differs" needs both sides told:
 *
 *   nobody in quarantine
 *     holder gone                                   no       (restarted, rebooted, re-imaged)
 *     nothing differs                               no       (its own second connection)
 *     something differs                             contest
 *   somebody in quarantine
 *     another machine id than the holder's          yes      (until an operator decides)
 *     the suspect has another machine id            as above (it is of the holder's machine)
 *     boot id of the suspect, not of the holder     yes
 *     boot id of neither                            contest; yes if the holder is gone
 *     the suspect has another boot id               as above
 *     run id of the suspect, not of the holder      yes
 *     run id of neither                             contest; yes if the holder is gone
 *     run id of the holder                          no
 */
#include "tools/portal/clone.h"

#include <string.h>

static const uint8_t zero[HF_HASH_SIZE];

static bool told(const uint8_t *id, size_t len)
{
	return memcmp(id, zero, len) != 0;
}

static bool differ(const uint8_t *a, const uint8_t *b, size_t len)
{
	return told(a, len) && told(b, len) && memcmp(a, b, len) != 0;
}

bool hf_origin_differs(const struct hf_origin *a, const struct hf_origin *b)
{
	return differ(a->machine_id_hash, b->machine_id_hash, HF_HASH_SIZE) ||
	       differ(a->boot_id, b->boot_id, HF_ID_SIZE) ||
	       differ(a->run_id, b->run_id, HF_ID_SIZE);
}

static enum hf_clone_verdict judge_free(const struct hf_origin *holder, bool lives,
					const struct hf_origin *claim)
{
	return lives && hf_origin_differs(holder, claim) ? HF_CLONE_CONTEST : HF_CLONE_NO;
}

/* One of the three, where the coarser ones are the same: 1 decided into *ret, 0 look further. */
static int judge_id(const uint8_t *holder, bool lives, const uint8_t *suspect, const uint8_t *claim,
		    size_t len, enum hf_clone_verdict *ret)
{
	if (!differ(claim, holder, len))
		return 0;
	if (told(suspect, len) && !differ(claim, suspect, len))
		*ret = HF_CLONE_YES;
	else
		*ret = lives ? HF_CLONE_CONTEST : HF_CLONE_YES;
	return 1;
}

enum hf_clone_verdict hf_clone_judge(const struct hf_origin *holder, bool lives,
				     const struct hf_origin *suspect, const struct hf_origin *claim)
{
	enum hf_clone_verdict v;

	if (!suspect)
		return judge_free(holder, lives, claim);
	if (differ(claim->machine_id_hash, holder->machine_id_hash, HF_HASH_SIZE))
		return HF_CLONE_YES;
	if (differ(suspect->machine_id_hash, holder->machine_id_hash, HF_HASH_SIZE))
		return judge_free(holder, lives, claim);
	if (judge_id(holder->boot_id, lives, suspect->boot_id, claim->boot_id, HF_ID_SIZE, &v))
		return v;
	if (differ(suspect->boot_id, holder->boot_id, HF_ID_SIZE))
		return judge_free(holder, lives, claim);
	if (judge_id(holder->run_id, lives, suspect->run_id, claim->run_id, HF_ID_SIZE, &v))
		return v;
	return HF_CLONE_NO;
}
