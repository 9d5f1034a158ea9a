#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of form that clang-format does not know.

    style.py [FILE ...]         checks these files, or all of the repository
    style.py --samples          checks the samples of right and wrong

One line per fault: FILE:LINE: RULE: text. Exit 0 iff there is none.
"""

import re
import sys

from checklib import run, tracked

# ---- the table -------------------------------------------------------------------------------

# What the kernel loads, and its ABI, is dual-licensed: some of its helpers are for GPL programs.
SPDX = re.compile(r"SPDX-License-Identifier: (?:Apache-2\.0|(GPL-2\.0-only OR BSD-2-Clause))(?: \*/)?$")
KERNEL_SIDE = re.compile(r"^bpf/|\.bpf\.c$|^include/holdfast/kernel_\w+\.h$")
LINES_MAX = 900
PRODUCT = ("userspace/", "watchdog/", "tools/")

# A function, what is wrong with it, and what stands in for it.
BANNED = {
    "strcpy": "no bound: hf_strlcpy", "strcat": "no bound: hf_strf", "sprintf": "no bound: hf_strf",
    "gets": "no bound", "strtok": "static state: strtok_r", "atoi": "no error: hf_parse_u32",
    "atol": "no error: hf_parse_u64",
    "gmtime": "static state: gmtime_r", "localtime": "depends on TZ: hf_format_rfc3339", "ctime": "static state",
    "rand": "predictable: hf_random_below", "random": "predictable: hf_random_below", "tmpnam": "a race",
    "mktemp": "a race: mkstemp", "system": "a shell", "popen": "a shell", "pipe": "no O_CLOEXEC: pipe2",
    "accept": "no SOCK_CLOEXEC: accept4", "dup": "no O_CLOEXEC: fcntl(F_DUPFD_CLOEXEC)", "alloca": "no bound",
}

# Whoever makes a descriptor says CLOEXEC (or hands on flags that do).
MAKES_FD = ["open", "openat", "socket", "socketpair", "pipe2", "accept4", "epoll_create1", "eventfd", "timerfd_create",
            "signalfd", "memfd_create", "inotify_init1", "dup3", "mkostemp"]

# Text that has no place in the repository.
MARKERS = re.compile(r"\b(TODO|FIXME|XXX)\b")
MACHINE = re.compile(r"(?<![\w.])/(?:home/\w+|tmp/wt)\b")

# ---- the check -------------------------------------------------------------------------------

TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def split_c(text):
    """(code without comments and literals, positions of // comments); line numbers stay."""
    slashes = []

    def replace(m):
        if m.group(0).startswith("//"):
            slashes.append(m.start())
        return blank(m.group(0))

    return TOKEN.sub(replace, text), slashes


def line_of(text, pos):
    return text.count("\n", 0, pos) + 1


def arguments(code, start):
    depth = 0
    for i in range(start, len(code)):
        if code[i] == "(":
            depth += 1
        elif code[i] == ")":
            depth -= 1
            if depth == 0:
                return code[start:i]
    return code[start:]


def check_calls(code):
    for m in CALL.finditer(code):
        name = m.group(1)
        before = code[:m.start()].rstrip()
        if name in BANNED and not before.endswith(("*", "void", "int", "char")):
            yield line_of(code, m.start()), "banned", f"{name}(): {BANNED[name]}"
        if name in MAKES_FD:
            args = arguments(code, m.end() - 1)
            if "CLOEXEC" not in args and "flags" not in args:
                yield line_of(code, m.start()), "cloexec", f"{name}() without CLOEXEC"


def check_tests(text, code):
    for m in re.finditer(r"^static void (\w+)\(void \*\*state\)", code, re.M):
        listed = re.search(r"\b(?:cmocka_unit_test\w*|[A-Z_]+)\(\s*" + m.group(1) + r"\b", code)
        if not listed:
            yield line_of(code, m.start()), "unlisted", f"test {m.group(1)} is not in main()"
    if "int main(" in code and "HF_RUN_TESTS" not in code:
        yield 1, "fd-count", "main() does not end with HF_RUN_TESTS, which counts descriptors"


def check_c(path, text):
    code, slashes = split_c(text)
    lines = text.splitlines()
    for pos in slashes:
        yield line_of(text, pos), "slashes", "// comment"
    if len(lines) < 2 or not lines[1].startswith("/*"):
        yield 2, "opening", "no comment that says what this file owns"
    if len(lines) > LINES_MAX:
        opening = text.split("*/")[1] if text.count("*/") > 1 else ""
        if "one file" not in " ".join(opening.replace("*", " ").split()):
            yield LINES_MAX + 1, "length", f"more than {LINES_MAX} lines, and the opening does not say why it is one file"
    if path.endswith(".h") and not re.search(r"^#(?:pragma once|ifndef \w+_H_?)$", code, re.M):
        yield 1, "once", "no #pragma once"
    if path.startswith(PRODUCT):
        yield from check_calls(code)
    if path.startswith("selftests/unit/") and path.endswith(".c"):
        yield from check_tests(text, code)


def check(path, text):
    lines = text.splitlines()
    opening = lines[1:2] if lines and lines[0].startswith("#!") else lines[:1]
    needs_spdx = path.endswith((".c", ".h", ".S", ".py", ".sh")) or (lines and lines[0].startswith("#!"))
    licence = SPDX.search(opening[0]) if opening else None
    if needs_spdx and (not licence or (licence.group(1) and not KERNEL_SIDE.search(path))):
        yield 1, "spdx", "the first line is not 'SPDX-License-Identifier: Apache-2.0'"
    if path.endswith((".c", ".h")):
        yield from check_c(path, text)
    if text and not text.endswith("\n"):
        yield len(lines), "end", "no newline at the end"
    if path in ("selftests/check/style.py", "LICENSE"):
        return
    for number, line in enumerate(lines, 1):
        if MARKERS.search(line):
            yield number, "marker", "unfinished work is in an issue, not in a comment"
        if MACHINE.search(line):
            yield number, "machine", "a path of one machine"
        if line != line.rstrip() and not path.endswith((".md", ".patch")):
            yield number, "space", "white space at the end of the line"


def text_files():
    for path in tracked():
        if path.endswith((".c", ".h", ".S", ".py", ".sh", ".mk", ".md", ".proto", ".js", ".css", ".html", ".service", ".txt")) \
                or path.split("/")[-1] in ("Makefile", "run") or "." not in path.split("/")[-1]:
            yield path


if __name__ == "__main__":
    sys.exit(run(check, lambda: list(text_files()), "style"))
