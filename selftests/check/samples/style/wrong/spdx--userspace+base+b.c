/* SPDX-License-Identifier: MIT */
/* A sample. */
