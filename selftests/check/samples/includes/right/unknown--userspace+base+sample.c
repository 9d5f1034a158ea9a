/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include <sys/stat.h>
#include <linux/bpf.h>
