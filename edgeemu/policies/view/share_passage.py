"""Passage of a step through placements with divided layers, many at once, in closed form. No events, no clock.

It is the program of `placement.compile` (one hop for each collective) as arithmetic on "when has each device x".
Messages of a pair queue in its pipe.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import BoolArray, ShareArrays

SAME_S = 1e-12  # between times of a layer, it is rounding


@dataclass(frozen=True, slots=True)
class ShareStep:
    """Duration of a step of each of k placements, and what it takes of devices and links."""

    step_s: FloatArray  # [k]
    busy_s: FloatArray  # [k, n] that each device computes
    bits: FloatArray  # [k, n, n] that each device sends to each other


class _Needs(NamedTuple):
    """Devices that need x in a layer, [k, n] each: for the attention, as sums after it; for the rest likewise."""

    heads: BoolArray
    heads_sums: BoolArray
    ffn: BoolArray
    ffn_sums: BoolArray


class _Lately(NamedTuple):
    """State after a layer: times since `least_s`, when the first device has x; and what was counted so far."""

    has: BoolArray  # [k, n]
    least_s: FloatArray  # [k]
    x_s: FloatArray  # [k, n]
    free_s: FloatArray  # [k, n, n]
    busy_s: FloatArray  # [k, n]
    bits: FloatArray  # [k, n, n]

    def same(self, other: "_Lately") -> bool:
        """Whether all devices have x, and pipes are free, as late after the first as in another state."""
        return (
            np.array_equal(self.has, other.has)
            and bool((np.abs(self.x_s - other.x_s) <= SAME_S).all())
            and bool((np.abs(self.free_s - other.free_s) <= SAME_S).all())
        )


class Passage:
    """One step of k placements under way: who has x, since when, and when pipes are free."""

    def __init__(self, times: ShareTimes, shares: ShareArrays) -> None:
        k, n = len(shares), times.n
        self.t, self.s, self.k = times, shares, np.arange(k)
        self.devices = np.arange(n)
        self.apart = ~np.eye(n, dtype=np.bool_)
        self.rings, self.whole_proj, self.whole_ffn = shares.rings, shares.whole_proj, shares.whole_ffn
        self.has = np.zeros((k, n), np.bool_)  # who has x
        self.x_s = np.zeros((k, n))  # since when
        self.free_s = np.zeros((k, n, n))  # since when pipes are free
        self.busy_s = np.zeros((k, n))
        self.bits = np.zeros((k, n, n))
        self.last = shares.proj.shape[1] - 1

    def result(self) -> ShareStep:
        t, s, k = self.t, self.s, self.k
        if t.rows == 1:
            self.bits[k, s.lm_head, s.embed] += t.token_bits
        self.has[k, s.embed] = True
        self.x_s[k, s.embed] = (self._token_s() if t.rows == 1 else 0.0) + t.embed_s[s.embed]
        self.busy_s[k, s.embed] += t.embed_s[s.embed]
        alike = self._alike()
        needs = self._needs(alike)
        layer, n_layers = 0, s.proj.shape[1]
        while layer < n_layers:
            end, before = layer, None
            while end < n_layers and (end == layer or (alike[end] and needs[end] is needs[layer])):
                end += 1
            while layer < end:
                at_heads, sums, at_ffn, ffn_sums = needs[layer]
                self._attention(layer, at_heads, sums)
                self._feed_forward(layer, at_ffn, ffn_sums)
                layer += 1
                before = self._skip(end - layer, before) if layer < end else None
                if before is None:
                    layer = end
        self._spread(self._one(s.lm_head), t.hidden_bits if t.rows == 1 else t.last_bits)
        self.busy_s[k, s.lm_head] += t.lm_head_s[s.lm_head]
        bits = np.where(self.apart, self.bits, 0.0)
        return ShareStep(self.x_s[k, s.lm_head] + t.lm_head_s[s.lm_head], self.busy_s, bits)

    def _token_s(self) -> FloatArray:
        """Time of the token on its way to the embedding: [k]."""
        t, ends = self.t, (self.s.lm_head, self.s.embed)
        sent_s: FloatArray = t.s_per_bit[ends] * t.token_bits + t.delay_s[ends]
        return sent_s

    def _one(self, devices: IntArray) -> BoolArray:
        one: BoolArray = devices[:, None] == self.devices
        return one

    def _alike(self) -> list[bool]:
        """Whether each layer is placed as the one before it, in all placements."""
        s = self.s
        same = (s.heads[:, 1:] == s.heads[:, :-1]).all((0, 2)) & (s.units[:, 1:] == s.units[:, :-1]).all((0, 2))
        same &= (s.proj[:, 1:] == s.proj[:, :-1]).all(0)  # [n_layers - 1]
        return [False, *same.tolist()]

    def _skip(self, layers: int, before: "_Lately | None") -> "_Lately | None":
        """Skip so many layers, alike the last, if that took as long as the one before it everywhere. None: it did."""
        least_s = np.where(self.has, self.x_s, np.inf).min(1)  # [k]
        x_s = np.where(self.has, self.x_s - least_s[:, None], 0.0)
        free_s = np.maximum(self.free_s - least_s[:, None, None], 0.0)  # what binds no more is alike
        now = _Lately(self.has, least_s, x_s, free_s, self.busy_s.copy(), self.bits.copy())
        if before is None or not now.same(before):
            return now
        took_s = layers * (least_s - before.least_s)  # [k]
        self.x_s = self.x_s + took_s[:, None]
        self.free_s = self.free_s + took_s[:, None, None]
        self.busy_s += layers * (now.busy_s - before.busy_s)
        self.bits += layers * (now.bits - before.bits)
        return None

    def _needs(self, alike: list[bool]) -> list["_Needs"]:
        """Find who needs x in each layer; one object for layers for which all is alike."""
        s = self.s
        at_proj = s.proj[..., None] == self.devices  # [k, n_layers, n]
        need = self._one(s.lm_head)
        found: list[_Needs] = []
        last = s.proj.shape[1] - 1
        for layer in reversed(range(last + 1)):
            if layer + 1 < last and alike[layer + 1] and np.array_equal(need, found[-2].heads):
                found.append(found[-1])
                need = found[-1].heads
                continue
            ring = self.rings[:, layer]
            first = self._one(ring.argmax(1))
            if self.t.star:
                embed = self._one(s.embed)
                first = np.where(_any(embed & ring), embed, first)
            split_ffn = ~self.whole_ffn[:, layer]
            if layer == last and not self.t.star:
                ffn_sums = need & split_ffn[:, None]
            else:
                ffn_sums = self._sums(need, ring, first, split_ffn)
            at_ffn = (s.units[:, layer] > 0) | ffn_sums
            heads_sums = self._sums(at_ffn, ring, first, ~self.whole_proj[:, layer])
            need = (s.heads[:, layer] > 0) | at_proj[:, layer] | heads_sums
            found.append(_Needs(need, heads_sums, at_ffn, ffn_sums))
        return found[::-1]

    def _sums(self, wanted: BoolArray, ring: BoolArray, first: BoolArray, divided: BoolArray) -> BoolArray:
        """Where partial sums of a ring are added: where the sum is wanted, and for others on the first: [k, n]."""
        at = first if self.t.star else (wanted & ring) | (first & _any(wanted & ~ring))
        sums: BoolArray = at & divided[:, None]
        return sums

    def _spread(self, need: BoolArray, bits: float) -> None:
        """Send x from the first device that has it to those that need it."""
        to = need & ~self.has  # [k, n]
        if not to.any():
            return
        t, k, first = self.t, self.k, self.has.argmax(1)
        began_s = np.maximum(self.x_s[k, first][:, None], self.free_s[k, first])  # [k, n]
        left_s = began_s + bits * t.s_per_bit[first]
        self.free_s[k, first] = np.where(to, left_s, self.free_s[k, first])
        self.x_s = np.where(to, left_s + t.delay_s[first], self.x_s)
        self.bits[k, first] += np.where(to, bits, 0.0)

    def _attention(self, layer: int, need: BoolArray, sums: BoolArray) -> None:
        t, k, counts = self.t, self.k, self.s.heads[:, layer]  # [k, n]
        held, whole = counts > 0, self.whole_proj[:, layer]
        self._spread(need, t.hidden_bits)
        self.busy_s += t.heads_s[self.devices, counts]
        done_s = self._attended(layer)
        joined_s = np.zeros_like(done_s)
        at = np.maximum(self.s.proj[:, layer], 0)  # [k]
        if whole.any():
            joined_s[k, at] = (
                self._collected(done_s, held & whole[:, None], at, t.attention_bits[counts].astype(np.float64))
                + t.proj_s[at]
            )
            self.busy_s[k, at] += np.where(whole, t.proj_s[at], 0.0)
        if not whole.all():
            terms = held & ~whole[:, None]
            self.busy_s += np.where(terms, t.columns_s[self.devices, counts], 0.0)
            np.copyto(joined_s, self._joined_columns(layer, done_s, terms, sums), where=sums)
        self.has, self.x_s = np.where(whole[:, None], self._one(at), sums), joined_s

    def _collected(self, done_s: FloatArray, to: BoolArray, at: IntArray, bits: FloatArray) -> FloatArray:
        """When one device, [k], has x and outputs that are done at `done_s` on the devices `to`: [k, n] each -> [k]."""
        t, k = self.t, self.k
        free_s, here = self.free_s[k, :, at], self.devices == at[:, None]
        left_s = np.maximum(done_s, free_s) + bits * t.s_per_bit[:, at].T
        self.free_s[k, :, at] = np.where(to & ~here, left_s, free_s)
        self.bits[k, :, at] += np.where(to, bits, 0.0)
        there_s = np.where(here, done_s, left_s + t.delay_s[:, at].T)
        ready_s: FloatArray = np.maximum(np.where(to, there_s, 0.0).max(1), self.x_s[k, at])
        return ready_s

    def _feed_forward(self, layer: int, need: BoolArray, sums: BoolArray) -> None:
        t, units, whole = self.t, self.s.units[:, layer], self.whole_ffn[:, layer]  # [k, n], [k]
        held = units > 0
        self._spread(need, t.hidden_bits)
        took_s = np.where(held, np.where(whole[:, None], t.ffn_s, t.units_s[self.devices, units]), 0.0)
        self.busy_s += took_s
        joined_s = np.where(held & whole[:, None], self.x_s + took_s, 0.0)
        if not whole.all():
            np.copyto(joined_s, self._joined_units(layer, held & ~whole[:, None], sums), where=sums)
        self.has, self.x_s = np.where(whole[:, None], held, sums), joined_s

    def _attended(self, layer: int) -> FloatArray:
        """When each device has the outputs of its groups: [k, n]."""
        done_s: FloatArray = self.x_s + self.t.heads_s[self.devices, self.s.heads[:, layer]]
        return done_s

    def _joined_columns(self, layer: int, done_s: FloatArray, terms: BoolArray, sums: BoolArray) -> FloatArray:
        """When sums over a divided projection, of groups that are done at `done_s`, are there: [k, n]."""
        columns_s = self.t.columns_s[self.devices, self.s.heads[:, layer]]
        return self._joined(done_s + columns_s, terms, sums, self.t.partial_bits)

    def _joined_units(self, layer: int, terms: BoolArray, sums: BoolArray) -> FloatArray:
        """When sums over a divided feed-forward block are there: [k, n]."""
        units_s = self.t.units_s[self.devices, self.s.units[:, layer]]
        return self._joined(self.x_s + units_s, terms, sums, self.t.partial_bits)

    def _joined(self, done_s: FloatArray, terms: BoolArray, sums: BoolArray, bits: float) -> FloatArray:
        """When partial sums, done at `done_s` on `terms`, are sent from each to each and added on `sums`: [k, n]."""
        t, ready_s = self.t, self._exchanged(done_s, terms[:, :, None] & sums[:, None, :], bits)
        sums_s = t.sums_s[:, terms.sum(1) + 1].T  # [k, n]
        self.busy_s += np.where(sums, sums_s, 0.0)
        joined_s: FloatArray = ready_s + sums_s
        return joined_s

    def _exchanged(self, done_s: FloatArray, to: BoolArray, bits: float) -> FloatArray:
        """When each device has what is done on others and sent to it, and x: [k, n], [k, n, n] -> [k, n]."""
        t = self.t
        left_s = np.maximum(done_s[:, :, None], self.free_s) + bits * t.s_per_bit
        self.free_s = np.where(to & self.apart, left_s, self.free_s)
        self.bits += np.where(to, bits, 0.0)
        there_s = np.where(self.apart, left_s + t.delay_s, done_s[:, :, None])
        ready_s: FloatArray = np.maximum(np.where(to, there_s, 0.0).max(1), self.x_s)
        return ready_s


def _any(devices: BoolArray) -> BoolArray:
    """Whether there is any device, [k, n] -> [k, 1]."""
    found: BoolArray = np.any(devices, axis=1, keepdims=True)
    return found
