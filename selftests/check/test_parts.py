#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The counting of `make test`: what is a failure, what is a skip, and that none is lost."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import parts  # pylint: disable=wrong-import-position

ALLOWED = parts.allowed_skips("# why\nvm no kvm*\ne2e needs root\n\n")


class Judging(unittest.TestCase):
    def test_table(self):
        rows = [
            # part, exit status, output, passed, failed, skipped
            ("unit", 0, "x\n3 passed, 0 failed, 0 skipped\n", 3, 0, 0),
            ("unit", 2, "3 passed, 2 failed, 0 skipped\n", 3, 2, 0),
            ("unit", 2, "3 passed, 0 failed, 0 skipped\n", 3, 1, 0),
            ("unit", 2, "", 0, 1, 0),
            ("unit", 0, "0 passed, 0 failed, 0 skipped\n", 0, 1, 0),
            ("build", 0, "", 1, 0, 0),
            ("e2e", 0, "SKIP: needs root\ne2e: 3 passed, 0 failed, 1 skipped\n", 3, 0, 1),
            ("e2e", 0, "SKIP: I do not feel like it\n3 passed, 0 failed, 1 skipped\n", 3, 1, 0),
            ("e2e", 0, "3 passed, 0 failed, 1 skipped\n", 3, 1, 0),
            ("e2e", 0, "SKIP: needs root\n3 passed, 0 failed, 2 skipped\n", 3, 1, 1),
            ("unit", 0, "SKIP: needs root\n3 passed, 0 failed, 1 skipped\n", 3, 1, 0),
            ("vm", 77, "SKIP: no kvm here\n", 0, 0, 1),
            ("vm", 0, "SKIP: no kvm here\n", 0, 0, 1),
            ("vm", 0, "SKIP: tired\n", 0, 1, 0),
            ("vm", 77, "", 0, 1, 0),
            ("vm", 77, "SKIP: tired\n", 0, 1, 0),
            ("unit", 0, "1 passed, 0 failed, 0 skipped\n5 passed, 0 failed, 0 skipped\n", 5, 0, 0),
        ]
        for part, code, output, *want in rows:
            with self.subTest(part=part, code=code, output=output):
                self.assertEqual(list(parts.judge(part, code, output, ALLOWED)[:3]), want)

    def test_cmocka_counts_each_test_once(self):
        output = ("[==========] Running 4 test(s).\n[ RUN      ] a\n[       OK ] a\n[ RUN      ] b\n[  FAILED  ] b\n"
                  "[  SKIPPED ] c\n[       OK ] d\n[  PASSED  ] 2 test(s).\n[  SKIPPED ] 1 test(s), listed below:\n"
                  "[  SKIPPED ] c\n[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] b\n\n 1 FAILED TEST(S)\n")
        self.assertEqual(parts.count_cmocka(output), (2, 1, 1))


if __name__ == "__main__":
    unittest.main(verbosity=0)
