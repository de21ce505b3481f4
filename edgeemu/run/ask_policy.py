"""Asks a policy and checks its answer: one that is late or wrong leaves the placement as it was.

The only place where a policy's exceptions are caught, because policies may be a user's own code. Reads the clock.
"""

import operator
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

from edgeemu.errors import EdgeemuError, InfeasibleError, Interrupted, RunError, UnsuitableError
from edgeemu.host.signals import interrupted_at_once
from edgeemu.placement.placement import Placement
from edgeemu.policies import Policy
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import overfull
from edgeemu.policies.view.share_memory import all_fits
from edgeemu.policies.view.step_energy import over_budget
from edgeemu.run.alarm import Alarm, OvertimeError
from edgeemu.run.policy_process.messages import wrong_kind
from edgeemu.run.policy_process.separate_policy import Called, LostPolicyError, PolicyError, SeparatePolicy
from edgeemu.run.reserved_memory import kept_by_systems


class Answer(NamedTuple):
    """The placement to go on with. `problem` is why the policy's own was rejected; empty if it was not.

    If the policy did not answer within its limit, or its process ended, it is what the policy offered last (`cut`, and
    `problem` says why), or there is nothing (`lost`).
    """

    placement: Placement
    took_s: float
    problem: str = ""
    lost: bool = False
    cut: bool = False


class NoFirstPlacementError(RunError):
    """A built-in policy gave no first placement, or a wrong one."""


def first_decision(policy: Policy | SeparatePolicy, view: ClusterView, limit_s: float) -> Answer:
    """Ask for the placement that a run begins with.

    Raises:
        InfeasibleError: the policy finds no room, or its placement needs more energy than the budget allows.
        PolicyError: a user's policy failed, was late, or its answer is not a placement that fits.
        NoFirstPlacementError: the same of a built-in policy.
        Interrupted: a signal ended the command meanwhile.
    """
    wrong = PolicyError if isinstance(policy, SeparatePolicy) and policy.is_users else NoFirstPlacementError
    try:
        placement, took_s, cut = _ask(policy, view, None, limit_s)
        problem = fault(placement, view)
        if problem and view.by_layer is not None:  # what fits in the mean of the layers may not fit as they are
            careful = replace(view, costs=view.by_layer.uniform("largest"))
            placement, more_s, cut = _ask(policy, careful, None, limit_s)
            took_s, problem = took_s + more_s, fault(placement, view)
    except InfeasibleError as error:
        kept = kept_by_systems((device.name, device.reserved_bytes) for device in view.devices)
        if not kept or isinstance(error, UnsuitableError):
            raise
        raise InfeasibleError(f"{error}\nOf the memory of these devices, {kept}.") from error
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise wrong(f"the policy gave no first placement: {describe(error)}") from error
    if problem:
        raise wrong(f"the policy's first placement is wrong: {problem}")
    problem = over_budget(view, placement)
    if problem:
        raise InfeasibleError(f"{problem}\nRaise the budget, or use other devices, another policy or a smaller model.")
    return Answer(_own(placement), took_s, cut, cut=bool(cut))


def next_decision(
    policy: Policy | SeparatePolicy,
    view: ClusterView,
    current: Placement,
    limit_s: float,
    alarm: Alarm | None = None,
) -> Answer:
    """Ask for the placement to go on with; if the answer cannot be used, it is the current one, with the reason.

    `alarm`: of the run, which keeps the limit of policies in this process.

    Raises:
        Interrupted: a signal ended the command meanwhile.
    """
    began_s = time.thread_time()
    try:
        if isinstance(policy, SeparatePolicy):
            with interrupted_at_once():
                policy.load()  # a process that was lost is replaced, and that is not the policy's time
            began_s = time.thread_time()
        placement, took_s, cut = _ask(policy, view, current, limit_s, alarm)  # a user's has a copy, in its own process
        problem = fault(placement, view, current)
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - a policy may raise anything, and the run must go on
        lost = isinstance(error, OvertimeError | LostPolicyError)
        return Answer(current, time.thread_time() - began_s, describe(error), lost)
    if not problem and placement != current:
        problem = over_budget(view, placement, current)
    if problem:
        return Answer(current, took_s, problem)
    if placement == current:
        placement = current
    elif not _fits_as_found(placement, view):
        placement = _own(placement)
    return Answer(placement, took_s, cut, cut=bool(cut))


def _ask(
    policy: Policy | SeparatePolicy,
    view: ClusterView,
    current: Placement | None,
    limit_s: float,
    alarm: Alarm | None = None,
) -> Called:
    """Ask a policy. Later decisions of policies in this process take milliseconds: signals wait until they are over."""
    separate = isinstance(policy, SeparatePolicy)
    with interrupted_at_once() if separate or current is None else nullcontext():
        if isinstance(policy, SeparatePolicy):
            called = policy.ask(view, current, limit_s)
        else:
            called = _call(policy, view, current, limit_s, alarm or Alarm())
    return called._replace(cut=f"{called.cut}; what it had offered until then is used") if called.cut else called


def _call(policy: Policy, view: ClusterView, current: Placement | None, limit_s: float, alarm: Alarm) -> Called:
    """Call a policy here, and take what it offered last if it exceeds its limit."""
    offered: deque[Placement] = deque(maxlen=1)
    view = view.noted(offer=offered.append)
    began_s = time.thread_time()
    try:
        with alarm.limit(limit_s):
            placement = policy(view, current)
    except OvertimeError as error:
        if not offered:
            raise
        return Called(offered[0], time.thread_time() - began_s, str(error))
    return Called(placement, time.thread_time() - began_s)


def _own(placement: Placement) -> Placement:
    """Return a copy that the policy cannot change, with devices as plain integers (NumPy's are accepted)."""
    return Placement({block: operator.index(device) for block, device in placement.owner.items()})


def _fits_as_found(placement: Placement, view: ClusterView) -> bool:
    """Whether a search of ours has made a placement, and has found that it fits: nobody else has it or counts again."""
    return any(placement is known for known in view.fitting)


def fault(placement: object, view: ClusterView, current: Placement | None = None) -> str:
    """Return what is wrong with an answer; empty if it is right, or is the current placement."""
    if isinstance(placement, Placement):
        found = view.by_layer is None and _fits_as_found(placement, view)  # which does not look at single layers
        if found or placement == current:
            return ""
    if problem := wrong_kind(placement):
        return problem
    assert isinstance(placement, Placement)
    try:
        placement.check(view.costs.shape, view.n_devices)
    except EdgeemuError as error:
        return str(error)
    if view.by_layer is None and all_fits(view, placement):
        return ""
    for index, need_bytes in overfull(view, placement, current).items():
        device = view.devices[index]
        return f"{device.name} would need {need_bytes:,} B and has {device.memory_bytes:,} B"
    return ""


def describe(error: BaseException) -> str:
    """Return an error's message, with its type if it is not one of ours."""
    return str(error) if isinstance(error, EdgeemuError | OvertimeError) else f"{type(error).__name__}: {error}"
