/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "base/fd.h"

#include <errno.h>
