/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "userspace/net/tls_internal.h"

#include <errno.h>
