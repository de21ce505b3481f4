"""Upper bounds of what moves of a layer's single blocks, and of ends, gain on any device: where models have few layers.

As in `single_gains`, heads of which the source, the projection or the devices change take no time on links. So it is
known without a placement to move towards, which takes longer to find, whether any move could pay.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.partial_placement import ENDS, PartialPlacement
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import ROUNDING


class Anywhere(NamedTuple):
    """Whether moves to each device could pay and fit, as a draft is placed: they fit where each block alone does."""

    ends: NDArray[np.bool_]  # [n_ends, n_devices], in the order of `ENDS`
    layers: NDArray[np.bool_]  # [n_layers, n_moves, n_devices], in the order of `single_gains.MOVES`

    @property
    def any(self) -> bool:
        return bool(self.ends.any() or self.layers.any())

    def towards(self, target: PartialPlacement) -> tuple[list[list[bool]], list[bool]]:
        """Whether moves to where a placement has the first block of each could pay: n_moves x n_layers, and n_ends."""
        every, ffns, projs = np.arange(len(target.ffn)), target.ffn, target.proj  # [n_layers] each
        worth = [self.layers[every, move, to].tolist() for move, to in enumerate((ffns, projs, ffns, ffns))]
        return worth, [bool(row[target.at(kind, 0)]) for row, kind in zip(self.ends, ENDS, strict=True)]


class _Layer(NamedTuple):
    """Where a placed layer's blocks are, and how long the slowest device of its heads computes."""

    source: int
    proj: int
    ffn: int
    on_proj: int  # groups on the projection's device
    holders: IntArray  # [m] devices with heads
    groups: IntArray  # [m] of each
    heads_s: float
    others_s: float  # of the devices but the projection's

    @classmethod
    def of(cls, draft: PartialPlacement, layer: int) -> "_Layer":
        groups, proj = draft.groups[layer], int(draft.proj[layer])
        on = groups.nonzero()[0]  # [m]
        heads_s = draft.times.heads_s(on, groups[on])  # [m]
        others_s = float(heads_s.max(where=on != proj, initial=0.0))
        slowest_s = float(heads_s.max(initial=0.0))
        ends = draft.source(layer), proj, int(draft.ffn[layer])
        return cls(*ends, int(groups[proj]), on, groups[on], slowest_s, others_s)


def could_pay_anywhere(draft: PartialPlacement, prices: Prices, costs: MoveCosts, layers_s: list[float]) -> Anywhere:
    """Whether moves of single blocks of a draft could pay, as long as none has moved. `layers_s`: of its layers."""
    layers = [_Layer.of(draft, layer) for layer in range(len(layers_s))]
    ends_s = draft.ends_s()
    befores_s = [layer_s + next_s for layer_s, next_s in zip(layers_s, [*layers_s[1:], ends_s], strict=True)]
    end_gains_s = _end_gains_s(draft, layers[0], layers_s[0], ends_s)  # [n_ends, n_devices]
    gains_s = np.array(
        [
            befores_s[at] * (1 + ROUNDING) - _least_around_s(draft, layers, at, layers_s, ends_s)
            for at in range(len(layers))
        ]
    )  # [n_layers, n_moves, n_devices]
    apart = draft.embed != draft.lm_head
    ends_move_s = np.array([[costs.quickest_s(kind, draft.at(kind, 0), meeting=apart)] for kind in ENDS])
    moves_s = np.array([_least_moves_s(costs, layer) for layer in layers])  # [n_layers, n_moves, n_devices]
    capacity = draft.room.capacity  # [n_devices]
    fits = {kind: draft.room.with_single(kind) <= capacity for kind in (*ENDS, Kind.FFN, Kind.PROJ)}
    both_fit = fits[Kind.FFN] & fits[Kind.PROJ]
    some_fit = np.array([fits[Kind.FFN], fits[Kind.PROJ], both_fit, both_fit])  # [n_moves, n_devices]
    return Anywhere(
        (prices.steps(end_gains_s) * end_gains_s > ends_move_s * (1 - ROUNDING)) & [fits[kind] for kind in ENDS],
        (prices.steps(gains_s) * gains_s > moves_s * (1 - ROUNDING)) & some_fit,
    )


def _end_gains_s(draft: PartialPlacement, first: _Layer, layer_s: float, ends_s: float) -> FloatArray:
    """Upper bounds of what a step gains where an end moves to each device: [n_ends, n_devices]."""
    times, links, bits, lm_head = draft.times, draft.times.links, draft.times.hidden_bits, draft.lm_head
    embed_s, lm_head_s = float(times.embed_s[draft.embed]), float(times.lm_head_s[lm_head])
    last = int(draft.ffn[-1])
    lm_heads_s = links.column(draft.embed, times.token_bits) + links.row(last, bits) + times.lm_head_s
    lm_heads_s += embed_s + layer_s
    embeds_s = links.row(lm_head, times.token_bits) + times.embed_s  # [n_devices]
    embeds_s += _layer_from_s(draft, first) + (times.hop_s(last, lm_head) + lm_head_s)
    lm_heads_s[lm_head] = embeds_s[draft.embed] = np.inf
    found: FloatArray = (ends_s + layer_s) * (1 + ROUNDING) - np.array([lm_heads_s, embeds_s])
    return found


def _layer_from_s(draft: PartialPlacement, layer: _Layer) -> FloatArray:
    """Lower bounds of a layer's time with x from each device: [n_devices]."""
    times = draft.times
    stage_s = np.maximum(times.links.column(layer.proj, times.hidden_bits), layer.heads_s)  # [n_devices]
    return stage_s + times.layer_after_s(0.0, layer.proj, layer.ffn)


def _least_around_s(
    draft: PartialPlacement, layers: list[_Layer], at: int, layers_s: list[float], ends_s: float
) -> FloatArray:
    """Lower bounds of the time of a layer and of the next, or of the ends, after `single_gains.MOVES` to each device.

    [n_moves, n_devices]; infinite where a move's first or second block is there already.
    """
    times, links, bits, layer = draft.times, draft.times.links, draft.times.hidden_bits, layers[at]
    next_s = layers_s[at + 1] if at + 1 < len(layers) else ends_s
    if at + 1 < len(layers):
        from_s = _layer_from_s(draft, layers[at + 1])  # [n_devices] of the next, with its x from each device
    else:
        from_s = links.column(draft.lm_head, bits) + (ends_s - times.hop_s(layer.ffn, draft.lm_head))
    come_s = links.row(layer.source, bits)  # [n_devices]
    stays_s = layers_s[at] - times.hop_s(layer.proj, layer.ffn) - float(times.ffn_s[layer.ffn])
    single_s = times.proj_s + times.ffn_s + from_s
    stages_s = times.least_stages_s(layer.source, layer.holders, layer.groups)  # [n_devices]
    proj_s = stages_s + times.proj_s + links.column(layer.ffn, bits)
    found_s = np.array(
        [
            links.row(layer.proj, bits) + times.ffn_s + from_s + stays_s,
            proj_s + (float(times.ffn_s[layer.ffn]) + next_s),
            stages_s + single_s,
            np.maximum(come_s, layer.others_s) + single_s,
        ]
    )
    found_s[[0, 2, 3], layer.ffn] = np.inf
    found_s[[1, 2, 3], layer.proj] = np.inf
    return found_s


def _least_moves_s(costs: MoveCosts, layer: _Layer) -> FloatArray:
    """Lower bounds of the migration times of `single_gains.MOVES` to each device: [n_moves, n_devices]."""
    wire, bits, flash_s = costs.view.links.wire, costs.link_bits, costs.flash_s
    n, ffn, proj = layer.on_proj, flash_s[Kind.FFN], flash_s[Kind.PROJ]
    moves_s = np.array([ffn, proj, ffn + proj, ffn + proj + n * flash_s[Kind.HEAD]])[:, None]  # [n_moves, 1]
    both_bits = bits[Kind.PROJ] + n * bits[Kind.HEAD]
    if not bits[Kind.FFN] and not both_bits:
        return np.broadcast_to(moves_s, (len(moves_s), costs.view.n_devices))
    sent_s = np.zeros((len(moves_s), costs.view.n_devices))  # [n_moves, n_devices]
    if bits[Kind.FFN]:
        sent_s[[0, 2, 3]] = wire.row(layer.ffn, bits[Kind.FFN])
    if bits[Kind.PROJ]:
        sent_s[1:] = np.maximum(sent_s[1:], wire.row(layer.proj, bits[Kind.PROJ]))
    if both_bits:
        sent_s[3] = np.maximum(sent_s[3], wire.row(layer.proj, both_bits))
    found: FloatArray = np.maximum(sent_s, moves_s)
    return found
