"""Upper bounds of what moves of layers' single blocks gain, of all layers at once. Pure.

They are the figures of `local_moves.try_move` but for rounding, without the moves.
"""

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import MANY, ROUNDING, HeldHeads, StepTimes

MOVES = ((Kind.FFN,), (Kind.PROJ,), (Kind.FFN, Kind.PROJ), (Kind.FFN, Kind.PROJ, Kind.HEAD))


def could_pay(
    draft: PartialPlacement, target: PartialPlacement, prices: Prices, layers_s: list[float]
) -> NDArray[np.bool_]:
    """Whether each of `MOVES` of each layer could pay, as a draft is placed: [n_moves, n_layers].

    A move brings blocks to where `target` has the first of them; whether they fit there is not looked at. `layers_s`:
    times of the layers. True without a look where layers are few, and where messages keep processors busy.
    """
    n_layers, costs = len(draft.ffn), prices.costs
    if n_layers < MANY or costs is None or draft.times.keeps_busy:
        return np.ones((len(MOVES), n_layers), np.bool_)
    before_s = np.array([*layers_s, draft.ends_s()])  # [n_layers + 1]
    before_s = before_s[:-1] + before_s[1:]  # [n_layers]
    gains_s = before_s * (1 + ROUNDING) - around_s(draft, target, layers_s)  # [n_moves, n_layers]
    moves_s = least_moves_s(draft, target, costs)  # [n_moves, n_layers]
    worth: NDArray[np.bool_] = prices.steps(gains_s) * gains_s > moves_s * (1 - ROUNDING)
    return worth


def around_s(draft: PartialPlacement, target: PartialPlacement, layers_s: list[float]) -> FloatArray:
    """Time of each layer and of the next, or of the ends, after each of `MOVES` of it: [n_moves, n_layers].

    Infinite where one of its single blocks is there already.
    """
    times, projs, ffns, counts = draft.times, draft.proj, draft.ffn, draft.groups
    sources, held = np.append(draft.embed, ffns[:-1]), HeldHeads.of(counts)  # [n_layers]
    to_ffn, to_proj = target.ffn, target.proj  # [n_layers] each
    after = _after_s(draft, to_ffn, held)  # [n_layers] with another source
    unchanged = np.array([*layers_s[1:], draft.ends_s()])  # [n_layers]

    stays_s = np.array([latest.max() for _, latest in draft.all_gathered()])  # [n_layers]
    alone_s = times.layers_from_s(stays_s, sources, projs, to_ffn) + after
    proj_s = times.layers_from_s(_latest_s(times, sources, to_proj, held), sources, to_proj, ffns) + unchanged
    both_s = times.layers_from_s(_latest_s(times, sources, to_ffn, held), sources, to_ffn, to_ffn) + after
    all_s, layers = both_s.copy(), np.arange(len(projs))
    heads = counts[layers, projs]  # [n_layers] that go with the projection
    some = heads.nonzero()[0]  # [k]
    if len(some):
        from_, to, moved = projs[some], to_ffn[some], counts[some]  # moved: [k, n_devices]
        moved[np.arange(len(some)), to] += heads[some]
        moved[np.arange(len(some)), from_] -= heads[some]
        latest_s = _latest_s(times, sources[some], to, HeldHeads.of(moved))
        all_s[some] = times.layers_from_s(latest_s, sources[some], to, to) + after[some]
    ffn_moves, both_move = ffns != to_ffn, (ffns != to_ffn) & (projs != to_ffn)  # [n_layers] each
    found_s = np.stack([alone_s, proj_s, both_s, all_s])
    return np.where(np.stack([ffn_moves, projs != to_proj, both_move, both_move]), found_s, np.inf)


def _after_s(draft: PartialPlacement, to_ffn: IntArray, held: HeldHeads) -> FloatArray:
    """Time of the layer after each, or of the ends, with the feed-forward block before it elsewhere: [n_layers]."""
    times, sources = draft.times, np.append(draft.embed, to_ffn[:-1])
    next_s = times.layers_from_s(_latest_s(times, sources, draft.proj, held), sources, draft.proj, draft.ffn)
    return np.append(next_s[1:], times.ends_s(draft.embed, int(to_ffn[-1]), draft.lm_head))


def _latest_s(times: StepTimes, sources: IntArray, projs: IntArray, held: HeldHeads) -> FloatArray:
    """When the latest heads' outputs of each layer are at its projection: [n_layers]."""
    latest_s: FloatArray = np.maximum.reduceat(times.all_gathered_s(sources, projs, held), held.starts(len(projs)))
    return latest_s


def least_moves_s(draft: PartialPlacement, target: PartialPlacement, costs: MoveCosts) -> FloatArray:
    """Lower bounds of the migration times of `MOVES`: [n_moves, n_layers]."""
    projs, ffns, heads = draft.proj, draft.ffn, draft.groups[np.arange(len(draft.proj)), draft.proj]  # [n_layers]
    found_s = []
    for kinds in MOVES:
        to = target.ffn if Kind.FFN in kinds else target.proj
        flash_s, sent_s = np.zeros(len(to)), np.zeros(len(to))
        for kind, here, number in ((Kind.FFN, ffns, 1), (Kind.PROJ, projs, 1), (Kind.HEAD, projs, heads)):
            if kind in kinds:
                flash_s += costs.flash_s[kind] * number
                sent_s = np.maximum(sent_s, _link_s(costs, kind, here, to, number))
        found_s.append(np.maximum(flash_s, sent_s))
    return np.array(found_s)


def _link_s(costs: MoveCosts, kind: Kind, here: IntArray, to: IntArray, number: IntArray | int) -> FloatArray:
    """Time of so many blocks on their link, if they send anything: [n_layers]."""
    bits = costs.link_bits[kind]
    if not bits:
        return np.zeros(len(to))
    return np.where(np.asarray(number) > 0, costs.view.links.wire.pairs(here, to, bits * np.asarray(number)), 0.0)
