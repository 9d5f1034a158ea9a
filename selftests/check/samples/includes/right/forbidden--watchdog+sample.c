/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
#include <linux/netlink.h>
#include <sys/socket.h>
