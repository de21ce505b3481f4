"""Duration of a prompt's step of placements with divided layers, many at once: `share_steps` with rings of chunks.

After a divided part x is in chunks of rows on the devices of the layer's ring. Those that multiply it in the same ring
get it by an AllGather, all others from each device by itself.
"""

import numpy as np

from edgeemu.placement.arrays import FloatArray
from edgeemu.policies.view.share_passage import Passage, ShareStep
from edgeemu.policies.view.share_ring import Rings, RingTimes
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import BoolArray, ShareArrays


def prompt_of(times: ShareTimes, shares: ShareArrays) -> ShareStep:
    """Compute the step of a prompt with each placement of a batch."""
    return step_of(times, shares) if times.ring is None else _PromptPassage(times, shares, times.ring).result()


class _PromptPassage(Passage):
    """A prompt under way. Where x is in chunks, `x_s` says since when each device has its own."""

    def __init__(self, times: ShareTimes, shares: ShareArrays, ring: RingTimes) -> None:
        super().__init__(times, shares)
        self.ring = ring
        largest = self.rings.sum(-1).max(-1)  # [k]
        self.tiled = largest <= times.rows / times.tile_rows  # [k] whether products are computed chunk by chunk
        self.scattered = np.zeros(len(shares), np.bool_)  # [k] whether x is in chunks
        self.same = self.scattered  # [k] whether they are gathered in the ring in which they are
        self.now = self._rings(0)  # the ring of the layer, and that on which x is

    def _rings(self, layer: int) -> Rings:
        return Rings(self.ring, self.t.s_per_bit, self.t.delay_s, self.rings[:, layer], self.free_s)

    def _sums(self, wanted: BoolArray, ring: BoolArray, first: BoolArray, divided: BoolArray) -> BoolArray:  # noqa: ARG002
        sums: BoolArray = ring & divided[:, None]
        return sums

    def _attention(self, layer: int, need: BoolArray, sums: BoolArray) -> None:
        divided = ~self.whole_proj[:, layer]
        super()._attention(layer, self._gathered(layer, need, divided), sums)
        self.scattered = divided

    def _feed_forward(self, layer: int, need: BoolArray, sums: BoolArray) -> None:
        divided = ~self.whole_ffn[:, layer]
        if layer == self.last:
            need = self.s.units[:, layer] > 0  # the residual comes with a partial sum
        super()._feed_forward(layer, self._gathered(layer, need, divided), sums)
        self.scattered = divided & (layer < self.last)

    def _gathered(self, layer: int, need: BoolArray, divided: BoolArray) -> BoolArray:
        """Bring chunks to devices that need all of x for a part, `divided` in some. Return who else needs x, [k, n].

        In the ring in which chunks are they are gathered by the part itself.
        """
        self.same = self.scattered & divided & (self.rings[:, layer] == self.now.ring).all(1)
        need = need & ~self.same[:, None]
        gather = need & self.scattered[:, None]
        if gather.any():
            self.x_s = np.where(gather, self.now.brought(self.x_s, gather), self.x_s)
            self.has = np.where(self.scattered[:, None], gather, self.has)
        self.now = self._rings(layer)
        return need

    def _attended(self, layer: int) -> FloatArray:
        done_s, same = super()._attended(layer), self.same[:, None]
        if not same.any():
            return done_s
        counts, tiled = self.s.heads[:, layer], self.tiled[:, None]
        tile_s = np.where(tiled, self.now.tiles(self.ring.qkv_s, counts), 0.0)
        rest_s = np.where(tiled, self.ring.attend_s[self.devices, counts], self.t.heads_s[self.devices, counts])
        return np.where(same, self.now.gathered(self.x_s, (counts > 0) & same, tile_s)[-1] + rest_s, done_s)

    def _joined_columns(self, layer: int, done_s: FloatArray, terms: BoolArray, sums: BoolArray) -> FloatArray:  # noqa: ARG002
        counts, tiled, now = self.s.heads[:, layer], self.tiled[:, None], self.now
        tile_s = np.where(tiled, now.tiles(self.ring.columns_s, counts), 0.0)
        begin_s = done_s + np.where(tiled, 0.0, self.t.columns_s[self.devices, counts])
        done = [begin_s + step * tile_s for step in range(1, now.most)]
        return now.scattered(done, begin_s + now.members[:, None] * tile_s, terms, self.x_s)

    def _joined_units(self, layer: int, terms: BoolArray, sums: BoolArray) -> FloatArray:
        counts, now, same = self.s.units[:, layer], self.now, self.same[:, None]
        tiled = self.tiled[:, None] & (layer < self.last)
        tile_s = np.where(tiled, now.tiles(self.ring.units_s, counts), 0.0)
        done = [self.x_s + step * tile_s for step in range(1, now.most + 1)]
        if same.any():
            gathered = now.gathered(self.x_s, terms & same, tile_s)
            done = [np.where(same, each, whole) for each, whole in zip(gathered, done, strict=True)]
        all_s = done[-1] + self.t.units_s[self.devices, counts]
        if layer == self.last:
            return self._joined(all_s, terms, sums, self.t.last_partial_bits)
        own, *others = [np.where(tiled, each, all_s) for each in done]
        return now.scattered(others, own, terms, self.x_s)
