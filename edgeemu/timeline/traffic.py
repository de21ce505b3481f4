"""Sums of the messages that each step sends over each path."""

from collections import defaultdict
from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.timeline.columns import Columns, Groups, table
from edgeemu.timeline.network import Transit

# Number of its connection, bytes, time from departure to arrival, and the part of it that it waited for other messages.
Message = tuple[int, int, float, float]
Messages = Sequence[Message] | NDArray[np.float64]  # an array has a column for each field: [4, n_messages]
NOT_ALONE = nan  # in place of the last: the message before it had not arrived when it departed


class PathTraffic(NamedTuple):
    """Messages of one step from one device to another: their number, and the sums of their sizes and times."""

    source: int
    target: int
    messages: int
    bytes: int
    transit_s: float  # from departure to arrival


class StepTraffic:
    """Adds up messages by step and path until the step is taken."""

    def __init__(self) -> None:
        self._steps: dict[tuple[int, int], dict[tuple[int, int], tuple[int, int, float]]] = defaultdict(dict)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """The steps that have messages."""
        return list(self._steps)

    def add(self, step: tuple[int, int], path: tuple[int, int], size_bytes: int, transit_s: float) -> None:
        """Add a message of a step (sequence and number) on a path (source and target)."""
        paths = self._steps[step]
        messages, total_bytes, sum_s = paths.get(path, (0, 0, 0.0))
        paths[path] = messages + 1, total_bytes + size_bytes, sum_s + transit_s

    def take(self, step: tuple[int, int]) -> list[PathTraffic]:
        """Return the sums of a step, and forget them."""
        return [
            PathTraffic(source, target, messages, size_bytes, transit_s)
            for (source, target), (messages, size_bytes, transit_s) in self._steps.pop(step, {}).items()
        ]


def traffic_sums(messages: Messages, ends: IntArray) -> Columns[PathTraffic]:
    """Add up messages by path, in the order of the first on each; `ends` are those of connections: [2, n]."""
    numbers, size_bytes, transit_s, _ = table(messages, 4)  # [n_messages] each
    connections = numbers.astype(np.int64)
    groups = Groups.of(connections, ends.shape[1])
    sources, targets = ends[:, connections[groups.first]]  # [n_paths] each
    total_bytes = groups.sums(size_bytes).astype(np.int64)
    return Columns(PathTraffic, [sources, targets, groups.counts(), total_bytes, groups.sums(transit_s)])


def transit_sums(messages: Messages, ends: IntArray) -> Columns[Transit]:
    """Add up the times of messages that had their connection to themselves, by ends and size, as `network.Transits`."""
    numbers, size_bytes, transit_s, waited_s = table(messages, 4)  # [n_messages] each
    alone = ~np.isnan(waited_s)
    connections, size_bytes = numbers[alone].astype(np.int64), size_bytes[alone].astype(np.int64)
    sizes, which = np.unique(size_bytes, return_inverse=True)
    groups = Groups.of(connections * len(sizes) + which, ends.shape[1] * len(sizes))
    sources, targets = ends[:, connections[groups.first]]  # [n_transits] each
    took_s = groups.sums(transit_s[alone] - waited_s[alone])
    return Columns(Transit, [sources, targets, size_bytes[groups.first], groups.counts(), took_s])
