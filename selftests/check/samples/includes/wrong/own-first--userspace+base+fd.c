/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include <errno.h>

#include "base/fd.h"
