/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as sentences. Truncation is silent: the outermost context is what a person needs first. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Its name stands in parentheses because the analyzer sees a macro of the same name. */
int(hf_err_set)(struct hf_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) < 0)
		err->msg[0] = '\0';
	va_end(ap);
	return code;
}

int hf_err_wrap(struct hf_err *err, const char *fmt, ...)
{
	char inner[HF_ERR_MSG_MAX];
	va_list ap;
	size_t len;

	if (!err)
		return 0;
	memcpy(inner, err->msg, sizeof(inner));
	inner[sizeof(inner) - 1] = '\0';
	va_start(ap, fmt);
	if (vsnprintf(err->msg, sizeof(err->msg), fmt, ap) < 0)
		err->msg[0] = '\0';
	va_end(ap);
	len = strlen(err->msg);
	(void)snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", inner);
	return err->code;
}
