"""Process ids of the devices that this test session started."""

import contextlib
import os
import sys
from pathlib import Path

from edgeemu.host.owner import read_proc

_SERVERS = (b"edgeemu.host.fork_server", b"support.warm_servers")


def device_pids() -> list[int]:
    """This test session's devices: processes that a fork server made, and gave a name. Known by the session's token."""
    token = f"EDGEEMU_TEST_TOKEN={os.environ['EDGEEMU_TEST_TOKEN']}".encode()
    pids = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not process.name.isdigit() or not any(name in (process / "cmdline").read_bytes() for name in _SERVERS):
                continue
            named = read_proc(f"{process}/comm").rstrip("\n") != Path(sys.executable).name[:15]
            if named and token in (process / "environ").read_bytes():
                pids.append(int(process.name))
    return sorted(pids)
