#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include what: the boundaries between the parts, as tables.

    includes.py [FILE ...]      checks these files, or all of the repository
    includes.py --samples       checks the samples of right and wrong

One line per fault: FILE:LINE: RULE: text. Exit 0 iff there is none.
"""

import fnmatch
import pathlib
import sys

from checklib import C_INCLUDE, ROOT, c_files, run

# ---- the tables ------------------------------------------------------------------------------

BASE = ["include/base/*"]
KNOW = BASE + ["include/holdfast/*"]
GEN = ["gen/*.pb-c.h"]

# A file's part is the first pattern that fits. It sees these of ours, and its own directory unless
# the pattern is one of files.
PARTS = [
    ("include/base/*", BASE),
    ("include/holdfast/kernel_*.h", ["include/holdfast/kernel_*.h"]),
    ("include/holdfast/*", KNOW),
    ("bpf/*", ["include/holdfast/kernel_*.h", "bpf/*"]),
    ("userspace/base/*", BASE),
    ("userspace/net/*", KNOW),
    ("userspace/proto/*", KNOW + GEN),
    ("userspace/release/*", KNOW + GEN + ["userspace/proto/*"]),
    ("userspace/agent/*", KNOW + GEN + ["userspace/net/*", "userspace/proto/*", "userspace/release/*"]),
    ("userspace/fetch/*", KNOW + ["userspace/release/*"]),
    ("userspace/*", KNOW + GEN + ["userspace/proto/*"]),  # scan, doctor
    ("watchdog/launch/*", KNOW + ["userspace/release/*", "watchdog/release_st*.h"]),
    ("watchdog/*", KNOW + GEN + ["gen/*.skel.h", "userspace/proto/*", "userspace/release/*"]),
    ("tools/ctl/*", KNOW + GEN + ["userspace/proto/*"]),
    ("tools/portal/*", KNOW + GEN + ["gen/*", "userspace/net/*", "userspace/proto/*", "userspace/release/*"]),
    ("tools/sign/*", KNOW + ["userspace/release/*"]),
    ("tools/swarm/*", KNOW + GEN + ["userspace/net/*", "userspace/proto/*", "userspace/agent/backoff.h", "userspace/agent/heartbeat.h"]),
    ("tools/*", KNOW + GEN + ["userspace/net/*", "userspace/proto/*"]),
    ("packaging/config/*", KNOW),
    ("selftests/*", ["*"]),
]

# These of ours have few readers, whatever the part.
READERS = [
    # The kernel ABI: records are written by bpf/ and decoded in one place; what maps hold (the
    # verdict of a death) the watchdog reads as well.
    ("include/holdfast/kernel_policy.h",
     ["bpf/*", "include/holdfast/kernel_*.h", "userspace/agent/ring.[ch]", "userspace/agent/kernel_*.[ch]",
      "watchdog/*", "selftests/*"]),
    ("include/holdfast/kernel_event.h",
     ["bpf/*", "include/holdfast/kernel_*.h", "userspace/agent/ring.[ch]", "userspace/agent/kernel_*.[ch]",
      "watchdog/kernel_*.[ch]", "selftests/*"]),
    ("gen/*.skel.h", ["watchdog/kernel_object.c", "selftests/*"]),
    # The watchdog's state machines have structs of their own; only the bus and signed actions speak protobuf.
    ("gen/*.pb-c.h",
     ["userspace/*", "watchdog/bus*.[ch]", "watchdog/action*.[ch]", "tools/*", "selftests/*"]),
]

# Each library's headers, and the files that may include them: as few as possible, ideally one.
THIRD_PARTY = [
    ("yaml.h", ["userspace/base/config.c"]),
    ("openssl/ssl.h", ["userspace/net/tls*.[ch]", "tools/portal/tls*.c", "selftests/*"]),
    ("openssl/*",
     ["userspace/net/*.c", "userspace/release/keys.c", "userspace/agent/identity*.c", "userspace/agent/enroll*.c",
      "userspace/agent/host.c", "userspace/scan/digest.c",
      "tools/portal/ca*.c", "tools/portal/token*.c", "tools/portal/auth*.c", "tools/portal/key*.c",
      "tools/swarm/*.c", "selftests/*"]),
    ("wslay/*", ["userspace/net/websocket.c"]),
    ("systemd/sd-event.h", ["include/base/disk.h", "userspace/base/disk.c", "userspace/agent/*", "userspace/net/*", "watchdog/*", "tools/portal/*", "tools/swarm/*", "selftests/*"]),
    ("systemd/sd-bus.h", ["userspace/agent/hoststate.c", "selftests/*"]),
    ("systemd/sd-daemon.h", ["userspace/agent/main.c", "watchdog/*.c", "tools/portal/main.c"]),
    ("nng/*", ["userspace/agent/bus*.c", "watchdog/bus*.c", "tools/ctl/bus*.c", "selftests/*"]),
    ("protobuf-c/*", ["userspace/proto/*", "selftests/*"]),
    ("jansson.h", ["userspace/proto/*_json.[ch]", "tools/ctl/*", "tools/portal/*", "tools/sign/*",
                   "userspace/collect/sources.c", "selftests/*"]),
    ("sqlite3.h", ["tools/portal/store*"]),
    ("systemd/sd-journal.h", ["userspace/collect/journal.c"]),
    ("zlib.h", ["userspace/proto/*.c", "userspace/collect/archive.c", "selftests/*"]),
    ("rpm/*", ["userspace/scan/rpm.c"]),
    ("curl/*", ["userspace/fetch/*.c"]),
    ("bpf/bpf_*.h", ["bpf/*", "selftests/bpf/*", "selftests/behave/*", "selftests/vm/*"]),
    ("bpf/*", ["watchdog/kernel_*.c", "selftests/bpf/*", "selftests/behave/*", "selftests/vm/*"]),
    ("sys/capability.h", ["watchdog/*.c", "selftests/*"]),
    ("cmocka.h", ["selftests/*"]),
]

# The C library's and the kernel's; whatever else stands in <> needs a line in THIRD_PARTY.
SYSTEM = [
    "sys/*", "linux/*", "asm/*", "net/*", "netinet/*", "arpa/*", "assert.h", "byteswap.h", "cpuid.h", "ctype.h",
    "dirent.h", "dlfcn.h", "elf.h", "endian.h", "errno.h", "fcntl.h", "float.h", "fnmatch.h", "ftw.h",
    "getopt.h", "glob.h", "grp.h", "ifaddrs.h", "inttypes.h", "langinfo.h", "libgen.h", "limits.h", "link.h",
    "locale.h", "malloc.h", "math.h", "mntent.h", "netdb.h", "nmmintrin.h", "poll.h", "pthread.h", "pty.h",
    "pwd.h", "regex.h", "resolv.h", "sched.h", "search.h", "semaphore.h", "setjmp.h", "signal.h", "spawn.h",
    "stdalign.h", "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h",
    "string.h", "strings.h", "syscall.h", "syslog.h", "termios.h", "threads.h", "time.h", "ucontext.h", "unistd.h",
    "utime.h", "wchar.h",
]

# What a part may not do even with the C library: the watchdog has no network.
FORBIDDEN_SYSTEM = [
    ("watchdog/*", ["netinet/*", "arpa/*", "netdb.h", "resolv.h", "linux/if_packet.h"]),
    ("bpf/*", ["[!ls]*", "linux/[!tb]*", "s[!t]*", "str*", "stdio.h", "stdlib.h"]),
    ("include/holdfast/kernel_*.h", ["[!l]*", "linux/[!t]*"]),
]

# ---- the check -------------------------------------------------------------------------------


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


def resolve(path, name):
    """An include in quotes as a path of the repository; generated ones are gen/NAME."""
    here = pathlib.PurePosixPath(path).parent
    roots = [str(here), "include", ""] + (["bpf"] if path.startswith("bpf/") else [])
    for root in roots:
        candidate = pathlib.Path(ROOT, root, name).resolve()
        if candidate.is_file() and candidate.is_relative_to(ROOT):
            return str(candidate.relative_to(ROOT))
    return "gen/" + name


# Where the header of a .c file may be, beside its own directory.
HEADER_DIRS = {"userspace/base": "include/base", "userspace/proto": "include/holdfast"}


def own_header(path):
    """The header that a .c file implements; None if there is none."""
    p = pathlib.PurePosixPath(path)
    if p.suffix != ".c" or path.startswith("selftests/"):
        return None
    for folder in (str(p.parent), HEADER_DIRS.get(str(p.parent))):
        if folder and pathlib.Path(ROOT, folder, p.stem + ".h").is_file():
            return f"{folder}/{p.stem}.h"
    return None


def check_quoted(path, pattern, part_sees, target):
    own_dir = pattern.endswith("/*") and pathlib.PurePosixPath(path).parent == pathlib.PurePosixPath(target).parent
    if not own_dir and not matches(target, part_sees):
        return "layer", f"'{target}' is not seen from here"
    for pattern, readers in READERS:
        if fnmatch.fnmatchcase(target, pattern) and not matches(path, readers):
            return "reader", f"'{target}' has other readers only: {', '.join(readers)}"
    return None


def check_angle(path, name):
    for pattern, users in THIRD_PARTY:
        if fnmatch.fnmatchcase(name, pattern):
            if matches(path, users):
                return None
            return "third-party", f"<{name}> is for {', '.join(users)}"
    if not matches(name, SYSTEM):
        return "unknown", f"<{name}> is in no table; a dependency needs a line and a reason"
    for pattern, forbidden in FORBIDDEN_SYSTEM:
        if fnmatch.fnmatchcase(path, pattern) and matches(name, forbidden):
            return "forbidden", f"<{name}> is not for {pattern}"
    return None


def check(path, text):
    part, part_sees = next((p for p in PARTS if fnmatch.fnmatchcase(path, p[0])), ("", []))
    own = own_header(path)
    first = True
    for number, line in enumerate(text.splitlines(), 1):
        m = C_INCLUDE.match(line)
        if not m:
            continue
        kind, name = m.groups()
        target = resolve(path, name) if kind == '"' else None
        fault = check_quoted(path, part, part_sees, target) if target else check_angle(path, name)
        if fault:
            yield number, *fault
        # An internal header that several files share stands in for the public one it includes.
        if first and own and target != own and not (target or "").endswith("_internal.h"):
            yield number, "own-first", f"'{own}' comes first"
        first = False


if __name__ == "__main__":
    sys.exit(run(check, c_files, "includes"))
