"""Collectives of a prompt in a ring, for many placements at once: a ReduceScatter and an AllGather of chunks of rows.

They are the simulator's, but every chunk has the mean number of rows, and sums do not wait for what else their device
computes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import NORM_OPERATIONS
from edgeemu.placement.work import Work
from edgeemu.policies.view.shares import BoolArray

Alone = Callable[[Work], FloatArray]  # times of a work on each device: [n]
Table = Callable[[Callable[[int], Work], int], FloatArray]  # times of 0, 1, 2 … shares, at most so many: [n, most + 1]


class RingTimes:
    """Times of chunks of a step of `rows` positions on n devices, by the number of members of the ring."""

    def __init__(self, costs: Costs, n: int, rows: int, overhead_s: FloatArray, alone: Alone, table: Table) -> None:
        shape = costs.shape
        self.powers = 1 << np.arange(n)  # [n]
        rings = (np.arange(1 << n)[:, None] & self.powers) > 0  # [2**n, n] all that there can be
        self.members = rings.sum(1)  # [2**n]
        back = (np.arange(n)[:, None] - np.arange(n) - 1) % n  # [n, n] how far before the first each other is
        self.before = np.where(rings[:, None, :], back, 2 * n).argmin(2)  # [2**n, n] the member before, round the ring

        def mean(work: Callable[[int], Work], members: int) -> Work:
            """Work of a chunk with the mean number of rows: works are affine in it."""
            low, more = divmod(rows, members)
            one, two = work(low), work(low + 1)
            flops, read = ((1 - more / members) * a + more / members * b for a, b in zip(one, two, strict=True))
            return Work(flops, read)

        def chunks(work: Callable[[int], Work]) -> FloatArray:
            return np.stack([alone(mean(work, max(1, m))) for m in range(n + 1)])  # [n + 1, n]

        def tiles(work: Callable[[int, int], Work], most: int) -> FloatArray:
            def of(members: int) -> FloatArray:
                return table(lambda k: mean(lambda r: work(k, r), members), most)

            return np.stack([of(max(1, m)) for m in range(n + 1)])  # [n + 1, n, most + 1]

        chunk = [(round(rows / max(1, m)), max(1, m)) for m in range(n + 1)]  # rows, and of how many chunks
        self.bits = np.array([8.0 * costs.chunk_bytes(*each) for each in chunk])  # [n + 1] of sums in transit
        self.x_bits = np.array([8.0 * costs.activation_bytes(*each) for each in chunk])  # [n + 1]
        self.sums_s = chunks(lambda r: costs.rows_work(3, r, 1))
        self.last_sums_s = chunks(lambda r: costs.rows_work(4, r, 2))
        self.norms_s = chunks(lambda r: costs.rows_work(2, r, NORM_OPERATIONS)) - overhead_s
        self.qkv_s = tiles(costs.qkv_work, shape.n_groups)
        self.columns_s = tiles(lambda g, r: costs.shard_work(Kind.PROJ, 0, range(g), r, 0), shape.n_groups)
        self.units_s = tiles(lambda u, r: costs.shard_work(Kind.FFN, 0, range(u), r, 0), n_shards(shape, Kind.FFN))
        self.attend_s = table(lambda g: costs.attention_work(g, rows, 0), shape.n_groups)  # [n, n_groups + 1]


class Rings:
    """A ring of each of k placements, with the pipes on which its chunks travel: every device passes on at once."""

    def __init__(
        self, times: RingTimes, s_per_bit: FloatArray, delay_s: FloatArray, ring: BoolArray, free_s: FloatArray
    ) -> None:
        """`ring`: its devices, [k, n]; `free_s`: since when pipes are free, [k, n, n], which is changed."""
        k, n = ring.shape
        self.t, self.ring, self.free_s, self.s_per_bit, self.delay_s = times, ring, free_s, s_per_bit, delay_s
        kinds = ring @ times.powers  # [k]
        self.members = times.members[kinds]  # [k]
        self.most = int(self.members.max(initial=1))
        self.k, self.devices = np.arange(k)[:, None], np.arange(n)  # [k, 1], [n]
        self.behind = self.k * n + times.before[kinds]  # [k, n] where the device before has its value in [k, n]
        self.bits = times.bits[self.members][:, None]  # [k, 1]

    def tiles(self, table: FloatArray, counts: IntArray) -> FloatArray:
        """Times of a chunk of products with so many shares on each device: [n + 1, n, most + 1], [k, n] -> [k, n]."""
        times_s: FloatArray = table[self.members[:, None], self.devices, counts]
        return times_s

    def scattered(self, done: Sequence[FloatArray], own_s: FloatArray, terms: BoolArray, x_s: FloatArray) -> FloatArray:
        """When each device has its chunk of the sum of x and of partial results: [k, n].

        A chunk begins behind its device. `terms` have partial results [k, n], of the chunks that they pass on at `done`
        [most - 1] of [k, n], in their order, and of their own at `own_s`; devices without are left out.
        """
        sums_s, last_s = self.t.sums_s[self.members], self.t.last_sums_s[self.members]  # [k, n]
        holder, sum_s = np.full(terms.shape, -1), np.zeros_like(own_s)  # [k, n] of the chunk that comes to a device
        rows_s = np.zeros_like(own_s)
        for step in range(self.most):
            own = (step == self.members - 1)[:, None] & self.ring
            begun = holder >= 0
            add = (step < self.members - 1)[:, None] & terms
            part_s = own_s if step == self.most - 1 else np.where(own, own_s, done[step])
            there_s = np.where(begun, self._sent((add | own) & begun, holder, sum_s), 0.0)
            there_s = np.maximum(there_s, np.where(terms, part_s, 0.0))
            np.copyto(rows_s, np.maximum(there_s, x_s) + np.where(begun & terms, last_s, sums_s), where=own)
            holder = np.where(add, self.devices, holder).ravel()[self.behind]
            sum_s = np.where(add, there_s + np.where(begun, sums_s, 0.0), sum_s).ravel()[self.behind]
        return rows_s

    def gathered(self, rows_s: FloatArray, takers: BoolArray, tile_s: FloatArray) -> list[FloatArray]:
        """When each taker has multiplied the first, second … chunk of those that come to it, standardized: [k, n] each.

        `tile_s`: time of a product, [k, n]. The first chunk is its own; where all have come, the last is repeated.
        """
        there_s = rows_s + self.t.norms_s[self.members]  # [k, n] of the chunk that a device has
        holder = np.broadcast_to(self.devices, takers.shape)  # [k, n]
        done = [there_s + tile_s]
        for step in range(1, self.most):
            go = (step < self.members)[:, None] & takers
            holder, there_s = holder.ravel()[self.behind], there_s.ravel()[self.behind]
            at_s = self._sent(go, holder, there_s)
            holder, there_s = np.where(go, self.devices, holder), np.where(go, at_s, there_s)
            done.append(np.where(go, np.maximum(done[-1], at_s) + tile_s, done[-1]))
        return done

    def brought(self, rows_s: FloatArray, takers: BoolArray) -> FloatArray:
        """When each taker has all rows, sent by each device of the ring for itself: [k, n]."""
        to = self.ring[:, :, None] & takers[:, None, :] & ~np.eye(len(self.devices), dtype=np.bool_)  # [k, n, n]
        x_bits = self.t.x_bits[self.members][:, None, None]  # [k, 1, 1]
        left_s = np.maximum(rows_s[:, :, None], self.free_s) + x_bits * self.s_per_bit
        np.copyto(self.free_s, left_s, where=to)
        there_s = np.where(to, left_s + self.delay_s, 0.0).max(1)
        brought_s: FloatArray = np.maximum(there_s, np.where(self.ring, rows_s, 0.0))
        return brought_s

    def _sent(self, go: BoolArray, source: IntArray, begin_s: FloatArray) -> FloatArray:
        """When chunks that leave `source` for each device at an instant are there: [k, n]; changes pipes where `go`."""
        n = len(self.devices)
        way = source * n + self.devices  # [k, n]
        pipe, free_s = self.k * n * n + way, self.free_s.reshape(-1)
        left_s = np.maximum(begin_s, free_s[pipe]) + self.bits * self.s_per_bit.ravel()[way]
        free_s[pipe[go]] = left_s[go]
        there_s: FloatArray = left_s + self.delay_s.ravel()[way]
        return there_s
