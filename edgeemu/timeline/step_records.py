"""Records of a step whose instants were computed in arrays: operations and messages in the simulator's order. Pure.

The simulator notes operations at their starts, and messages at the ends of their senders. At one instant on several
devices, and of inputs that arrive at one, the order is that of events, which only the simulator has.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.timeline.executed import ExecutedOps
from edgeemu.timeline.step_levels import StepInstants, StepLevels
from edgeemu.timeline.steps import Step
from edgeemu.timeline.traffic import NOT_ALONE


class StepRecord(NamedTuple):
    """Record of a step: when its token was sampled, its operations, and its messages."""

    step: Step
    sampled_s: float
    executed: ExecutedOps
    messages: NDArray[np.float64]  # fields of a `traffic.Message` by column: [4, n_messages]


class StepRecords:
    """Records of the steps of a program, of which all have the same operations and messages."""

    def __init__(self, levels: StepLevels) -> None:
        self.levels = levels
        each, n_ops, n_messages = levels.levels, len(levels.places), len(levels.sent)
        self._places: IntArray = np.array(levels.places, np.int64)  # [n_ops] each
        self._before = _before(levels.devices)  # the last operation of its device; -1: it is the first
        self._ends = np.concatenate([np.arange(level.ends.start, level.ends.stop) for level in each])  # instants
        self._inputs = np.concatenate([level.inputs for level in each])  # instants, of all operations
        n_inputs = [np.diff(level.firsts, append=len(level.inputs)) for level in each]
        self._waiting = np.repeat(np.arange(n_ops), np.concatenate(n_inputs))  # the operation of each input
        self._connections = np.array([connection.number for _, connection in levels.sent], np.int64)
        self._message_before = _before(self._connections)  # [n_messages] each: the last of its connection
        self._departures = np.concatenate([level.departures for level in each])  # instants
        self._arrivals = np.concatenate([np.arange(level.arrivals.start, level.arrivals.stop) for level in each])
        self._causes: IntArray = np.full(1 + n_ops + n_messages, -1)  # of instants: operation; -1: the release
        self._causes[self._ends] = np.arange(n_ops)
        self._causes[self._arrivals] = self._causes[self._departures]

    def of(self, step: Step, at_s: float) -> StepRecord | None:
        """Return the record of a step that is released at an instant; None: only the simulator knows its order."""
        levels = self.levels
        times = levels.times(step, at_s)
        if times is None or times.instants.max() > times.sampled_s:
            return None
        end_s = times.instants[self._ends]
        start_s = np.maximum(np.where(self._before < 0, at_s, end_s[self._before]), times.ready_s)
        last = np.flatnonzero(times.instants[self._inputs] == times.ready_s[self._waiting])
        starts, ends = _order(start_s, levels.devices), _order(end_s, levels.devices)
        if starts is None or ends is None or len(last) != len(starts):
            return None
        lm_head = levels.wiring.lm_head
        senders = np.append(self._places, lm_head)[self._causes[self._inputs[last]]]  # the release is of the last token
        which_step = np.zeros(len(starts), np.int64)
        instants = times.ready_s[starts], start_s[starts], end_s[starts]
        about = levels.wiring.columns
        executed = ExecutedOps(about, self._places[starts], [step], which_step, instants, senders[starts])
        return StepRecord(step, times.sampled_s, executed, self._messages(times, ends))

    def _messages(self, times: StepInstants, ends: IntArray) -> NDArray[np.float64]:
        """Make the messages of a step; `ends` are its operations in the order in which they have ended."""
        turns = np.empty(1 + len(ends), np.int64)  # of operations to send; the last: of the release
        turns[ends], turns[-1] = np.arange(len(ends)), -1
        order = np.argsort(turns[self._causes[self._departures]], kind="stable")
        departure_s, arrival_s = times.instants[self._departures], times.instants[self._arrivals]
        alone = (self._message_before < 0) | (departure_s >= arrival_s[self._message_before])
        waited_s = np.where(alone, 0.0, NOT_ALONE)
        return np.array([self._connections, times.size_bytes, arrival_s - departure_s, waited_s])[:, order]


def _before(numbers: IntArray) -> IntArray:
    """Return for each number where it stands last before; -1: nowhere. [n] -> [n]."""
    found = np.full(len(numbers), -1)
    for before, after in pairwise(np.argsort(numbers, kind="stable").tolist()):
        if numbers[before] == numbers[after]:
            found[after] = before
    return found


def _order(times_s: NDArray[np.float64], devices: IntArray) -> IntArray | None:
    """Order operations by instants, those of a device as they are; None: instants of several devices are equal."""
    order = np.argsort(times_s, kind="stable")
    times_s, devices = times_s[order], devices[order]
    equal = times_s[1:] == times_s[:-1]
    return None if equal.any() and (devices[1:] != devices[:-1])[equal].any() else order
