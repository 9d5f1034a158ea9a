/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holdfast-launch, which always belongs to the package, and the watchdog, which may be of any
 * release, say to each other. Both must understand each other across versions: nothing here changes.
 */
#pragma once

/* Set by holdfast-launch: where the package's programs are, and their version. */
#define HF_LAUNCH_ENV_DIR     "HOLDFAST_PACKAGE_DIR"
#define HF_LAUNCH_ENV_VERSION "HOLDFAST_PACKAGE_VERSION"

#define HF_LAUNCH_PROGRAM     "holdfast-launch"
#define HF_LAUNCH_WATCHDOG    "holdfast-watchdog"

/* In the watchdog's state directory: when it was started lately. The watchdog removes it when it ends
 * as it should. */
#define HF_LAUNCH_STARTS "launch.starts"

/* The watchdog's exit codes that mean something. 0: it was asked to stop. */
#define HF_LAUNCH_EXIT_PERMANENT 100 /* wrong usage, another one runs: trying again is of no use */
#define HF_LAUNCH_EXIT_SUCCESSOR 75  /* start the release that is to run now, at once */
