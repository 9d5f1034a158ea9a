/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include <sqlite3.h>
