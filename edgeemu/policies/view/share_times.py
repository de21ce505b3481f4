"""Times of the parts of a step, with divided layers, as tables by device and number of shares. Pure."""

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.costs import Work
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.share_ring import RingTimes


class ShareTimes:
    """Times of the parts of a step of `rows` new positions on chosen devices [n], ascending. All in seconds."""

    def __init__(self, view: ClusterView, devices: IntArray, past: int, rows: int = 1) -> None:
        costs, shape = view.costs.at_step(rows, past), view.costs.shape
        self.n, self.units, self.star, self.rows = len(devices), n_shards(shape, Kind.FFN), view.star, rows
        links, n_groups = view.links, shape.n_groups
        self.s_per_bit = np.stack([links.s_per_bit.row(d)[devices] for d in devices.tolist()])  # [n, n]
        self.delay_s = np.stack([links.delay_s.row(d)[devices] for d in devices.tolist()])  # [n, n]
        flops, mem = view.flops_per_s[devices], view.mem_bytes_per_s[devices]
        overhead = view.overhead_s[devices]

        def alone(work: Work) -> FloatArray:
            return np.maximum(work.flops / flops, work.bytes_read / mem) + overhead  # [n]

        def table(works: list[Work]) -> FloatArray:
            return np.stack([np.zeros(self.n), *map(alone, works)], axis=1)  # [n, 1 + len(works)]

        self.embed_s = alone(costs.work(Kind.EMBED, 1, rows, past))
        self.proj_s = alone(costs.work(Kind.PROJ, 1, rows, past))
        self.ffn_s = alone(costs.work(Kind.FFN, 1, rows, past))
        self.lm_head_s = alone(costs.work(Kind.LM_HEAD, 1, rows, past))
        self.heads_s = table([costs.work(Kind.HEAD, g, rows, past) for g in range(1, n_groups + 1)])
        self.columns_s = table(
            [costs.shard_work(Kind.PROJ, 0, range(g), rows, past) for g in range(1, n_groups + 1)]
        )  # [n, n_groups + 1]
        # Shards are alike, so that two of them say what each more takes.
        one, two = (costs.shard_work(Kind.FFN, 0, range(u), rows, past) for u in (1, min(2, self.units)))
        more = Work(two.flops - one.flops, two.bytes_read - one.bytes_read)
        self.units_s = table(
            [Work(one.flops + u * more.flops, one.bytes_read + u * more.bytes_read) for u in range(self.units)]
        )  # [n, units + 1]
        self.sums_s = table([costs.rows_work(t + 1, rows, t - 1) for t in range(1, self.n + 2)])  # by terms
        self.hidden_bits = 8.0 * costs.activation_bytes(rows)
        self.last_bits = 8.0 * costs.activation_bytes(1)
        self.token_bits = 8.0 * costs.token_bytes()
        self.attention_bits = np.array([8.0 * costs.attention_bytes(g, rows) for g in range(n_groups + 1)])
        self.ring = RingTimes(view, self.s_per_bit, self.delay_s, devices, rows) if rows > self.n else None
