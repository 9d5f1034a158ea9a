/* SPDX-License-Identifier: Apache-2.0 */
/* The behaviours by hand: `behave NAME` makes exactly one thing happen. */
#include "behave.h"

#include <string.h>

int main(int argc, char **argv)
{
	int skip = argc > 1 && strcmp(argv[1], "--behave") == 0 ? 2 : 1;

	return behave_main(argc - skip, argv + skip);
}
