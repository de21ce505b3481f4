"""EdgeShard's throughput program with devices in the order of their speed, where there are too many sets of them. Pure.

Of each device only the least bottleneck by elements done is kept: how it is reached is found afterwards, for the stages
of the best pipeline alone.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts


class _Tables(NamedTuple):
    """Devices in their order, the source first, with their times and how many layers fit each."""

    devices: list[int]
    until_s: FloatArray  # [n, n_elements + 1] time of all elements before each
    links_s: FloatArray  # [n, n] by which a link is occupied, by target and source
    room: list[int]  # [n]
    room_at_end: list[int]  # [n] beside the output matrix; -1: not even that fits

    def least_begin(self, last: int, end: int) -> int:
        """The first element of the longest stage that fits a device, other than the source, and ends there."""
        if end == self.until_s.shape[1] - 1:
            return max(1, end - 1 - self.room_at_end[last])
        return max(1, end - self.room[last])


def in_order_of_speed(costs: StageCosts, source: int, among: Sequence[int]) -> list[Stage] | None:
    """The throughput program with the source first and the other devices by speed, each used or left out."""
    others = np.array(sorted(d for d in among if d != source), np.int64)
    devices = np.append(source, others[costs.layer_s[others].argsort(kind="stable")])  # [n]
    rooms = (costs.rooms(devices, lm_head=lm_head).tolist() for lm_head in (False, True))
    links_s = np.ascontiguousarray(costs.all_occupied_s(devices).T)  # [n, n]
    tables = _Tables(devices.tolist(), costs.all_until_s(devices), links_s, *rooms)
    best_s = np.full((len(devices), costs.n_elements + 1), np.inf)  # by the last device and elements done
    best_s[0] = costs.segments_s(source)[0]
    befores = np.array([0, *(n for n in range(1, len(devices)) if tables.room[n] > 0)])  # others can only be last
    n_befores = np.searchsorted(befores, np.arange(len(devices))).tolist()  # [n] of those that come before each
    so_far_s = np.full((len(befores), costs.n_elements + 1), np.inf)  # `best_s` of these, side by side
    so_far_s[0] = best_s[0]
    links_s = links_s[:, befores]  # [n, n_befores]
    for last in range(1, len(devices)):
        n = n_befores[last]
        _add_stage(tables, best_s[last], so_far_s[:n], links_s[last, :n, None], last)
        if tables.room[last] > 0:
            so_far_s[n] = best_s[last]
    return _stages(tables, best_s)


def _add_stage(tables: _Tables, best_s: FloatArray, so_far_s: FloatArray, links_s: FloatArray, last: int) -> None:
    """Write the least bottleneck of pipelines that end on a device, by elements done: [n_elements + 1].

    `so_far_s`, [n, n_elements + 1], and the links from there, [n, 1], are those of devices before it. No stage but the
    source's begins with the embedding: nothing is done without it, and so the first column is infinite.
    """
    until_s, end, room = tables.until_s[last], len(best_s) - 1, tables.room[last]
    least = tables.least_begin(last, end) if room < 1 else 0  # the first column that matters
    arrive_s = np.maximum(so_far_s[:, least:], links_s).min(axis=0)  # [n_elements + 1 - least]
    if room > 0:
        begins = _begins(room, end)
        best_s[:end] = np.maximum(arrive_s[begins], until_s[:end] - until_s[begins]).min(axis=0)
    if tables.room_at_end[last] >= 0:
        begin = tables.least_begin(last, end)
        best_s[end] = np.maximum(arrive_s[begin - least : -1], until_s[end] - until_s[begin:end]).min()


@lru_cache(maxsize=256)
def _begins(room: int, n: int) -> IntArray:
    """First elements of stages of up to `room` elements, by their ends; 0 where there is none: [room, n]."""
    begins: IntArray = np.maximum(np.arange(n) - np.arange(1, room + 1)[:, None], 0)
    return begins


def _stages(tables: _Tables, best_s: FloatArray) -> list[Stage] | None:
    """The best pipeline: of equal ones, that whose stages end on the first devices. None: nothing fits."""
    last, end = int(best_s[:, -1].argmin()), best_s.shape[1] - 1
    if not np.isfinite(best_s[last, end]):
        return None
    found, at_s = [], np.ascontiguousarray(best_s.T)  # [n_elements + 1, n]
    while last:
        least, until_s = tables.least_begin(last, end), tables.until_s[last]
        so_far_s = np.maximum(at_s[least:end, :last], tables.links_s[last, :last])
        through_s = np.maximum(so_far_s, (until_s[end] - until_s[least:end])[:, None])  # [end - least, last]
        before = int((through_s.min(axis=0) == at_s[end, last]).argmax())
        begin = least + int(through_s[:, before].argmin())
        found.append(Stage(tables.devices[last], begin, end))
        last, end = before, begin
    return [Stage(tables.devices[0], 0, end), *reversed(found)]
