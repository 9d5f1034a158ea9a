/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
/* https://x */
const char *u = "wss://x", c = '"'; /* "// */
