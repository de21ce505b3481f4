"""Operations of steps that were given up at a fault: a device ends what it has begun, unless it is lost. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import isinf
from typing import NamedTuple

import numpy as np

from edgeemu.timeline.columns import Columns
from edgeemu.timeline.executed import Executed, ExecutedOps, Instants
from edgeemu.timeline.flow import Flow
from edgeemu.timeline.traffic import PathTraffic

StepKey = tuple[int, int]  # sequence and number


class GivenUpStep(NamedTuple):
    """Operations of a step that was given up: `done` is the share of each that was computed, [n_executed]."""

    step: StepKey  # that is to run again, or that waited for it
    executed: ExecutedOps
    done: Instants


class GivenUpTraffic(NamedTuple):
    """Messages of a step that was given up, by path."""

    step: StepKey
    traffic: Columns[PathTraffic]


class GivenUpSteps:
    """Operations of steps that were given up, until they are taken."""

    def __init__(self) -> None:
        self._operations: list[tuple[StepKey, Flow, Executed]] = []
        # When an operation was lost with its device, by flow and place; the flow is kept, and so is its number.
        self._cut: dict[tuple[int, int], tuple[Flow, float]] = {}

    def add(self, step: StepKey, operations: Iterable[tuple[Flow, Executed]]) -> None:
        """Add operations that a step had begun when it was given up."""
        self._operations += [(step, *each) for each in operations]

    def lose(self, device: int, at_s: float, begun: Iterable[tuple[Flow, Executed]]) -> None:
        """Note that a device was lost: what it was doing is cut short. `begun`: operations of steps in flight."""
        for flow, executed in (*begun, *((flow, executed) for _, flow, executed in self._operations)):
            place, _, _, end_s, _ = executed
            if flow.wiring.devices[place] == device and end_s > at_s:
                self._cut.setdefault((id(flow), place), (flow, at_s))

    def take(self, by_s: float, *, cut: bool = False) -> list[GivenUpStep]:
        """Return the operations that had ended by an instant; `cut`: those that had not are cut short there."""
        ended: dict[int, list[tuple[StepKey, Flow, Executed, float]]] = defaultdict(list)  # by step in flight
        left = []
        for each in self._operations:
            step, flow, (place, ready_s, start_s, whole_s, last) = each
            _, end_s = self._cut.get((id(flow), place), (flow, whole_s))
            if end_s > by_s and not cut:
                left.append(each)
                continue
            self._cut.pop((id(flow), place), None)
            end_s = max(start_s, min(end_s, by_s))
            ended[id(flow)].append(
                (step, flow, (place, ready_s, start_s, end_s, last), _share(start_s, end_s, whole_s))
            )
        self._operations = left
        return [_step_of(operations) for operations in ended.values()]


def _share(start_s: float, end_s: float, whole_s: float) -> float:
    """Return the share of an operation that was computed; none of it where it would not have come to an end."""
    if end_s >= whole_s:
        return 1.0
    return 0.0 if isinf(whole_s) else (end_s - start_s) / (whole_s - start_s)


def _step_of(operations: Sequence[tuple[StepKey, Flow, Executed, float]]) -> GivenUpStep:
    step, flow, _, _ = operations[0]
    executed = ExecutedOps.of_step(flow.wiring.columns, flow.step, [each for _, _, each, _ in operations])
    return GivenUpStep(step, executed, np.array([done for *_, done in operations]))
