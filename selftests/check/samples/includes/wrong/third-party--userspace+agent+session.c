/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "userspace/agent/session.h"

#include <sqlite3.h>
