"""Estimate of the time of migrations between placements with divided layers, many at once. Knows bytes.

What each device receives is exact; that it all comes from the device that gives most is assumed.
"""

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, ffn, proj
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.shares import ShareArrays


class ShareMigrations:
    """Migrations from one placement, on chosen devices [n], to others."""

    def __init__(self, view: ClusterView, devices: IntArray, begin: ShareArrays) -> None:
        costs = MoveCosts(view)
        links, self._per_bit_s = costs.prices.links, costs.prices.processor_s_per_bit[devices]  # [n]
        self._view, self._begin, self._n_groups = view, begin, view.costs.shape.n_groups
        self._s_per_bit = np.stack([links.s_per_bit.row(d)[devices] for d in devices.tolist()])  # [n, n]
        self._weights, self._cache, self._table = costs.weight_bytes, costs.cache_bytes[Kind.HEAD], costs.table_bytes
        at_now = view.costs.at_step(1, view.past)
        self._column, self._unit = (float(weight_bytes(block, at_now)) for block in (proj(0, 1), ffn(0, 1)))

    def seconds(
        self, shares: ShareArrays, first: IntArray | None = None, lengths: IntArray | None = None
    ) -> FloatArray:
        """Seconds that a sequence waits for the migration to each placement: [k].

        With only one layer of each of several runs alike: `first` and `lengths` say which and of how many, [n_runs].
        """
        old, k, each = self._begin, np.arange(len(shares)), 1 if lengths is None else lengths[:, None]
        if first is not None:
            old = ShareArrays(old.embed, old.lm_head, old.heads[:, first], old.proj[:, first], old.units[:, first])
        more = (shares.heads - old.heads) * each  # [k, n_layers, n]
        heads = more.sum(1), np.maximum(more, 0).sum(1)  # [k, n] each
        columns = (self._columns(shares) - self._columns(old)) * each  # [k, n_layers, n]
        units = (shares.units - old.units) * each  # [k, n_layers, n]
        weights = heads[1] * self._weights[Kind.HEAD]
        weights = weights + np.maximum(columns, 0).sum(1) * self._column + np.maximum(units, 0).sum(1) * self._unit
        caches = heads[1] * self._cache  # [k, n]
        lost = heads[0] * self._weights[Kind.HEAD] + columns.sum(1) * self._column + units.sum(1) * self._unit
        lm_head_meets = (shares.lm_head == old.embed) | (shares.lm_head == shares.embed)  # [k] as `ends_meeting` says
        for kind, before, after, meets in (
            (Kind.EMBED, old.embed, shares.embed, shares.embed == old.lm_head),
            (Kind.LM_HEAD, old.lm_head, shares.lm_head, lm_head_meets),
        ):
            moved = np.where(after != before, self._weights[kind] - self._table * meets, 0.0)  # [k]
            weights[k, after] += moved
            lost[:, before[0]] -= moved
        giver = lost.argmin(1)  # [k]
        at_once = caches + (0.0 if self._view.weights_on_flash else weights)
        linked_s = 8.0 * at_once * self._s_per_bit[giver]  # [k, n]
        handled_s = 8.0 * at_once.sum(1) * self._per_bit_s[giver]  # [k] all that the giver sends
        if self._view.weights_on_flash:
            linked_s = np.maximum(linked_s, weights / self._view.flash_bytes_per_s)
        found: FloatArray = np.maximum(linked_s.max(1), handled_s)
        return found

    def _columns(self, shares: ShareArrays) -> IntArray:
        """Columns of projections on each device: [k, n_layers, n]."""
        whole = shares.proj[..., None] == np.arange(shares.heads.shape[-1])
        columns: IntArray = np.where(shares.proj[..., None] < 0, shares.heads, whole * self._n_groups)
        return columns
