"""The controller's side of a policy's process: starts it, asks it, and ends it. Knows limits; no run."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from edgeemu.errors import RunError
from edgeemu.policies.blame import is_home
from edgeemu.run.policy_process.messages import Blamed, Offered, Reply, Started
from edgeemu.run.policy_process.shared import Sender

START_TIMEOUT_S = 60.0  # importing NumPy from a cold disk takes seconds, not a minute
GRACE_S = 2.0  # for a process that ends by itself; longer than the report of where it is
WAIT = 5.0  # limits of processor time by the clock: for a host that is busy, and a policy that sleeps
_LOOK_EVERY_S = 0.05  # at the processor time of the process
END_TIMEOUT_S = 10.0  # a killed process has to give its memory back
_ENTRY = "edgeemu.run.policy_process.worker:main"
_STDERR = 2
_LARGEST_REPLY_BYTES = 1 << 28
_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)  # of faulthandler

ReplyT = TypeVar("ReplyT", bound=Reply)


class NoAnswerError(Exception):
    """The process did not answer in time, or has ended. The message says where its policy was."""


class PolicyProcess:
    """A process that answers requests until it is ended, which also happens to one that gives no answer."""

    def __init__(self, home: str, shown: str) -> None:
        """`home` is the file of the policy, or the directory of its package; `shown` the file's name for readers.

        Raises:
            RunError: the process could not be started.
        """
        self.home = home
        self._shown = shown
        self.offered: Offered | None = None  # before the last reply, or instead of one
        self._sender = Sender()
        self._faults = os.memfd_create("faults")
        ours, theirs = socket.socketpair()
        self._connection = Connection(ours.detach())
        try:
            with theirs:
                self._supervisor = _start(theirs.fileno(), self._faults)
        except OSError as error:
            raise RunError(f"the policy's process could not be started: {error.strerror}") from error
        try:
            self._limit(START_TIMEOUT_S)
            self._clock = _processor_clock(self._started().pid)
        except BaseException as error:
            self.end()
            if isinstance(error, NoAnswerError):
                raise RunError(f"the policy's process could not be started: {error}") from error
            raise

    def ask(self, request: object, kind: type[ReplyT], limit_s: float) -> ReplyT | Blamed:
        """Send a request and wait for its reply. What is offered before it is kept in `offered`.

        Raises:
            NoAnswerError: it took more processor time than the limit, or by the clock `WAIT` times as long, or the
                process has ended.
        """
        try:
            self._limit(WAIT * limit_s)
            try:
                self._connection.send_bytes(self._sender.dumps(request))
            except BlockingIOError:  # it no longer reads: a thread that a policy has left can keep it from it
                raise self._late(WAIT * limit_s) from None
            except OSError:
                raise self._ended() from None
            self.offered = None
            return self._await(kind, limit_s)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Kill the process and all that it has started. Ending a second time does nothing."""
        if self._connection.closed:
            return
        self._connection.close()
        self._finish(grace_s=0.0)
        os.close(self._faults)

    def _started(self) -> Started:
        if not self._connection.poll(START_TIMEOUT_S):
            raise self._late(START_TIMEOUT_S)
        started = self._receive(START_TIMEOUT_S)
        if not isinstance(started, Started):
            raise _not_its_own()
        return started

    def _await(self, kind: type[ReplyT], limit_s: float) -> ReplyT | Blamed:
        """Wait for a reply, whatever is offered before it, or for the end of the process."""
        ends_s, began_s = time.monotonic() + WAIT * limit_s, self._spent_s()
        while True:
            with suppress(OSError):  # it has ended, or ends while it is looked at
                while not self._connection.poll(min(_LOOK_EVERY_S, limit_s)):
                    self._look(began_s, ends_s, limit_s)
            reply = self._receive(WAIT * limit_s)
            if isinstance(reply, kind | Blamed):
                return reply
            if not isinstance(reply, Offered):
                raise _not_its_own()
            self.offered = reply
            self._look(began_s, ends_s, limit_s)  # it may never stop offering

    def _look(self, began_s: float, ends_s: float, limit_s: float) -> None:
        """Raise NoAnswerError if the process has used up its processor time, or the clock has run out."""
        if self._spent_s() - began_s > limit_s:
            raise self._late(limit_s, " of processor time")
        if time.monotonic() > ends_s:
            raise self._late(WAIT * limit_s)

    def _spent_s(self) -> float:
        """Return the processor time of the process so far; 0 where it has ended."""
        with suppress(OSError):
            return time.clock_gettime(self._clock)
        return 0.0

    def _receive(self, limit_s: float) -> Reply:
        try:
            received = self._connection.recv_bytes(_LARGEST_REPLY_BYTES)
        except BlockingIOError:
            raise self._late(limit_s) from None
        except (EOFError, OSError):
            raise self._ended() from None
        try:
            reply: Reply = msgspec.msgpack.decode(received, type=Reply)
        except msgspec.MsgspecError:
            raise _not_its_own() from None
        return reply

    def _limit(self, limit_s: float) -> None:
        """Limit the time of a write, and of a read within a reply."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
            limit = struct.pack("@ll", int(limit_s), int(limit_s % 1 * 1e6) or 1)  # struct timeval
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def _late(self, limit_s: float, of: str = "") -> NoAnswerError:
        with suppress(OSError):
            _lifeline(self._supervisor).write(b"?")  # where is it?
        self._finish(GRACE_S)
        return NoAnswerError(f"{self._place()}the policy did not answer within {limit_s:g} s{of}")

    def _ended(self) -> NoAnswerError:
        status = self._finish(GRACE_S)
        number = -status if status < 0 else status - 128  # of the supervisor itself, or as it tells it
        how = f"was killed by {_signal_name(number)}" if number > 0 else f"ended with status {status}"
        return NoAnswerError(f"{self._place()}the policy's process {how}")

    def _finish(self, grace_s: float) -> int:
        """Give the process some time to end, and kill it and its descendants. Returns its exit status."""
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(grace_s)
        with suppress(OSError):
            _lifeline(self._supervisor).close()
        try:
            return self._supervisor.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()  # and the kernel kills the process
            return self._supervisor.wait()

    def _place(self) -> str:
        """Return the line at which the policy was, by what faulthandler has written."""
        told = os.pread(self._faults, 1 << 20, 0).decode(errors="replace")
        frames = _FRAME.findall(told)  # the innermost is the first
        at = next((f"{self._shown or file}:{line}" for file, line in frames if is_home(file, self.home)), "")
        return f"{at}: " if at else ""


def _not_its_own() -> NoAnswerError:
    return NoAnswerError("the policy's process wrote to a file descriptor that is not its own")


def _start(control_fd: int, faults_fd: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)  # "" is the current directory
    return subprocess.Popen(
        # -P: the import path is that of this process; -u: what a policy prints is not lost when it is killed
        [sys.executable, "-P", "-u", "-m", "edgeemu.host.supervisor", _ENTRY, str(control_fd), str(faults_fd)],
        stdin=subprocess.PIPE,
        stdout=_STDERR,  # standard output is for the answer of a command
        pass_fds=(control_fd, faults_fd),
        start_new_session=True,  # a terminal's Ctrl-C is for the controller
        env={**os.environ, "PYTHONPATH": path},
        bufsize=0,
    )


def _processor_clock(pid: int) -> int:
    """The clock of a process's processor time (clock_getcpuclockid(3), which Python has for threads only)."""
    return (~pid << 3) | 2


def _lifeline(supervisor: subprocess.Popen[bytes]) -> IO[bytes]:
    assert supervisor.stdin is not None
    return supervisor.stdin


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
