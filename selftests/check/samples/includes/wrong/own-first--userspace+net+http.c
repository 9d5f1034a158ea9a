/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "base/str.h"
#include "userspace/net/http.h"
