"""Duration of a decode step of a placement, in closed form. No events, no clock.

For one sequence alone, and where every pair has a link of its own, it is the simulator's result, vectorised. A step is
a chain of stages, and only the heads of a layer run in parallel:

    token to embed, embed, then for each layer
        max over devices of ( x to the device, its heads, their outputs to proj ), proj, x to ffn, ffn
    then x to lm_head, lm_head.

Heads on the device that sends x can finish before x has left for proj, where the link is slow: their outputs then wait
behind it in the pipe. A pipe shared by several pairs (an interface, an access point) is not modelled.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray, IntArray, PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.placement import Placement
from edgeemu.placement.work import Work
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.held_heads import HeldHeads
from edgeemu.policies.view.message_times import BusyHeads
from edgeemu.policies.view.same import Same

ROUNDING = 1e-9  # share by which sums of the same times in another order can differ, and more
_SINGLES = Kind.EMBED, Kind.PROJ, Kind.FFN, Kind.LM_HEAD
MANY = 4  # layers from which it is quicker to compute all of them at once


def _alike(*devices: IntArray) -> NDArray[np.bool_]:
    """Whether layers have devices like those of the layer before: [n_layers] each -> [n_layers - 1]."""
    alike: NDArray[np.bool_] = np.logical_and.reduce([each[1:] == each[:-1] for each in devices])
    return alike


@lru_cache(maxsize=16)
def _single_works(costs: Same[Costs], past: int) -> tuple[FloatArray, FloatArray]:
    """Operations and bytes read of the embedding, a projection, a feed-forward block and the output matrix: [4, 1].

    They are those of steps with more positions cached, too.
    """
    works = [costs.kept.work(kind, 1, 1, past) for kind in _SINGLES]
    flops, bytes_read = ([[value] for value in values] for values in zip(*works, strict=True))
    return np.array(flops, np.float64), np.array(bytes_read, np.float64)


class StepTimes:
    """Times of the stages of a decode step, from a view. All in seconds; vectors are [n_devices]."""

    def __init__(self, view: ClusterView, past: int | None = None) -> None:
        """`past`: positions cached; by default those of the view's next step."""
        self.view = view
        self.links = view.links
        self.past = view.past if past is None else past
        costs, shape = view.costs.at_step(1, self.past), view.costs.shape
        self.n_devices = view.n_devices
        self.n_groups = shape.n_groups
        self._flops, self._mem, self._overhead = view.flops_per_s, view.mem_bytes_per_s, view.overhead_s
        self._works = _single_works(Same(costs), 0 if costs.of_every_step else self.past)
        # The heads of one layer on one device are one execution. Both roofs are affine in their number:
        one, two = costs.work(Kind.HEAD, 1, 1, self.past), costs.work(Kind.HEAD, 2, 1, self.past)
        self._one_head_flops, self.head_flops = one.flops, two.flops - one.flops
        fixed = Work(one.flops - self.head_flops, 2 * one.bytes_read - two.bytes_read)
        self.compute_fixed_s = fixed.flops / self._flops + self._overhead
        self.compute_slope_s = self.head_flops / self._flops
        self.memory_fixed_s = fixed.bytes_read / self._mem + self._overhead
        self.memory_slope_s = (two.bytes_read - one.bytes_read) / self._mem
        self.hidden_bits = 8.0 * costs.activation_bytes(1)
        self._busy_heads = BusyHeads(view, self.hidden_bits) if view.links is not view.links.wire else None
        self.token_bits = 8.0 * costs.token_bytes()
        first, second = costs.attention_bytes(1, 1), costs.attention_bytes(2, 1)
        self.attention_slope_bits = 8.0 * (second - first)
        self.attention_fixed_bits = 8.0 * first - self.attention_slope_bits

    @property
    def flops(self) -> dict[Kind, float]:
        """Operations of one block of each kind."""
        return dict(zip(_SINGLES, self._works[0].flat, strict=True)) | {Kind.HEAD: self._one_head_flops}

    @property
    def keeps_busy(self) -> bool:
        """Whether messages keep processors busy."""
        return self._busy_heads is not None

    @cached_property
    def _singles_s(self) -> tuple[FloatArray, ...]:
        """Time of each kind of single block on each device alone: 4 x [n_devices]."""
        flops, bytes_read = self._works
        return tuple(np.maximum(flops / self._flops, bytes_read / self._mem) + self._overhead)

    @property
    def embed_s(self) -> FloatArray:
        return self._singles_s[0]

    @property
    def proj_s(self) -> FloatArray:
        return self._singles_s[1]

    @property
    def ffn_s(self) -> FloatArray:
        return self._singles_s[2]

    @property
    def lm_head_s(self) -> FloatArray:
        return self._singles_s[3]

    @cached_property
    def all_heads_s(self) -> FloatArray:
        """Time of all heads of a layer on each device alone: [n_devices]."""
        computed_s = self.compute_fixed_s + self.n_groups * self.compute_slope_s
        read_s = self.memory_fixed_s + self.n_groups * self.memory_slope_s
        return np.maximum(computed_s, read_s)

    @cached_property
    def whole_layer_s(self) -> FloatArray:
        """Time of a complete layer on each device alone: [n_devices]."""
        layer_s: FloatArray = self.all_heads_s + self.proj_s + self.ffn_s
        return layer_s

    @cached_property
    def least_layer_s(self) -> float:
        """Time of a complete layer on the device that is fastest at layers."""
        return float(self.whole_layer_s.min())

    def heads_s(self, devices: IntArray, counts: IntArray) -> FloatArray:
        """Time of fused heads of one layer on each of `devices`: [m], [m] -> [m]."""
        return np.maximum(
            self.compute_fixed_s[devices] + counts * self.compute_slope_s[devices],
            self.memory_fixed_s[devices] + counts * self.memory_slope_s[devices],
        )

    def _output_bits(self, counts: IntArray) -> FloatArray:
        """Bits of the outputs of so many groups: [m] -> [m]."""
        return self.attention_fixed_bits + counts.astype(np.float64) * self.attention_slope_bits

    def hop_s(self, source: int, target: int) -> float:
        """Time of x from one device to another."""
        return self.links.pair(source, target, self.hidden_bits)

    def gathered_s(self, source: int, gather: int, devices: IntArray, counts: IntArray) -> FloatArray:
        """Time until the outputs of each device's heads are at proj, from x at `source`: [m], counts above 0 -> [m]."""
        links = self.links
        x_s = links.s_per_bit.to_some(source, devices) * self.hidden_bits + links.delay_s.to_some(source, devices)
        done_s = x_s + self.heads_s(devices, counts)
        if source != gather:  # its own heads' outputs queue behind x
            leaves_s = self.hidden_bits * links.s_per_bit.pair(source, gather)
            done_s = np.where(devices == source, np.maximum(done_s, leaves_s), done_s)
        bits = self.attention_fixed_bits + counts * self.attention_slope_bits
        away = devices != gather
        sent_s = bits * links.s_per_bit.from_some(devices, gather) + links.delay_s.from_some(devices, gather)
        return done_s + np.where(away, sent_s, 0.0)

    def heads_stage_s(self, source: int, gather: int, devices: IntArray, counts: IntArray) -> float:
        """Time from x at `source` until proj's device has x and all outputs."""
        if self._busy_heads is not None:
            heads_s, bits = self.heads_s(devices, counts), self._output_bits(counts)
            return self._busy_heads.stage_s(source, gather, HeldHeads.of_one(devices, counts), heads_s, bits)
        return self.heads_stage_of_s(source, gather, self.gathered_s(source, gather, devices, counts))

    def heads_stage_of_s(self, source: int, gather: int, gathered_s: FloatArray) -> float:
        """`heads_stage_s` where messages keep no processor busy, from when each device's outputs are there: [m]."""
        return max(self.hop_s(source, gather), float(gathered_s.max(initial=0.0)))

    def least_stages_s(self, source: int, devices: IntArray, counts: IntArray) -> FloatArray:
        """Lower bounds of `heads_stage_s`, but for rounding, with proj on each device: [m], [m] -> [n_devices]."""
        links, bits = self.links, self._output_bits(counts)  # [m]
        begin_s = links.s_per_bit.to_some(source, devices) * self.hidden_bits + links.delay_s.to_some(source, devices)
        busy = self._busy_heads
        if busy is not None:
            begin_s = begin_s + busy.waits_s(source, devices)
        done_s, everyone = begin_s + self.heads_s(devices, counts), np.arange(self.n_devices)
        sent_s = links.s_per_bit.block(devices, everyone) * bits[:, None] + links.delay_s.block(devices, everyone)
        gathered_s = done_s[:, None] + sent_s  # [m, n_devices]
        latest_s = gathered_s.max(0) if busy is None else busy.least_taken_in_s(devices, bits, done_s, gathered_s)
        return np.maximum(latest_s, links.row(source, self.hidden_bits))

    def layer_s(self, source: int, proj: int, ffn: int, devices: IntArray, counts: IntArray) -> float:
        """Time from x at `source` to the end of the feed-forward block."""
        return self.layer_after_s(self.heads_stage_s(source, proj, devices, counts), proj, ffn)

    def layer_after_s(self, stage_s: float, proj: int, ffn: int) -> float:
        """`layer_s` after the heads' stage."""
        return stage_s + float(self.proj_s[proj]) + self.hop_s(proj, ffn) + float(self.ffn_s[ffn])

    def layers_s(self, sources: IntArray, projs: IntArray, ffns: IntArray, counts: IntArray) -> FloatArray:
        """`layer_s` of all layers at once, each with groups: [n_layers], counts [n_layers, n_devices] -> [n_layers]."""
        if len(counts) == 1:
            return self._one_by_one_s(sources, projs, ffns, counts)
        same = _alike(sources, projs, ffns) & (counts[1:] == counts[:-1]).all(1)  # [n_layers - 1]
        new = np.flatnonzero(np.append(True, ~same))  # [k] layers like the one before take the same time
        if len(new) < MANY:
            found_s = self._one_by_one_s(sources[new], projs[new], ffns[new], counts[new])  # [k]
        else:
            found_s = self._layers_s(sources[new], projs[new], ffns[new], HeldHeads.of(counts[new]))  # [k]
        return np.repeat(found_s, np.diff(new, append=len(counts)))

    def _one_by_one_s(self, sources: IntArray, projs: IntArray, ffns: IntArray, counts: IntArray) -> FloatArray:
        """`layer_s` of few layers."""
        ends = zip(sources.tolist(), projs.tolist(), ffns.tolist(), strict=True)
        held = [row.nonzero()[0] for row in counts]  # n_layers x [m]
        return np.array([self.layer_s(*at, on, row[on]) for at, on, row in zip(ends, held, counts, strict=True)])

    def _layers_s(self, sources: IntArray, projs: IntArray, ffns: IntArray, held: HeldHeads) -> FloatArray:
        """`layer_s` of many layers, vectorised."""
        if self._busy_heads is not None:
            heads_s, bits = self.heads_s(held.devices, held.counts), self._output_bits(held.counts)
            return self._layers_after_s(self._busy_heads.stages_s(sources, projs, held, heads_s, bits), projs, ffns)
        latest_s = np.maximum.reduceat(self.all_gathered_s(sources, projs, held), held.starts(len(projs)))
        return self.layers_from_s(latest_s, sources, projs, ffns)

    def layers_from_s(self, latest_s: FloatArray, sources: IntArray, projs: IntArray, ffns: IntArray) -> FloatArray:
        """`layer_s` of many layers, from when the latest heads' outputs are there: [n_layers] each -> [n_layers]."""
        return self._layers_after_s(np.maximum(self.hops_s(sources, projs), latest_s), projs, ffns)

    def _layers_after_s(self, stage_s: FloatArray, projs: IntArray, ffns: IntArray) -> FloatArray:
        """`layer_after_s` of many layers: [n_layers] each -> [n_layers]."""
        found: FloatArray = stage_s + self.proj_s[projs] + self.hops_s(projs, ffns) + self.ffn_s[ffns]
        return found

    def all_gathered_s(self, sources: IntArray, projs: IntArray, held: HeldHeads) -> FloatArray:
        """`gathered_s` of all layers at once: [n_layers], [n_layers] -> [m]."""
        layers, devices, counts = held
        at_source, at_proj = sources[layers], projs[layers]  # [m] each
        done_s = self.links.pairs(at_source, devices, self.hidden_bits) + self.heads_s(devices, counts)
        # A source's own heads' outputs queue behind x.
        leaves_s = self.hidden_bits * self.links.s_per_bit.pairs(sources, projs)  # [n_layers]
        queued = (devices == at_source) & (sources != projs)[layers]
        done_s = np.where(queued, np.maximum(done_s, leaves_s[layers]), done_s)
        bits = self.attention_fixed_bits + counts * self.attention_slope_bits
        gathered_s: FloatArray = done_s + np.where(devices != at_proj, self.links.pairs(devices, at_proj, bits), 0.0)
        return gathered_s

    def hops_s(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """`hop_s` of pairs of devices: [n], [n] -> [n]."""
        return self.links.pairs(sources, targets, self.hidden_bits)

    def ends_s(self, embed: int, last: int, lm_head: int) -> float:
        """Time of everything but the layers: token to embedding, embedding, x to output matrix, output matrix."""
        token_s = self.links.pair(lm_head, embed, self.token_bits)
        return token_s + float(self.embed_s[embed]) + self.hop_s(last, lm_head) + float(self.lm_head_s[lm_head])

    def layer_times_s(self, layout: PlacementArrays) -> list[float]:
        """Time of each layer."""
        if len(layout.proj) == 1:
            counts = layout.counts(self.n_devices)[0]  # [n_devices]
            on = counts.nonzero()[0]  # [m]
            return [self.layer_s(layout.embed, int(layout.proj[0]), int(layout.ffn[0]), on, counts[on])]
        sources = np.append(layout.embed, layout.ffn[:-1])  # [n_layers]
        heads = np.sort(layout.heads, axis=1)  # [n_layers, n_groups]
        same = _alike(sources, layout.proj, layout.ffn) & (heads[1:] == heads[:-1]).all(1)  # [n_layers - 1]
        new = np.flatnonzero(np.append(True, ~same))  # [k] layers like the one before take the same time
        if len(new) < MANY:
            counts = layout.counts(self.n_devices)[new]  # [k, n_devices]
            found_s = self._one_by_one_s(sources[new], layout.proj[new], layout.ffn[new], counts)  # [k]
        else:
            held = HeldHeads.sorted(heads[new])
            found_s = self._layers_s(sources[new], layout.proj[new], layout.ffn[new], held)  # [k]
        found: list[float] = np.repeat(found_s, np.diff(new, append=len(heads))).tolist()
        return found

    def step_s(self, layout: PlacementArrays) -> float:
        """Time of one decode step."""
        return self.ends_s(layout.embed, int(layout.ffn[-1]), layout.lm_head) + sum(self.layer_times_s(layout))

    def least_step_s(self, layout: PlacementArrays) -> float:
        """A lower bound of `step_s` that is known sooner: heads take no time on links, in few layers none at all."""
        sources = np.append(layout.embed, layout.ffn[:-1])  # [n_layers]
        if len(sources) < MANY:
            ends = zip(sources.tolist(), layout.proj.tolist(), layout.ffn.tolist(), strict=True)
            layers_s = sum(self.layer_after_s(self.hop_s(*at[:2]), *at[1:]) for at in ends)
        else:
            held = HeldHeads.sorted(np.sort(layout.heads, axis=1))
            latest_s = np.maximum.reduceat(self.heads_s(held.devices, held.counts), held.starts(len(sources)))
            layers_s = float(self.layers_from_s(latest_s, sources, layout.proj, layout.ffn).sum())
        return (1 - ROUNDING) * (self.ends_s(layout.embed, int(layout.ffn[-1]), layout.lm_head) + layers_s)

    def busy_s(self, layout: PlacementArrays) -> FloatArray:
        """Time that each device computes in a step, or is busy with messages: [n_devices]."""
        busy_s = np.zeros(self.n_devices)  # [n_devices]
        busy_s[layout.embed] += self.embed_s[layout.embed]
        busy_s[layout.lm_head] += self.lm_head_s[layout.lm_head]
        np.add.at(busy_s, layout.proj, self.proj_s[layout.proj])
        np.add.at(busy_s, layout.ffn, self.ffn_s[layout.ffn])
        _, devices, held = HeldHeads.sorted(np.sort(layout.heads, axis=1))
        np.add.at(busy_s, devices, self.heads_s(devices, held))
        if self._busy_heads is not None:
            for source, target, size in self._messages(layout):
                for device in (source, target) if source != target else ():
                    busy_s[device] += self._busy_heads.busy_s(device, size)
        return busy_s

    def message_bits(self, layout: PlacementArrays) -> dict[tuple[int, int], float]:
        """Bits that each device sends to each other in a step, by (source, target)."""
        bits: dict[tuple[int, int], float] = defaultdict(float)
        for source, target, size in self._messages(layout):
            bits[source, target] += size
        return {(a, b): size for (a, b), size in bits.items() if a != b}

    def _messages(self, layout: PlacementArrays) -> Iterator[tuple[int, int, float]]:
        """Yield source, target and bits of each result that is handed on in a step, also to its own device."""
        yield layout.lm_head, layout.embed, self.token_bits
        source = layout.embed
        counts = layout.counts(self.n_devices)  # [n_layers, n_devices]
        for row, at_proj, at_ffn in zip(counts, layout.proj.tolist(), layout.ffn.tolist(), strict=True):
            holders = np.flatnonzero(row).tolist()
            for target in {*holders, at_proj}:
                yield source, target, self.hidden_bits
            for device in holders:
                yield device, at_proj, self.attention_fixed_bits + int(row[device]) * self.attention_slope_bits
            yield at_proj, at_ffn, self.hidden_bits
            source = at_ffn
        yield source, layout.lm_head, self.hidden_bits


def step_s(view: ClusterView, placement: Placement) -> float:
    """Seconds of one decode step of a placement, alone on the cluster, from token to token."""
    return StepTimes(view).step_s(PlacementArrays.of(placement, view.costs.shape))
