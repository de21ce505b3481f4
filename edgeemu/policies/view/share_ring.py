"""Estimate of a prompt's collective in a ring: a ReduceScatter and an AllGather of chunks, for many placements at once.

All devices of a ring are taken to pass their chunks on in step (the simulator has each at its own pace, and tiles).
"""

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.shares import BoolArray


class RingTimes:
    """Times of the rings of a step of `rows` positions on chosen devices [n]."""

    def __init__(
        self, view: ClusterView, s_per_bit: FloatArray, delay_s: FloatArray, devices: IntArray, rows: int
    ) -> None:
        n, costs = len(devices), view.costs.at_step(rows, 0)
        self.n, self.s_per_bit, self.delay_s = n, s_per_bit, delay_s
        mine = [max(1, rows // max(1, m)) for m in range(n + 1)]
        self.bits = np.array([8.0 * costs.chunk_bytes(each, max(1, m)) for m, each in enumerate(mine)])  # [n + 1]
        works = [costs.rows_work(3, each, 1) for each in mine]
        flops, mem, overhead = view.flops_per_s[devices], view.mem_bytes_per_s[devices], view.overhead_s[devices]
        self.sums_s = np.stack(
            [np.maximum(w.flops / flops, w.bytes_read / mem) + overhead for w in works]
        )  # [n + 1, n] by members

    def joined_s(self, done_s: FloatArray, terms: BoolArray, ring: BoolArray, x_s: FloatArray) -> FloatArray:
        """When each device of a ring has the whole sum of partial results that are there at `done_s`: [k, n]."""
        n, members = self.n, ring.sum(1)  # [k]
        devices = np.arange(n)
        back = (devices[:, None] - devices - 1) % n  # [n, n] how far before the first each other is
        before = np.where(ring[:, None, :], back, 2 * n).argmin(2)  # [k, n] the member before, round the ring
        bits = self.bits[members][:, None] * self.s_per_bit[before, devices]  # [k, n] seconds of a chunk on its way in
        delay_s, sums_s = self.delay_s[before, devices], self.sums_s[members]  # [k, n]
        part_s = np.where(terms, done_s, 0.0)
        at_s, free_s = np.where(terms, done_s, np.where(ring, x_s, 0.0)), np.zeros_like(done_s)
        for step in range(1, int(members.max(initial=0))):
            go = (step < members)[:, None] & ring
            free_s = np.where(go, np.maximum(np.take_along_axis(at_s, before, 1), free_s) + bits, free_s)
            at_s = np.where(go, np.maximum(free_s + delay_s, part_s) + sums_s, at_s)
        all_s = at_s
        for step in range(1, int(members.max(initial=0))):
            go = (step < members)[:, None] & ring
            free_s = np.where(go, np.maximum(np.take_along_axis(at_s, before, 1), free_s) + bits, free_s)
            at_s = np.where(go, free_s + delay_s, at_s)
            all_s = np.maximum(all_s, at_s)
        return all_s
