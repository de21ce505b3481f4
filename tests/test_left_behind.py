"""The check that nothing is left behind sees what tests leave, and not what other programs do at the time."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support.left_processes import LeftProcesses
from support.shared_memory import DIRECTORY, SharedMemory
from support.started import wait_until_runs

pytestmark = pytest.mark.alone  # it looks at what the whole machine has
TOKEN = b"EDGEEMU_TEST_OF_THE_CHECK=1"
HOLDS_A_SEMAPHORE = """
import multiprocessing, sys
semaphore = multiprocessing.get_context("spawn").Semaphore()
print("ready", flush=True)
sys.stdin.read()
"""
MAPS = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ours", [True, False])
def test_a_semaphore_counts_if_a_test_s_process_made_it(ours: bool) -> None:
    before = set(DIRECTORY.iterdir())
    name, value = TOKEN.decode().split("=")
    environment = {**os.environ, name: value} if ours else {**os.environ}
    command = [sys.executable, "-c", HOLDS_A_SEMAPHORE]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        made = set(DIRECTORY.iterdir()) - before
        assert made
        memory = SharedMemory(TOKEN)
        for _ in range(2):  # whose it is is remembered, and must be right for that, too
            assert bool(made & set(memory.left())) == ours
            memory.keep()
        process.communicate()


def test_a_file_that_nobody_has_mapped_counts() -> None:
    file = DIRECTORY / f"edgeemu-test-{os.getpid()}"
    file.touch()
    try:
        memory = SharedMemory(TOKEN)
        assert file in memory.left()
        memory.keep()
        assert file in memory.left()
    finally:
        file.unlink()


def test_a_file_of_another_program_s_that_maps_it_late_counts_no_more_then() -> None:
    """Unless it was there at the end of a test already: each file is asked about until then, and not for ever."""
    memory, file = SharedMemory(TOKEN), DIRECTORY / f"edgeemu-test-{os.getpid()}"
    for keep in (False, True):
        file.write_bytes(b"1")
        try:
            assert file in memory.left()
            if keep:
                memory.keep()
            with subprocess.Popen(
                [sys.executable, "-c", MAPS, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                assert (file in memory.left()) == keep
                process.communicate()
        finally:
            file.unlink()


@pytest.mark.parametrize("marked", [True, False])
def test_a_child_counts_even_when_it_is_a_zombie(marked: bool) -> None:
    processes = LeftProcesses(TOKEN)
    before = len(processes.look())
    environment = {**os.environ, TOKEN.decode().split("=")[0]: "1"} if marked else {"A": "1"}
    with subprocess.Popen(["sleep", "60"], env=environment) as child:
        wait_until_runs(child.pid, "sleep")
        assert len(processes.look()) == before + 1
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert len(processes.look()) == before + 1
    assert len(processes.look()) == before


@pytest.mark.parametrize("ours", [True, False])
def test_an_orphan_counts_if_it_carries_the_token(ours: bool) -> None:
    processes = LeftProcesses(TOKEN)
    before = len(processes.look())
    environment = {**os.environ, TOKEN.decode().split("=")[0]: "1"} if ours else {**os.environ}
    script = "sleep 60 >/dev/null & echo $!"
    orphan = int(subprocess.run(["sh", "-c", script], env=environment, stdout=subprocess.PIPE, check=True).stdout)
    try:
        wait_until_runs(orphan, "sleep")
        for _ in range(2):  # whose it is is remembered, and must be right for that, too
            assert len(processes.look()) == before + ours
    finally:
        os.kill(orphan, signal.SIGKILL)
    while len(processes.look()) != before:  # it gives its memory back, which takes a moment
        time.sleep(0.001)
