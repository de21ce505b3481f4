"""The check that nothing is left behind sees what tests leave, and not what other programs do at the time."""

import os
import subprocess
import sys

import pytest
from support.shared_memory import DIRECTORY, left_in_shared_memory

TOKEN = b"EDGEEMU_TEST_OF_THE_CHECK=1"
HOLDS_A_SEMAPHORE = """
import multiprocessing, sys
semaphore = multiprocessing.get_context("spawn").Semaphore()
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
        assert bool(made & set(left_in_shared_memory(TOKEN))) == ours
        process.communicate()


def test_a_file_that_nobody_has_mapped_counts() -> None:
    file = DIRECTORY / f"edgeemu-test-{os.getpid()}"
    file.touch()
    try:
        assert file in left_in_shared_memory(TOKEN)
    finally:
        file.unlink()
