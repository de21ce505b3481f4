"""Upper bounds of what moves of layers' single blocks gain, of all layers at once. Pure.

`local_moves.try_move` has the exact figures. Here the heads of a layer whose source, projection or heads change take no
time on links: those of single blocks differ by so much more that nearly all moves are decided by them.
"""

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.held_heads import HeldHeads
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import ROUNDING

MOVES = ((Kind.FFN,), (Kind.PROJ,), (Kind.FFN, Kind.PROJ), (Kind.FFN, Kind.PROJ, Kind.HEAD))


def could_pay(
    draft: PartialPlacement, target: PartialPlacement, prices: Prices, layers_s: list[float]
) -> NDArray[np.bool_]:
    """Whether each of `MOVES` of each layer could pay, as a draft is placed: [n_moves, n_layers].

    A move brings blocks to where `target` has the first of them; whether they fit there is not looked at. `layers_s`:
    times of the layers. True without a look before the model runs. Where layers are few, `moves_anywhere` is quicker.
    """
    costs = prices.costs
    if costs is None:
        return np.ones((len(MOVES), len(draft.ffn)), np.bool_)
    before_s = np.array([*layers_s, draft.ends_s()])  # [n_layers + 1]
    before_s = before_s[:-1] + before_s[1:]  # [n_layers]
    gains_s = before_s * (1 + ROUNDING) - least_around_s(draft, target, layers_s)  # [n_moves, n_layers]
    moves_s = least_moves_s(draft, target, costs)  # [n_moves, n_layers]
    worth: NDArray[np.bool_] = prices.steps(gains_s) * gains_s > moves_s * (1 - ROUNDING)
    return worth


def least_around_s(draft: PartialPlacement, target: PartialPlacement, layers_s: list[float]) -> FloatArray:
    """Lower bounds, but for rounding, of the time of each layer and of the next, or of the ends, after `MOVES` of it.

    [n_moves, n_layers]; infinite where a move's first or second block is there already.
    """
    times, projs, ffns = draft.times, draft.proj, draft.ffn  # [n_layers] each
    sources, to_ffn, to_proj = np.append(draft.embed, ffns[:-1]), target.ffn, target.proj  # [n_layers] each
    heads_s, others_s = _computing_s(draft)
    ends_s = times.ends_s(draft.embed, int(to_ffn[-1]), draft.lm_head)
    # The next layer, with another source: [n_layers]
    next_s = np.append(times.layers_from_s(heads_s[1:], to_ffn[:-1], projs[1:], ffns[1:]), ends_s)
    unchanged_s = np.array([*layers_s[1:], draft.ends_s()])  # [n_layers]

    stays_s = np.array(layers_s) - times.hops_s(projs, ffns) - times.ffn_s[ffns]  # until the projection is done
    alone_s = stays_s + times.hops_s(projs, to_ffn) + times.ffn_s[to_ffn] + next_s
    proj_s = times.layers_from_s(heads_s, sources, to_proj, ffns) + unchanged_s
    both_s = times.layers_from_s(heads_s, sources, to_ffn, to_ffn) + next_s
    with_heads_s = times.layers_from_s(others_s, sources, to_ffn, to_ffn) + next_s
    found_s = np.array([alone_s, proj_s, both_s, with_heads_s])
    ffn_moves, both_move = ffns != to_ffn, (ffns != to_ffn) & (projs != to_ffn)  # [n_layers] each
    return np.where([ffn_moves, projs != to_proj, both_move, both_move], found_s, np.inf)


def _computing_s(draft: PartialPlacement) -> tuple[FloatArray, FloatArray]:
    """How long the slowest device of each layer's heads computes, and the slowest but the projection's: [n_layers]."""
    layers, devices, counts = held = HeldHeads.of(draft.groups)  # [m] each
    heads_s, starts = draft.times.heads_s(devices, counts), held.starts(len(draft.proj))
    others_s = np.where(devices != draft.proj[layers], heads_s, 0.0)  # [m]
    return np.maximum.reduceat(heads_s, starts), np.maximum.reduceat(others_s, starts)


def least_moves_s(draft: PartialPlacement, target: PartialPlacement, costs: MoveCosts) -> FloatArray:
    """Lower bounds of the migration times of `MOVES`: [n_moves, n_layers]."""
    none, one = np.zeros(len(draft.proj)), np.ones(len(draft.proj))
    heads = one * draft.groups[np.arange(len(one)), draft.proj]  # [n_layers] that go with the projection
    found_s = []
    for to, ffns, projs, groups in (
        (target.ffn, one, none, none),
        (target.proj, none, one, none),
        (target.ffn, one, one, none),
        (target.ffn, one, one, heads),
    ):
        numbers = tuple(zip(MOVES[-1], (ffns, projs, groups), strict=True))
        flash_s = sum(number * costs.flash_s[kind] for kind, number in numbers)
        ffn_bits, proj_bits, heads_bits = (number * costs.link_bits[kind] for kind, number in numbers)
        ffn_link_s = _link_s(costs, draft.ffn, to, ffn_bits)
        proj_link_s = _link_s(costs, draft.proj, to, proj_bits + heads_bits)
        found_s.append(np.maximum(flash_s, np.maximum(ffn_link_s, proj_link_s)))
    return np.array(found_s)


def _link_s(costs: MoveCosts, here: IntArray, to: IntArray, bits: FloatArray) -> FloatArray:
    """Time on links, of which those without bits take none: [n_layers]."""
    if not bits.any():
        return bits
    return np.where(bits > 0, costs.view.links.wire.pairs(here, to, bits), 0.0)
