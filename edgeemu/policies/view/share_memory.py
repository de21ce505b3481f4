"""Memory of placements with divided layers, many at once: `placement.memory` as arrays. Knows bytes; no time.

It agrees to the byte but for the bias of a first shard (GPT-2), which it counts on every device with shards of a layer.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, n_shards, proj
from edgeemu.placement.costs import Costs
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import cached_sizes, placement_fits
from edgeemu.policies.view.same import Same, layout_of
from edgeemu.policies.view.shares import BoolArray, ShareArrays

MOST_DEVICES = 64  # whose shares are counted at once


@lru_cache(maxsize=16)
def _workspaces(costs: Costs, kind: Kind, rows: int) -> IntArray:
    """Workspace of 0, 1, 2 … shards of a layer, with a prompt of `rows`: [number of shards + 1]."""
    most = n_shards(costs.shape, kind)
    found = [max(costs.shard_workspace_bytes(kind, k, r) for r in (rows, 1)) for k in range(1, most + 1)]
    return np.array([0, *found], np.int64)


@lru_cache(maxsize=16)
def _messages(costs: Costs, rows: int, n: int, *, star: bool) -> IntArray:
    """Messages of a device, by members of the largest ring and the most groups of a layer: [n + 1, n_groups + 1]."""
    n_groups = costs.shape.n_groups
    shared = [costs.collective_inbox_bytes(rows, members, 0, star=star) for members in range(1, n + 1)]
    more = [costs.collective_inbox_bytes(rows, 1, groups, star=star) - shared[0] for groups in range(n_groups + 1)]
    found = np.add.outer(np.array([0, *shared], np.int64), np.array(more, np.int64))
    found[0] = costs.inbox_bytes(rows)  # where no block is divided
    return found


class ShareBytes:
    """Bytes of shares on any n devices, for the sequences of a run."""

    def __init__(self, costs: Costs, rows: int, total: int, concurrent: tuple[int, ...], n: int, *, star: bool) -> None:
        """`rows`: of the prompt. `total`: positions at the end of the sequence, and of those that run `concurrent`."""
        self.sizes = s = cached_sizes(costs, rows, total, concurrent)
        self.embed, self.lm_head = costs.weight_bytes(EMBED), costs.weight_bytes(LM_HEAD)
        self.proj, self.ffn = costs.weight_bytes(proj(0)), costs.weight_bytes(ffn(0))
        self.column, self.unit = costs.weight_bytes(proj(0, 1)), costs.weight_bytes(ffn(0, 1))
        self.columns_bias = costs.weight_bytes(proj(0, 0)) - self.column
        self.units_bias = costs.weight_bytes(ffn(0, 0)) - self.unit
        self.columns_workspace = _workspaces(costs, Kind.PROJ, rows)  # [n_groups + 1]
        self.units_workspace = _workspaces(costs, Kind.FFN, rows)  # [ffn_units + 1]
        self.once = 1 + len(concurrent)  # as often as messages are held
        self.collective = _messages(costs, rows, n, star=star)  # [n + 1, n_groups + 1]
        # That shards put together take twice at most, and the biases of first shards, on a device:
        self.copied = max(self.proj, self.ffn) + costs.shape.n_layers * (self.columns_bias + self.units_bias)
        tables = self.columns_workspace, self.units_workspace
        heads = (len(tables[0]) - 1) * (s.group + self.column) + s.norm + self.columns_bias
        units = (len(tables[1]) - 1) * self.unit + s.norm + self.units_bias
        blocks = self.embed + self.lm_head + costs.shape.n_layers * (heads + units + self.proj + self.ffn)
        workspace = max(*s.workspace.values(), *(int(table.max()) for table in (s.head_workspace, *tables)))
        self.most = blocks + workspace + int(self.collective.max()) * self.once + s.proj_messages  # of any placement

    def need_bytes(self, shares: ShareArrays, lengths: IntArray | None = None) -> IntArray:
        """Bytes that every device holds at its fullest: [k, n].

        `lengths`: with only one layer of each of several runs alike, how many layers each has, [n_runs].
        """

        def over_layers(numbers: NDArray[Any]) -> IntArray:
            """The sum over all layers: [n, n_layers, k] -> [n, k]."""
            total: IntArray = (numbers if lengths is None else numbers * lengths[:, None]).sum(1)
            return total

        z, s, k = self, self.sizes, np.arange(len(shares))
        everyone = np.arange(shares.heads.shape[-1])[:, None, None]
        # Placements last: NumPy adds up long rows ten times as fast as short ones. Counts are small.
        heads, units = (each.T.astype(np.int32, order="C") for each in (shares.heads, shares.units))  # [n, n_layers, k]
        proj = np.ascontiguousarray(shares.proj.T)  # [n_layers, k]
        has_heads, has_units = heads > 0, units > 0  # [n, n_layers, k]
        with_heads, whole_ffn = proj < 0, has_units.sum(0) == 1  # [n_layers, k]
        at_proj, at_ffn = proj == everyone, has_units & whole_ffn  # [n, n_layers, k]
        columns, has_columns = heads * with_heads, has_heads & with_heads  # [n, n_layers, k]
        split, has_split = units * ~whole_ffn, has_units & ~whole_ffn  # [n, n_layers, k]
        held = over_layers(heads) * s.group + over_layers(has_heads) * s.norm  # [n, k]
        held = held + over_layers(at_proj) * z.proj + over_layers(at_ffn) * z.ffn
        held += over_layers(columns) * z.column + over_layers(has_columns) * z.columns_bias
        held += over_layers(split) * z.unit + over_layers(has_split) * (s.norm + z.units_bias)
        held[shares.embed, k] += z.embed
        held[shares.lm_head, k] += z.lm_head
        held[shares.embed, k] -= np.where(shares.embed == shares.lm_head, s.shared, 0)
        widest = heads.max(1)  # [n, k]
        workspace = np.maximum(s.head_workspace[widest], z.columns_workspace[columns.max(1)])
        workspace = np.maximum(workspace, z.units_workspace[split.max(1)])
        ends = np.zeros_like(held)
        ends[shares.embed, k] = s.workspace[Kind.EMBED]
        ends[shares.lm_head, k] = np.maximum(ends[shares.lm_head, k], s.workspace[Kind.LM_HEAD])
        workspace = np.maximum(workspace, ends)
        workspace = np.maximum(workspace, np.where(at_proj.any(1), s.workspace[Kind.PROJ], 0))
        workspace = np.maximum(workspace, np.where(at_ffn.any(1), s.workspace[Kind.FFN], 0))
        used = has_heads.any(1) | has_units.any(1) | at_proj.any(1)  # [n, k]
        used[shares.embed, k] = used[shares.lm_head, k] = True
        members = (has_columns | has_split).sum(0).max(0)  # [k] of the largest ring
        messages = np.where(used, z.collective[members, widest] * z.once, 0)  # [n, k]
        messages += np.where((at_proj | has_columns).any(1), s.proj_messages, 0)
        needed: IntArray = (held + workspace + messages).T
        return needed


@lru_cache(maxsize=16)
def share_bytes(costs: Costs, rows: int, total: int, concurrent: tuple[int, ...], n: int, *, star: bool) -> ShareBytes:
    """Bytes of shares, made once for all decisions of a run."""
    return ShareBytes(costs, rows, total, concurrent, n, star=star)


class ShareMemory:
    """Sizes of shares on chosen devices [n], and what placements need."""

    def __init__(self, view: ClusterView, devices: IntArray) -> None:
        w = view.workload
        sequences, costs = (w.prompt_tokens, w.total_tokens, w.concurrent), view.costs.at_step(1, w.total_tokens - 1)
        self.bytes = share_bytes(costs, *sequences, len(devices), star=view.star)
        self.capacity, self.installed = view.memory_bytes[devices], view.installed_bytes[devices]  # [n] each

    @property
    def ample(self) -> bool:
        """Whether every device has memory for more than any placement can need."""
        return bool(self.bytes.most <= self.capacity.min())

    def need_bytes(self, shares: ShareArrays, lengths: IntArray | None = None) -> IntArray:
        """Bytes that every device holds at its fullest, as `ShareBytes` has them: [k, n]."""
        return self.bytes.need_bytes(shares, lengths)

    def fits(self, shares: ShareArrays) -> BoolArray:
        """Whether every device has the memory: [k]."""
        fits: BoolArray = np.all(self.need_bytes(shares) <= self.capacity, axis=1)
        return fits


def all_fits(view: ClusterView, placement: Placement) -> bool:
    """Whether every device has memory for a placement, as `ClusterView.holds` says, in a fraction of its time."""
    if any(placement is known for known in view.fitting):
        return True
    shape = view.costs.shape
    if view.by_layer is None and not is_divided(placement, shape.n_layers):
        return placement_fits(view, layout_of(placement, shape))
    if counts_memory(view):
        w = view.workload
        need = _need_of(Same(placement), view.costs, w.prompt_tokens, w.total_tokens, w.concurrent, star=view.star)
        if need is not None:
            devices, need_bytes = need
            if (need_bytes <= view.memory_bytes[devices]).all() or counts_to_the_byte(view, placement):
                return bool((need_bytes <= view.memory_bytes[devices]).all())
    return view.holds(placement)


@lru_cache(maxsize=4)
def _need_of(
    known: Same[Placement], costs: Costs, rows: int, total: int, concurrent: tuple[int, ...], *, star: bool
) -> tuple[IntArray, IntArray] | None:
    """Devices of a placement, and the bytes that each holds at its fullest; None: arrays do not count it.

    Of the last few they are kept, because most decisions keep the placement.
    """
    devices = np.array(known.kept.devices())
    shares = ShareArrays.of(known.kept, costs.shape, devices) if len(devices) <= MOST_DEVICES else None
    if shares is None:
        return None
    held = share_bytes(costs.at_step(1, total - 1), rows, total, concurrent, len(devices), star=star)
    return devices, held.need_bytes(shares)[0]


def counts_memory(view: ClusterView) -> bool:
    """Whether what arrays count of a placement, whose projections are whole or with their heads, is no less."""
    return view.by_layer is None and not view.gather


def counts_to_the_byte(view: ClusterView, placement: Placement) -> bool:
    """Whether it is what devices hold: arrays count the bias of first shards on too many."""
    return counts_memory(view) and not (view.costs.shape.bias and is_divided(placement, view.costs.shape.n_layers))
