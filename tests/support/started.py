"""Waits for processes that were started: right after it has replaced another, a program has no environment yet."""

import time
from pathlib import Path


def wait_until_runs(pid: int, program: str, patience_s: float = 10.0) -> None:
    """Wait until a process runs a program, and has its environment. Raises TimeoutError if it does not come to that."""
    process, until_s = Path(f"/proc/{pid}"), time.monotonic() + patience_s
    while (process / "comm").read_text().strip() != program or not (process / "environ").read_bytes():
        if time.monotonic() > until_s:
            raise TimeoutError(f"process {pid} does not run {program}")
        time.sleep(0.001)
