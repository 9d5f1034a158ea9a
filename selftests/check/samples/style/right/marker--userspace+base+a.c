/* SPDX-License-Identifier: Apache-2.0 */
/* A sample. */
/* What is to do is in an issue: XXXXXX is a template. */
