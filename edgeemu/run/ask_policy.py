"""Asks a policy, and believes nothing: an answer that is late, wrong or none leaves the placement as it was.

The only place where a policy's exceptions are caught, because policies may be a user's own code. Knows a clock.
"""

import operator
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

from edgeemu.errors import EdgeemuError, InfeasibleError, RunError
from edgeemu.placement.blocks import Block
from edgeemu.placement.placement import Placement
from edgeemu.policies import Policy
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_energy import over_budget


class Decision(NamedTuple):
    """What to do from now on. `problem` says why it is the previous placement, where it should not have been."""

    placement: Placement
    took_s: float
    problem: str = ""
    late: bool = False  # there was no answer within the limit


class OvertimeError(BaseException):
    """A policy did not answer in time. No Exception: a policy that catches those must not catch this."""


_FAILURES = (Exception, OvertimeError, SystemExit)  # of somebody else's code; Ctrl-C is not one
_REPEAT_S = 1.0  # of the alarm, for code that swallowed it


def first_decision(policy: Policy, view: ClusterView, limit_s: float) -> Decision:
    """The placement that a run begins with.

    Raises:
        InfeasibleError: the policy finds no room, or its placement needs more energy than the budget allows.
        RunError: it failed, was late, or its answer is not a placement that fits.
    """
    began_s = time.perf_counter()
    try:
        with time_limit(limit_s):
            placement = policy(view, None)
        took_s = time.perf_counter() - began_s
        problem = fault(placement, view)
    except InfeasibleError:
        raise
    except _FAILURES as error:
        raise RunError(f"the policy gave no first placement: {describe(error)}") from error
    if problem:
        raise RunError(f"the policy's first placement is wrong: {problem}")
    problem = over_budget(view, placement)
    if problem:
        raise InfeasibleError(f"{problem}\nAllow more, give better devices, or take another policy or a smaller model.")
    return Decision(_own(placement), took_s)


def next_decision(policy: Policy, view: ClusterView, current: Placement, limit_s: float) -> Decision:
    """The placement to go on with: the policy's, or the current one and the reason."""
    shown = Placement(dict(current.owner))  # a policy may write into it
    began_s = time.perf_counter()
    try:
        with time_limit(limit_s):
            placement = policy(view, shown)
        took_s = time.perf_counter() - began_s
        problem = fault(placement, view, current)
    except _FAILURES as error:  # a user's policy may raise anything, and the run must go on
        return Decision(current, time.perf_counter() - began_s, describe(error), isinstance(error, OvertimeError))
    if problem or placement == current:
        return Decision(current, took_s, problem)
    problem = over_budget(view, placement, current)
    if problem:
        return Decision(current, took_s, problem)
    return Decision(_own(placement), took_s)


def _own(placement: Placement) -> Placement:
    """A copy that nobody else can change, with devices as plain integers (NumPy's are also taken)."""
    return Placement({block: operator.index(device) for block, device in placement.owner.items()})


def fault(placement: object, view: ClusterView, current: Placement | None = None) -> str:
    """What is wrong with an answer; empty where nothing is, or where it is what there is already."""
    if not isinstance(placement, Placement):
        return f"the answer is a {type(placement).__name__}, not a Placement"
    owner: Any = placement.owner
    if not isinstance(owner, Mapping):
        return f"the placement's owner is a {type(owner).__name__}, not a mapping from blocks to devices"
    for block, number in owner.items():
        if not isinstance(block, Block):
            return f"the placement names {block!r}, which is not a Block"
        if not hasattr(number, "__index__"):
            return f"{block} is on {number!r}, which is not a device's number"
    if current is not None and placement == current:
        return ""
    try:
        placement.check(view.costs.shape, len(view.devices))
    except EdgeemuError as error:
        return str(error)
    if current is not None and (divided := placement.owner.keys() ^ current.owner.keys()):
        return f"{min(divided)} is in only one of the two placements: no block can be divided or joined on the way"
    for device, usage in zip(view.devices, view.usages(placement), strict=True):
        need_bytes = usage.page().total_bytes
        if need_bytes > device.memory_bytes:
            return f"{device.name} would need {need_bytes:,} B and has {device.memory_bytes:,} B"
    return ""


def describe(error: BaseException) -> str:
    return str(error) if isinstance(error, EdgeemuError | OvertimeError) else f"{type(error).__name__}: {error}"


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raises OvertimeError in the block when it has taken so long. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise OvertimeError(f"the policy did not answer within {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    began_s = time.monotonic()
    others_s, _ = signal.setitimer(signal.ITIMER_REAL, limit_s, _REPEAT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        if others_s:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, others_s - (time.monotonic() - began_s)))
