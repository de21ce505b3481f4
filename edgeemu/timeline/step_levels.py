"""Instants of a step that runs alone, in arrays: sums and maxima along its operations and messages. Pure.

Devices execute their operations in the order of a step before. An operation is in the level after those of its device's
last one and of all senders of its inputs, so a level has no two operations of one device, and no two messages of one
connection. Terms are added in the simulator's order: the instants are exactly its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.timeline.network import BookedConnection
from edgeemu.timeline.steps import Duration, Step, step_durations
from edgeemu.timeline.wiring import Wiring


class Level(NamedTuple):
    """Level of a step: its operations, [n_ops] each, and the messages with their results, [n_messages] each."""

    ops: slice  # among all operations
    ends: slice  # among all instants
    devices: IntArray
    inputs: IntArray  # instants that the operations wait for, one operation after the other
    firsts: IntArray  # where in `inputs` those of each operation begin
    messages: slice  # among all messages
    arrivals: slice  # among all instants
    departures: IntArray  # among all instants
    connections: IntArray


class StepInstants(NamedTuple):
    """Instants of a step, and the sizes of its messages."""

    sampled_s: float
    instants: NDArray[np.float64]  # release, and by level the ends of operations and the arrivals of messages
    ready_s: NDArray[np.float64]  # [n_ops]
    size_bytes: NDArray[np.float64]  # [n_messages]


class StepLevels:
    """Operations and messages of a program's steps of one token, level by level.

    Instants are in one array: the step's release, and then for each level the ends of its operations and the arrivals
    of its messages.
    """

    def __init__(self, wiring: Wiring, order: Sequence[int], costs: Costs, duration: Duration) -> None:
        """`order`: places of the operations in the order in which such a step has executed them."""
        self.wiring = wiring
        self._costs = costs
        self.places: list[int] = []  # of the operations, by level
        self.sent: list[tuple[int, BookedConnection]] = []  # place of a message's sender, and its way
        self._waits: dict[int, list[int]] = {place: [] for place in order}  # instants, by the place of who waits
        self._n_instants = 1
        self.levels = [self._level([], [(wiring.lm_head, 0)])]  # the release sends a token to the embedding
        for places in _by_level(wiring, order):
            ends = [(place, self._n_instants + number) for number, place in enumerate(places)]
            self.levels.append(self._level(places, [end for end in ends if end[0] != wiring.lm_head]))
        self._ops = [wiring.program.ops[place] for place in self.places]
        self._durations_s = step_durations(duration, self._ops)
        self.devices = np.array([op.device for op in self._ops], np.int64)  # [n_ops]
        by_device = np.argsort(self.devices, kind="stable").tolist()  # each device's operations are in its order
        in_a_row = [pair for pair in pairwise(by_device) if self._compete(*pair)]
        self._before, self._after = np.array(in_a_row, np.int64).reshape(-1, 2).T
        self._n_connections = 1 + max((connection.number for _, connection in self.sent), default=-1)
        ways = [connection.pipe for _, connection in self.sent]
        assert all(way is not None for way in ways), "connections whose pipes vary, or several of them"
        self._bandwidth_bps = np.array([way.bandwidth_bps for way in ways if way is not None])  # [n_messages] each
        self._delay_s = np.array([way.delay_s for way in ways if way is not None])
        kinds = np.array([wiring.message_kinds[place] for place, _ in self.sent], np.int64)
        _, first, self._which_kind = np.unique(kinds, return_index=True, return_inverse=True)
        self._kinds = [wiring.program.ops[self.sent[message][0]] for message in first.tolist()]

    def _compete(self, before: int, after: int) -> bool:
        """Whether it depends on their inputs which of two operations is first. Of equal inputs, it never changes."""
        first, second = self._ops[before], self._ops[after]
        return first.device == second.device and first.needs != second.needs

    def _level(self, places: Sequence[int], senders: Iterable[tuple[int, int]]) -> Level:
        """Make a level of the operations at these places, and of the messages of senders: their places and ends."""
        wiring, n_ops = self.wiring, len(places)
        ops = slice(len(self.places), len(self.places) + n_ops)
        ends = slice(self._n_instants, self._n_instants + n_ops)
        inputs = [self._waits[place] for place in places]
        firsts = [0, *accumulate(map(len, inputs))][:n_ops]
        first, departures, connections = len(self.sent), list[int](), list[int]()
        for place, end in senders:
            for connection, waiting in wiring.deliveries[place]:
                instant = end
                if connection is not None:
                    instant = ends.stop + len(departures)
                    departures.append(end)
                    connections.append(connection.number)
                    self.sent.append((place, connection))
                for consumer in waiting:
                    if consumer in self._waits:
                        self._waits[consumer].append(instant)
        self.places += places
        self._n_instants = ends.stop + len(departures)
        return Level(
            ops,
            ends,
            np.array([wiring.devices[place] for place in places], np.int64),
            np.array([instant for each in inputs for instant in each], np.int64),
            np.array(firsts, np.int64),
            slice(first, len(self.sent)),
            slice(ends.stop, self._n_instants),
            np.array(departures, np.int64),
            np.array(connections, np.int64),
        )

    @property
    def width(self) -> float:
        """Number of operations and messages of a level, on average."""
        return self._n_instants / len(self.levels)

    def sampled_s(self, step: Step, at_s: float) -> float | None:
        """Return when a step's token is sampled that is released at an instant; None: devices take another order."""
        times = self.times(step, at_s)
        return None if times is None else times.sampled_s

    def times(self, step: Step, at_s: float) -> StepInstants | None:
        """Return the instants of a step that is released at one; None: devices take another order."""
        duration_s = self._durations_s(step)
        size_bytes = self._sizes(step)
        took_s = 8.0 * size_bytes / self._bandwidth_bps
        instants, ready_s = np.empty(self._n_instants), np.empty(len(self._ops))
        instants[0] = at_s
        device_free_s = np.full(self.devices.max() + 1, at_s)
        pipe_free_s, last_s = np.full(self._n_connections, at_s), np.full(self._n_connections, at_s)
        for ops, ends, devices, inputs, firsts, messages, arrivals, departures, ways in self.levels:
            if len(devices):
                ready_s[ops] = ready = np.maximum.reduceat(instants[inputs], firsts)
                end_s = np.maximum(device_free_s[devices], ready) + duration_s[ops]
                device_free_s[devices] = instants[ends] = end_s
            if len(ways):
                passed_s = np.maximum(pipe_free_s[ways], instants[departures]) + took_s[messages]
                pipe_free_s[ways] = passed_s
                arrival_s = np.maximum(passed_s + self._delay_s[messages], last_s[ways])
                last_s[ways] = instants[arrivals] = arrival_s
        if not (ready_s[self._after] > ready_s[self._before]).all():
            return None
        return StepInstants(
            float(device_free_s[self.wiring.devices[self.wiring.lm_head]]), instants, ready_s, size_bytes
        )

    def _sizes(self, step: Step) -> NDArray[np.float64]:
        """Bytes of each message of a step: [n_messages]."""
        costs = self._costs.at_step(step.rows, step.past)
        sizes = np.array([message_bytes(op, step.rows, costs) for op in self._kinds], np.float64)
        return sizes[self._which_kind]


def _by_level(wiring: Wiring, order: Sequence[int]) -> list[list[int]]:
    """Return the places of operations by level."""
    levels: list[list[int]] = []
    arrived: dict[int, int] = defaultdict(int)  # the first level that has all inputs, by place of an operation
    free: dict[int, int] = defaultdict(int)  # and the one in which a device is free
    for place in order:
        device = wiring.devices[place]
        level = max(arrived[place], free[device])
        if level == len(levels):
            levels.append([])
        levels[level].append(place)
        free[device] = level + 1
        for _, waiting in wiring.deliveries[place]:
            for consumer in waiting:
                arrived[consumer] = max(arrived[consumer], level + 1)
    return levels
