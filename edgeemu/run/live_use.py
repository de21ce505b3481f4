"""Work of devices and links in the last seconds of a run, added up from the rows of its records. Knows no terminal."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.report.rows import ROWS, TableName
from edgeemu.report.usage_rows import StepRows
from edgeemu.timeline.columns import Coded

LOOKS = 8  # over which work is averaged: two seconds, where something happens all the time
_MEMORY = ("weights_bytes", "cache_bytes", "workspace_bytes", "messages_bytes", "incoming_bytes")
_LINK = ("transfer_s", "bytes", "queue_s", "messages")

Floats = NDArray[np.float64]


class LinkUse(NamedTuple):
    """A link that was used in the last looks. `share`: of the time, for which messages took its bandwidth."""

    source: int
    target: int
    share: float
    bits_per_s: float
    queue_s: float  # mean, of a message


class _Span(NamedTuple):
    """Work between two looks."""

    passed_s: float  # on the timeline
    busy_s: Floats  # [n_devices]
    links: dict[int, Floats]  # by both ends in one number: `_LINK`


class Use:
    """Use of devices and links. Rows are only kept until a look adds them up: many come between two."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the devices, in the order of the cluster."""
        self.held_bytes = np.zeros(len(names))  # [n_devices]; of those that have worked
        self.loads = np.zeros(len(names))  # [n_devices] the share of the time for which each has computed
        self.links: list[LinkUse] = []  # the most used first
        self._index = {name: index for index, name in enumerate(names)}
        self._rows: list[StepRows] = []
        self._works: deque[_Span] = deque(maxlen=LOOKS)
        self._now_s = self._looked_s = 0.0

    def add(self, rows: StepRows, now_s: float) -> None:
        """Take what was done up to an instant."""
        self._rows.append(rows)
        self._now_s = now_s

    def look(self) -> None:
        """Add up what has come since the last look."""
        rows, self._rows = self._rows, []
        passed_s, self._looked_s = self._now_s - self._looked_s, self._now_s
        n_devices = len(self._index)
        devices, numbers = self._numbers(rows, "devices", ("device",), ("busy_s", *_MEMORY))
        self.held_bytes[devices] = numbers[1:].sum(axis=0)  # the last row of a device counts
        busy_s = np.bincount(devices, numbers[0], minlength=n_devices).astype(np.float64)  # of no rows: integers
        ends, numbers = self._numbers(rows, "links", ("source", "target"), _LINK)
        pairs, which = np.unique(ends, return_inverse=True)
        sums = np.array([np.bincount(which, column, minlength=len(pairs)) for column in numbers])  # [n_values, n_pairs]
        self._works.append(_Span(passed_s, busy_s, dict(zip(pairs.tolist(), sums.T, strict=True))))
        passed_s = sum(work.passed_s for work in self._works)
        if passed_s > 0.0:
            self.loads = np.minimum(1.0, np.sum([work.busy_s for work in self._works], axis=0) / passed_s)
            self.links = sorted(self._used(passed_s), key=lambda link: -link.share)

    def _used(self, passed_s: float) -> Iterator[LinkUse]:
        sums: dict[int, Floats] = {}
        for work in self._works:
            for pair, numbers in work.links.items():
                sums[pair] = sums[pair] + numbers if pair in sums else numbers
        for pair, numbers in sums.items():
            used_s, sent_bytes, queue_s, messages = numbers.tolist()
            ends = divmod(pair, len(self._index))
            yield LinkUse(*ends, used_s / passed_s, 8.0 * sent_bytes / passed_s, queue_s / messages)

    def _numbers(
        self, rows: Sequence[StepRows], table: TableName, keys: Sequence[str], values: Sequence[str]
    ) -> tuple[IntArray, Floats]:
        """Numbers of rows: their devices in one, [n_rows], and their values, [n_values, n_rows]."""
        devices, numbers = [np.empty(0, np.int64)], [np.empty((len(values), 0))]
        for step in rows:
            if single := step.devices if table == "devices" else step.links:
                devices.append(
                    self._one([np.array([self._index[getattr(row, key)] for row in single]) for key in keys])
                )
                numbers.append(np.array([[getattr(row, value) for row in single] for value in values], np.float64))
            for name, columns in step.columns:
                if name == table:
                    found = dict(zip(ROWS[table]._fields, columns.columns, strict=True))
                    coded = [column for key in keys if isinstance(column := found[key], Coded)]
                    devices.append(self._one([column.codes for column in coded]))  # in the order of the cluster, too
                    numbers.append(np.array([found[value] for value in values], np.float64))
        return np.concatenate(devices), np.concatenate(numbers, axis=1)

    def _one(self, devices: Sequence[IntArray]) -> IntArray:
        """One number for a device, or for both ends of a link: [n_rows] each."""
        first, *others = devices
        return first * len(self._index) + others[0] if others else first
