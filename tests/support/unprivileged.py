"""`python unprivileged.py COMMAND…`: runs it as root would not: without capabilities, control groups or priority.

It is user 65534, too, where the interpreter can be reached by others than its owner.
"""

import ctypes
import os
import resource
import sys
from pathlib import Path

NOBODY = 65534
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MNT_DETACH, _PR_CAPBSET_DROP = 0x20000, 0x4000, 0x40000, 2, 24


def main() -> None:
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
            sys.exit(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            _, where, kind, *_ = line.split()
            if kind in ("cgroup", "cgroup2"):
                libc.umount2(where.encode(), _MNT_DETACH)
        for capability in range(64):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        if reachable(Path(sys.executable)) and reachable(Path(os.__file__)):
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    os.execv(sys.argv[1], sys.argv[1:])


def reachable(file: Path) -> bool:
    """By others than the owner, whatever links lead to it."""
    return all(parent.stat().st_mode & 0o001 for found in (file.absolute(), file.resolve()) for parent in found.parents)


if __name__ == "__main__":
    main()
