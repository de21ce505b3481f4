"""Owners are known by proc(5), whatever bytes a process has for a name."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeemu.host import scratch
from edgeemu.host.memory_caps import MemoryCaps
from edgeemu.host.owner import Owner, is_alive, start_ticks

CUT_OFF = "владивосток".encode()[:15]  # the kernel keeps 15 bytes: here the last character is half there
NAMED = f"""
import ctypes, sys
ctypes.CDLL(None).prctl(15, {CUT_OFF!r})  # PR_SET_NAME
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pid() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_a_name_that_is_cut_off_within_a_character_is_no_obstacle(pid: int, tmp_path: Path) -> None:
    assert (Path("/proc") / str(pid) / "comm").read_bytes().strip() == CUT_OFF
    assert Owner.of(pid).state == "alive"
    assert is_alive(pid, start_ticks(pid))
    directory = scratch.create(pid)
    scratch.record_process(directory, "владивосток", pid)
    (found,) = [found for found in scratch.directories_of_all_runs() if found.owner.pid == pid]
    scratch.remove(directory)
    assert found.processes == [("владивосток", pid, start_ticks(pid))]
    caps = MemoryCaps(tmp_path, pid, means=("rlimit",))
    caps.cap("владивосток", 0, pid, 0, 2**30)
    assert caps.enforced_by == "rlimit"
