"""Processes of policies that start warm: forked from the tests, which have done their imports.

For tests that are not about how such a process starts: its imports take 0.3 s of processor time.
"""

import os
import subprocess

from edgeemu.host.supervisor import supervise
from edgeemu.run.policy_process import process, worker
from support.forked import begin_program, fork_program


def start_policy(control_fd: int, faults_fd: int) -> "subprocess.Popen[bytes]":
    """Start a supervisor and its process: takes the place of `process._start`."""
    entry = f"{worker.__name__}:{worker.main.__name__}"
    assert entry == process._ENTRY

    def be_supervisor() -> None:
        begin_program(keep=(control_fd, faults_fd), unbuffered=True)
        os._exit(supervise(entry, [str(control_fd), str(faults_fd)]))

    return fork_program(
        be_supervisor,
        stdin=subprocess.PIPE,
        stdout=process._STDERR,
        start_new_session=True,
        bufsize=0,
    )
