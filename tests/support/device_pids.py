"""Process ids of the devices that this test session started."""

import contextlib
import os
from pathlib import Path

from edgeemu.host.owner import read_proc


def device_pids() -> list[int]:
    """This test session's devices: children of a fork server, which is our own child. Known by the session's token."""
    token = f"EDGEEMU_TEST_TOKEN={os.environ['EDGEEMU_TEST_TOKEN']}".encode()
    pids = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not process.name.isdigit() or b"edgeemu.host.fork_server" not in (process / "cmdline").read_bytes():
                continue
            parent = int(read_proc(f"{process}/stat").rsplit(")", 1)[1].split()[1])
            if parent != os.getpid() and token in (process / "environ").read_bytes():
                pids.append(int(process.name))
    return sorted(pids)
