"""Lower bounds with hops between devices: the earliest instants at which x can be on each device. Pure.

Each device counts by itself: the placement that is best for one need not be the one that is best for another. A part
that is divided has its result on r when the last share has. Device a with u units is done at r at
x_s[a] + compute(a, u) + hop(a, r), which is a slot for each u; the least makespan of all units is the earliest slot but
as many.
"""

import numpy as np

from edgeemu.placement.arrays import FloatArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, proj
from edgeemu.policies.search.part_times import PartTimes
from edgeemu.policies.view.cluster_view import ClusterView

COUPLED = 8  # devices up to which the device of the output matrix is the same at both ends of a step


class StepWithHops:
    """A decode step. Arrays are [o, n], o: the output matrix's device, which sends the token and has x in the end."""

    def __init__(self, parts: PartTimes) -> None:
        costs, view = parts.costs, parts.view
        self.n, self.n_layers = view.n_devices, costs.shape.n_layers
        self.token_s, self.x_s = hops_s(view, costs.token_bytes()), hops_s(view, costs.activation_bytes(1))
        self.outputs_s = outputs_s(parts)
        self.embed_s, self.lm_head_s = parts.whole_s(EMBED), parts.whole_s(LM_HEAD)
        self.proj_s, self.ffn_s = parts.whole_s(proj(0)), parts.whole_s(ffn(0))
        self.heads_s, self.projs_s = parts.shares_s(Kind.HEAD), parts.shares_s(Kind.PROJ)
        self.units_s, self.sum_s = parts.shares_s(Kind.FFN), parts.sum_s

    def least_s(self) -> float:
        x_s = self._begin()
        for _ in range(self.n_layers):
            x_s = self._passed(x_s)
        x_s = x_s + self.lm_head_s
        return float(np.diagonal(x_s).min() if self.n <= COUPLED else x_s.min())

    def before_s(self) -> list[tuple[FloatArray, FloatArray]]:
        """Instants at which x can be on each device before each layer's attention and feed-forward block: [n] each."""
        found, x_s = [], self._begin()
        for _ in range(self.n_layers):
            between_s = sent(self._attention(x_s), self.x_s)
            found.append((x_s.min(axis=0), between_s.min(axis=0)))
            x_s = sent(self._feed_forward(between_s), self.x_s)
        return found

    def rest_s(self) -> list[tuple[float, float]]:
        """Least time of a step from each layer's attention and feed-forward block on, when x is anywhere."""
        found = []
        x_s = np.zeros((1, self.n))
        between_s = sent(self._feed_forward(x_s), self.x_s)
        for _ in range(self.n_layers):
            x_s = self._passed(x_s)
            found.append((float((x_s + self.lm_head_s).min()), float((between_s + self.lm_head_s).min())))
            between_s = self._passed(between_s)
        return found[::-1]

    def _begin(self) -> FloatArray:
        x_s = self.token_s + self.embed_s  # [o, embed]
        return sent(x_s.min(axis=0, keepdims=True) if self.n > COUPLED else x_s, self.x_s)

    def _passed(self, x_s: FloatArray) -> FloatArray:
        """Instants at which x can be on each device after a layer: [o, n] -> [o, n]."""
        x_s = sent(self._attention(x_s), self.x_s)
        return sent(self._feed_forward(x_s), self.x_s)

    def _attention(self, x_s: FloatArray) -> FloatArray:
        total = self.heads_s.shape[1]
        done_s = x_s[:, :, None] + self.heads_s  # [o, n, k]
        at_proj_s = earliest(done_s[..., None] + self.outputs_s, total)  # [o, k, projection's device]
        undivided_s = np.maximum(x_s, at_proj_s[:, -1]) + self.proj_s
        partial_s = at_proj_s.transpose(0, 2, 1) + self.projs_s  # [o, projection's device, k]
        divided_s = earliest(partial_s[..., None] + self.x_s[:, None, :], total)[:, -1]  # [o, n]
        onward_s = (self.outputs_s[:, 0, :, None] + self.projs_s[:, 0, None] + self.x_s).min(axis=1)  # [n, n]
        through_s = earliest(done_s[..., None] + onward_s[:, None, :], total)[:, -1]  # [o, n] of heads together
        return np.minimum(undivided_s, np.maximum(np.maximum(x_s, divided_s), through_s) + self.sum_s)

    def _feed_forward(self, x_s: FloatArray) -> FloatArray:
        partial_s = x_s[:, :, None] + self.units_s  # [o, n, u]
        divided_s = earliest(partial_s[..., None] + self.x_s[:, None, :], self.units_s.shape[1])[:, -1]  # [o, n]
        return np.minimum(x_s + self.ffn_s, np.maximum(x_s, divided_s) + self.sum_s)


class PromptWithHops:
    """A prompt. Its rows pass divided parts in chunks: x has a first instant on a device, and a last one. Both are [n].

    A device with a share of a part computes at least a chunk of rows, the smallest there can be, after the last rows of
    x have come, and all rows after the first have. In a ring of m it also sends (m - 1) / m of all rows away.
    """

    def __init__(self, parts: PartTimes) -> None:
        costs, view, rows = parts.costs, parts.view, parts.rows
        n = view.n_devices
        self.n, self.n_layers = n, costs.shape.n_layers
        tile = PartTimes(view, rows // n, 0)
        self.x_s, self.row_s = hops_s(view, costs.activation_bytes(rows)), hops_s(view, costs.activation_bytes(1))
        self.chunk_s = shortest(hops_s(view, min(costs.chunk_bytes(rows // n, n), costs.activation_bytes(rows))))
        self.outputs_s = outputs_s(parts)
        self.embed_s, self.lm_head_s = parts.whole_s(EMBED), parts.whole_s(LM_HEAD)
        self.proj_s, self.ffn_s = parts.whole_s(proj(0)), parts.whole_s(ffn(0))
        self.qkv_s, self.attend_s = parts.halves_of_heads_s()
        self.heads_s = np.minimum(parts.shares_s(Kind.HEAD), self.qkv_s + self.attend_s)
        self.qkv_tile_s = np.minimum(tile.halves_of_heads_s()[0], self.qkv_s)
        self.projs_s, self.units_s = parts.shares_s(Kind.PROJ), parts.shares_s(Kind.FFN)
        self.proj_tile_s, self.unit_tile_s = tile.shares_s(Kind.PROJ), tile.shares_s(Kind.FFN)
        self.away_s = np.zeros((n, n))  # [n, target] until what a device must send away is back at a target
        if n > 1 and rows >= n and not view.star:
            half_s = 8.0 * costs.chunk_bytes(rows // 2, 2) / np.array([_rate_bps(view, d) for d in range(n)])
            nearest_s = np.where(np.eye(n, dtype=bool), np.inf, self.chunk_s).min(axis=1)
            delay_s = np.array([view.links.delay_s.least_in_row(d) for d in range(n)])
            self.away_s[:] = (half_s + delay_s)[:, None]
            self.away_s[np.diag_indices(n)] += nearest_s.min()

    def least_s(self) -> float:
        last_s = sent(self.embed_s[None], self.x_s)[0]  # [n]
        first_s = last_s
        for layer in range(self.n_layers):
            first_s, last_s = self._attention(first_s, last_s)
            if layer == self.n_layers - 1:
                return self._end(last_s)
            first_s, last_s = self._feed_forward(first_s, last_s)
        raise AssertionError("a model has layers")

    def _attention(self, first_s: FloatArray, last_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        total = self.heads_s.shape[1]
        tiled_s = np.maximum(last_s[:, None] + self.qkv_tile_s, first_s[:, None] + self.qkv_s) + self.attend_s
        done_s = np.minimum(last_s[:, None] + self.heads_s, tiled_s)  # [n, k]
        at_proj_s = earliest((done_s[..., None] + self.outputs_s)[None], total)[0]  # [k, projection's device]
        undivided_s = np.maximum(last_s, at_proj_s[-1]) + self.proj_s
        whole_s = sent(undivided_s[None], self.x_s)[0]
        ready_s = at_proj_s.T  # [projection's device, k]
        begun_s = ready_s + self.proj_tile_s
        divided_s = self._divided(ready_s + self.projs_s, begun_s)
        return np.minimum(whole_s, self._first(begun_s)), np.minimum(whole_s, divided_s)

    def _feed_forward(self, first_s: FloatArray, last_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        whole_s = sent((last_s + self.ffn_s)[None], self.x_s)[0]
        begun_s = first_s[:, None] + self.unit_tile_s
        ended_s = np.maximum(last_s[:, None] + self.unit_tile_s, first_s[:, None] + self.units_s)
        return np.minimum(whole_s, self._first(begun_s)), np.minimum(whole_s, self._divided(ended_s, begun_s))

    def _first(self, begun_s: FloatArray) -> FloatArray:
        """When the first rows can be on each device, with first chunks of shares: [n, k] -> [n]."""
        there_s = begun_s[..., None] + self.chunk_s[:, None, :]  # [n, k, n]
        found: FloatArray = earliest(there_s[None], begun_s.shape[1])[0, -1]
        return found

    def _divided(self, ended_s: FloatArray, begun_s: FloatArray) -> FloatArray:
        """When the last rows can be on each device, from when shares end and have begun: [n, k] twice -> [n]."""
        there_s = np.maximum(ended_s[..., None] + self.chunk_s[:, None, :], begun_s[..., None] + self.away_s[:, None])
        found: FloatArray = earliest(there_s[None], ended_s.shape[1])[0, -1]
        return found

    def _end(self, last_s: FloatArray) -> float:
        """The last feed-forward block, of which only the last row goes on, and the output matrix."""
        whole_s = sent((last_s + self.ffn_s)[None], self.row_s)[0]
        partial_s = last_s[:, None] + self.units_s  # [n, u]
        there_s = partial_s[..., None] + shortest(self.row_s)[:, None, :]  # [n, u, n]; a star's center is on the way
        divided_s = earliest(there_s[None], partial_s.shape[1])[0, -1]
        return float((np.minimum(whole_s, divided_s) + self.lm_head_s).min())


def hops_s(view: ClusterView, size_bytes: int) -> FloatArray:
    """Time of a message from every device to every other: [n, n]."""
    return np.stack([view.links.row(device, 8.0 * size_bytes) for device in range(view.n_devices)])


def outputs_s(parts: PartTimes) -> FloatArray:
    """Time of the outputs of 1, 2, … groups from every device to every other: [n, n_groups, n]."""
    numbers = range(1, parts.costs.shape.n_groups + 1)
    return np.stack([hops_s(parts.view, parts.costs.attention_bytes(k, parts.rows)) for k in numbers], axis=1)


def sent(x_s: FloatArray, hop_s: FloatArray) -> FloatArray:
    """When x can be on every device, if it is ready on each at its time: [o, n], [n, n] -> [o, n]."""
    found: FloatArray = (x_s[:, :, None] + hop_s).min(axis=1)
    return found


def earliest(slots_s: FloatArray, number: int) -> FloatArray:
    """The earliest slots of all devices together, in order: [o, n, k, target] -> [o, number, target]."""
    outputs, n, k, targets = slots_s.shape
    flat = slots_s.reshape(outputs, n * k, targets)
    return np.sort(np.partition(flat, number - 1, axis=1)[:, :number], axis=1)


def shortest(hop_s: FloatArray) -> FloatArray:
    """The shortest ways over any number of hops: [n, n] (Floyd and Warshall)."""
    found = hop_s.copy()
    for over in range(len(found)):
        found = np.minimum(found, found[:, over, None] + found[over])
    return found


def _rate_bps(view: ClusterView, device: int) -> float:
    """Bit/s that all links of a device carry away together."""
    per_bit_s = np.delete(view.links.s_per_bit.row(device), device)
    return float((1.0 / np.maximum(per_bit_s, 1e-18)).sum())
