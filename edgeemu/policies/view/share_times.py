"""Times of the parts of a step, with divided layers, as tables by device and number of shares. Pure."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.work import Work
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.message_times import MessageTimes
from edgeemu.policies.view.share_ring import RingTimes


class ShareTimes:
    """Times of the parts of a step of `rows` new positions on chosen devices [n], ascending. All in seconds."""

    def __init__(self, view: ClusterView, devices: IntArray, past: int, rows: int = 1) -> None:
        costs, shape = view.costs.at_step(rows, past), view.costs.shape
        self.n, self.units, self.star, self.rows = len(devices), n_shards(shape, Kind.FFN), view.star, rows
        self.tile_rows = np.inf if view.tile_rows is None else view.tile_rows  # of a chunk, at least
        links, n_groups = view.links, shape.n_groups
        self.s_per_bit = links.s_per_bit.block(devices, devices)  # [n, n]
        self.delay_s = links.delay_s.block(devices, devices)  # [n, n]
        self.messages = MessageTimes.of(view, devices)
        flops, mem = view.flops_per_s[devices], view.mem_bytes_per_s[devices]
        overhead = view.overhead_s[devices]

        def alone(work: Work) -> FloatArray:
            return np.maximum(work.flops / flops, work.bytes_read / mem) + overhead  # [n]

        def table(work: Callable[[int], Work], most: int) -> FloatArray:
            """Times of 0, 1, 2 … shares: works are affine in their number. [n, most + 1]"""
            one, two = work(1), work(2)
            number = np.arange(most)  # of shares, less one
            ops = one.flops + number * (two.flops - one.flops)
            read = one.bytes_read + number * (two.bytes_read - one.bytes_read)
            times_s = np.maximum(ops / flops[:, None], read / mem[:, None]) + overhead[:, None]
            return np.concatenate([np.zeros((self.n, 1)), times_s], axis=1)

        self.embed_s = alone(costs.work(Kind.EMBED, 1, rows, past))
        self.proj_s = alone(costs.work(Kind.PROJ, 1, rows, past))
        self.ffn_s = alone(costs.work(Kind.FFN, 1, rows, past))
        self.lm_head_s = alone(costs.work(Kind.LM_HEAD, 1, rows, past))
        self.heads_s = table(lambda g: costs.work(Kind.HEAD, g, rows, past), n_groups)
        self.columns_s = table(lambda g: costs.shard_work(Kind.PROJ, 0, range(g), rows, past), n_groups)
        self.units_s = table(lambda u: costs.shard_work(Kind.FFN, 0, range(u), rows, past), self.units)
        self.sums_s = table(lambda terms: costs.rows_work(terms + 1, rows, terms - 1), self.n + 1)
        self.hidden_bits = 8.0 * costs.activation_bytes(rows)
        self.last_bits = 8.0 * costs.activation_bytes(1)
        self.partial_bits, self.last_partial_bits = 8.0 * costs.chunk_bytes(rows, 1), 8.0 * costs.chunk_bytes(1, 1)
        self.token_bits = 8.0 * costs.token_bytes()
        first, second = (8.0 * costs.attention_bytes(g, rows) for g in (1, 2))
        self.attention_bits = first + (np.arange(n_groups + 1) - 1.0) * (second - first)  # [n_groups + 1]
        self.hop_s = self.hidden_bits * self.s_per_bit + self.delay_s  # [n, n] of x, 0 on the diagonal
        self.ring: RingTimes | None = None
        if rows > self.n and not view.star:
            self.ring = RingTimes(costs, self.n, rows, overhead, alone, table)

    @cached_property
    def quickest_s(self) -> FloatArray:
        """The quickest hop of x from each device to another: [n]."""
        quickest_s: FloatArray = (self.hop_s + np.diag(np.full(self.n, np.inf))).min(1)
        return quickest_s

    @cached_property
    def least_sums_s(self) -> FloatArray:
        """Sums of 0, 1, 2 … terms on the quickest device: [n + 2]."""
        least_s: FloatArray = self.sums_s.min(0)
        return least_s
