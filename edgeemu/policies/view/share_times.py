"""Times of the parts of a step, with divided layers, as tables by device and number of shares. Pure."""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.costs import Costs
from edgeemu.placement.work import Work
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.message_times import MessageTimes
from edgeemu.policies.view.share_ring import RingTimes


class Works(NamedTuple):
    """Works of parts of a step that do not depend on what is cached, as operations and bytes: [m] each.

    They are those of the embedding, a projection, a feed-forward block, the output matrix; of 1, 2, 3 … shards of a
    projection, and of a feed-forward block; and of sums of 1, 2, 3 … terms.
    """

    flops: FloatArray
    bytes_read: FloatArray
    ends: tuple[int, ...]  # where the shards and the sums end among them


def _affine(work: Callable[[int], Work], most: int) -> tuple[FloatArray, FloatArray]:
    """Works of 1, 2, 3 … things, at most so many: they are affine in their number. [most] each."""
    one, two = work(1), work(2)
    number: FloatArray = np.arange(most, dtype=np.float64)  # of things, less one
    flops = one.flops + number * (two.flops - one.flops)
    return flops, one.bytes_read + number * (two.bytes_read - one.bytes_read)


@lru_cache(maxsize=16)
def works_of(costs: Costs, n: int, rows: int, past: int) -> Works:
    """The works of a step of `rows` positions on n devices; `past` changes none of them."""
    shape = costs.shape
    blocks = [costs.work(kind, 1, rows, past) for kind in (Kind.EMBED, Kind.PROJ, Kind.FFN, Kind.LM_HEAD)]
    parts = [
        (np.array([work.flops for work in blocks]), np.array([work.bytes_read for work in blocks])),
        _affine(lambda g: costs.shard_work(Kind.PROJ, 0, range(g), rows, past), shape.n_groups),
        _affine(lambda u: costs.shard_work(Kind.FFN, 0, range(u), rows, past), n_shards(shape, Kind.FFN)),
        _affine(lambda terms: costs.rows_work(terms + 1, rows, terms - 1), n + 1),
    ]
    flops, bytes_read = (np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True))
    return Works(flops, bytes_read, tuple(np.cumsum([len(each) for each, _ in parts]).tolist()))


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
        flops, mem = view.flops_per_s[devices][:, None], view.mem_bytes_per_s[devices][:, None]  # [n, 1] each
        overhead = view.overhead_s[devices]

        def times_s(ops: FloatArray, read: FloatArray) -> FloatArray:
            """Times of works on each device: [m], [m] -> [n, m]."""
            alone_s: FloatArray = np.maximum(ops / flops, read / mem) + overhead[:, None]
            return alone_s

        def after_none(times_s: FloatArray) -> FloatArray:
            """Times of 0, 1, 2 … things: [n, m] -> [n, m + 1]."""
            return np.concatenate([np.zeros((self.n, 1)), times_s], axis=1)

        def table(work: Callable[[int], Work], most: int) -> FloatArray:
            """Times of 0, 1, 2 … shares: [n, most + 1]."""
            return after_none(times_s(*_affine(work, most)))

        works = works_of(costs, self.n, rows, 0 if costs.of_every_step else past)
        all_s = times_s(works.flops, works.bytes_read)  # [n, m]
        self.embed_s, self.proj_s, self.ffn_s, self.lm_head_s = all_s[:, :4].T.copy()
        self.columns_s, self.units_s, self.sums_s = (
            after_none(all_s[:, begin:end]) for begin, end in pairwise(works.ends)
        )
        self.heads_s = table(lambda g: costs.work(Kind.HEAD, g, rows, past), n_groups)
        self.hidden_bits = 8.0 * costs.activation_bytes(rows)
        self.last_bits = 8.0 * costs.activation_bytes(1)
        self.partial_bits, self.last_partial_bits = 8.0 * costs.chunk_bytes(rows, 1), 8.0 * costs.chunk_bytes(1, 1)
        self.token_bits = 8.0 * costs.token_bytes()
        first, second = (8.0 * costs.attention_bytes(g, rows) for g in (1, 2))
        self.attention_bits = first + (np.arange(n_groups + 1) - 1.0) * (second - first)  # [n_groups + 1]
        self.hop_s = self.hidden_bits * self.s_per_bit + self.delay_s  # [n, n] of x, 0 on the diagonal
        self.ring: RingTimes | None = None
        if rows > self.n and not view.star:
            alone = partial(_alone_s, times_s)
            self.ring = RingTimes(costs, self.n, rows, overhead, alone, table)


def _alone_s(times_s: Callable[[FloatArray, FloatArray], FloatArray], work: Work) -> FloatArray:
    """Time of one work on each device: [n]."""
    return times_s(np.array([work.flops]), np.array([work.bytes_read]))[:, 0]
