/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a portal or proxy says in headers, close frames and TLS texts becomes one clean line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/agent/failure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct hf_failure *f)
{
	const char *texts[] = {f->text, f->tls};

	for (size_t i = 0; i < 2; i++)
		for (const char *p = texts[i]; *p; p++)
			if (*p < ' ' || *p > '~')
				abort();
	if (f->cause >= _HF_CAUSE_MAX || hf_failure_remedy(f) >= _HF_REMEDY_MAX)
		abort();
	if (f->retry_after_ms > 3600000)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_http_report h = {};
	struct hf_tls_report t = {};
	struct hf_failure f;
	size_t cut;
	char *a, *b;

	if (size < 6)
		return 0;
	h.status = (unsigned)(data[0] | data[1] << 8);
	h.by_token = data[2] & 1;
	h.via_proxy = data[2] & 2;
	h.bad_accept = data[2] & 4;
	t.failure = data[3] % _HF_TLS_FAILURE_MAX;
	t.alert = data[4];
	t.err = data[5];
	cut = 6 + data[2] % (size - 5);
	a = strndup((const char *)data + 6, cut - 6);
	b = strndup((const char *)data + cut, size - cut);
	if (a && b) {
		h.cause = a;
		h.retry_after = b;
		hf_failure_from_http(&f, &h);
		check(&f);
		hf_failure_from_close(&f, (uint16_t)h.status, a);
		check(&f);
		t.error = b;
		hf_failure_from_tls(&f, &t, HF_PHASE_TLS, data[2] & 8);
		check(&f);
	}
	free(a);
	free(b);
	return 0;
}
