/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include "holdfast/cause.h"
