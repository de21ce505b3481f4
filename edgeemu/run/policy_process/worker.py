"""The process of a user's policy: loads it, and asks it as often as the controller asks. Trusts nothing of it.

`edgeemu.host.supervisor` starts it in a session of its own, and ends whatever it leaves. It reads a clock: only the
time of the call itself counts as the policy's.
"""

import faulthandler
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FunctionType

import msgspec

import edgeemu.cluster.draw.links  # noqa: F401  # views have links: loaded before the policy's time begins
from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.host.available_memory import available_memory
from edgeemu.policies import POLICIES, Policy
from edgeemu.policies.blame import blame, message
from edgeemu.policies.loading import home_of, installed_policy, load, policy_file
from edgeemu.policies.view.cluster_view import NoBetterPlacement
from edgeemu.run.policy_process.messages import (
    Answered,
    Ask,
    Blamed,
    Load,
    Loaded,
    Offered,
    Reply,
    Started,
    WrongAnswerError,
    packed,
    unpacked,
)
from edgeemu.run.policy_process.shared import Receiver

MEMORY_SHARE = 0.75  # of the memory that is available at the start: a policy must not take the host's last
_MOST_EXPENDABLE = "1000"  # proc(5): if memory runs out all the same, this process is the first to be killed


def main(control_fd: str, faults_fd: str) -> None:
    """Answer requests until the controller closes the connection. `faults_fd`: for the line of a crash or of a hang."""
    for number in (control_fd, faults_fd):
        os.set_inheritable(int(number), False)
    faulthandler.enable(int(faults_fd), all_threads=False)
    _limit_memory()
    connection = Connection(int(control_fd))
    worker = Worker(lambda offered: connection.send_bytes(msgspec.msgpack.encode(offered)))
    reply: Reply = Started(os.getpid())
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            connection.send_bytes(msgspec.msgpack.encode(reply))
            reply = worker.answer(connection.recv_bytes())


class Worker:
    """A policy, once it is loaded."""

    def __init__(self, send: Callable[[Offered], None]) -> None:
        """`send` sends what a policy offers before it answers."""
        self._send = send
        self._receiver = Receiver()
        self._policy: Policy | None = None
        self._home = ""
        self._shown = ""  # the file's name as the user wrote it
        self._defined = ""  # where the policy's function is in it

    def answer(self, sent: bytes) -> Reply:
        """Do what is asked."""
        match self._receiver.loads(sent):
            case Load(name):
                return self._load(name)
            case Ask() as ask:
                return self._ask(ask)
        raise AssertionError

    def _load(self, name: str) -> Reply:
        file = policy_file(name)
        if file is not None:
            self._home, self._shown = os.path.abspath(file.path), file.path  # noqa: PTH100  # as the import system does
        try:
            self._policy = load(name, POLICIES)
            if file is None and name not in POLICIES:
                self._home = home_of(installed_policy(name, POLICIES))
            function = self._policy if isinstance(self._policy, FunctionType) else type(self._policy).__call__
            if self._shown and isinstance(function, FunctionType):
                self._defined = f"{self._shown}:{function.__code__.co_firstlineno}: "
        except RequestError as error:
            return Blamed(str(error))
        except BaseException as error:  # noqa: BLE001 - a user's code can raise anything
            return Blamed(self._blame(error))
        return Loaded(self._home)

    def _ask(self, ask: Ask) -> Reply:
        assert self._policy is not None
        try:
            current = None if ask.current is None else unpacked(ask.current)
            view = replace(ask.view, offer=lambda placement: self._send(Offered(packed(placement))))
            began_s = time.process_time()
            answer = self._policy(view, current)
            took_s = time.process_time() - began_s
            reply = Answered(packed(answer), took_s)
            msgspec.msgpack.encode(reply)  # a number can be too large
        except WrongAnswerError as error:
            return Blamed(self._defined + message(error))
        except (InfeasibleError, NoBetterPlacement) as error:
            return Blamed(message(error), isinstance(error, InfeasibleError))
        except BaseException as error:  # noqa: BLE001 - a user's code can raise anything
            return Blamed(self._blame(error))
        return reply

    def _blame(self, error: BaseException) -> str:
        try:
            return blame(error, self._home, self._shown)
        except BaseException as worse:  # noqa: BLE001 - the exception's own class can be a trap
            return f"an exception that cannot be described: {object.__repr__(worse)}"


def _limit_memory() -> None:
    """Have a policy that allocates without end get a MemoryError, before the host runs out of memory."""
    with suppress(OSError):  # where /proc cannot be written to
        Path("/proc/self/oom_score_adj").write_text(_MOST_EXPENDABLE)
    most, hard = int(available_memory().available_bytes * MEMORY_SHARE), resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
