/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include <errno.h>

#include "base/str.h"
#include "holdfast/cause.h"
