"""Moves that shorten the steps to come by more than they take: layers, single blocks, heads. Pure.

A move is tried where an estimate promises most, its gain is then computed exactly, and it stays only if it pays. Memory
is counted as in the middle of a migration: senders free theirs only when everything has arrived.

On a large cluster a later decision splits the heads of only so many layers anew, and those of the others have their
turns in the next decisions: nearly all of a decision's time goes there, and layers gain apart from each other.
"""

from collections.abc import Callable
from itertools import chain
from math import ceil

import numpy as np

from edgeemu.placement.arrays import FloatArray, runs
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.head_moves import could_gain, resplit, stages
from edgeemu.policies.search.layer_runs import whole_layers_room
from edgeemu.policies.search.partial_placement import ENDS, Moved, PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import ROUNDING

PASSES = 3
SMALL = 2000  # devices x layers up to which there is more than one pass
AT_ONCE = 27_000  # devices x layers whose heads a later decision splits anew
LAYER = (Kind.PROJ, Kind.FFN, Kind.HEAD)


def improve(
    draft: PartialPlacement, prices: Prices, layers_s: list[float] | None = None, least_gain_s: float = 0.0
) -> bool:
    """Improve a complete draft in place; whether it has changed.

    `layers_s`: the times of its layers, if known. `least_gain_s`: heads that surely gain less stay if all else does.
    """
    small, improved = draft.times.n_devices * len(draft.ffn) <= SMALL, False
    for _ in range(PASSES if small else 1):
        changed = move_runs(draft, prices, layers_s or draft.layers_s())
        layers_s = None
        changed |= move_ends(draft, prices)
        changed |= join_layers(draft, prices)
        improved |= changed
        if changed or could_gain(draft, least_gain_s):
            improved |= resplit_heads(draft, prices, around=True)
        if prices.costs is None:
            draft.settle()
        if not changed:
            break
    return improved


def turns_of_layers(view: ClusterView) -> int:
    """Decisions in which the heads of every layer have their turn."""
    return ceil(view.costs.shape.n_layers * view.n_devices / AT_ONCE)


def resplit_heads(draft: PartialPlacement, prices: Prices, *, around: bool = False) -> bool:
    """Move heads one by one, from the device of a layer that finishes last to the one that finishes first.

    Whether any has moved. Once the model runs, only of the layers whose turn it is. `around`: also round slow links.
    """
    costs = prices.costs or MoveCosts(draft.view)
    tokens = prices.tokens if prices.costs else np.inf
    turns = turns_of_layers(draft.view) if prices.costs else 1
    turn = draft.view.past // draft.view.interval_tokens % turns
    changed = False
    in_vain: set[tuple[int, int, bytes, bytes]] = set()  # layers of which no move pays: those alike have none either
    layers = range(turn, len(draft.ffn), turns)
    for layer, stage in zip(layers, stages(draft, costs, tokens, layers), strict=True):
        alike = stage.source, stage.gather, draft.groups[layer].tobytes(), draft.room.groups[layer].tobytes()
        if alike in in_vain:
            continue
        better = resplit(draft, layer, stage, costs, tokens, around=around)
        if better.gain_s > 0:
            draft.resplit(layer, better.counts)
            in_vain.clear()  # memory is held elsewhere now
            changed = True
        else:
            in_vain.add(alike)
    return changed


def to_move(draft: PartialPlacement, layer: int, kinds: tuple[Kind, ...], device: int) -> list[Moved]:
    """Blocks of a layer that are not on a device yet; heads only from the projection's device."""
    moved = []
    for kind in kinds:
        here = int(draft.proj[layer]) if kind is Kind.HEAD else draft.at(kind, layer)
        number = int(draft.groups[layer, here]) if kind is Kind.HEAD else 1
        if here != device and number:
            moved.append(Moved(kind, layer, here, number))
    return moved


def touched_s(draft: PartialPlacement, layer: int, kind: Kind) -> float:
    """Time of the stages that depend on where a block of this kind is."""
    return draft.ends_s() + draft.layer_s(0) if kind in ENDS else draft.around_s(layer)


def try_move(
    draft: PartialPlacement,
    prices: Prices,
    moved: list[Moved],
    device: int,
    touched: Callable[[], float],
    at_most_s: float = np.inf,
) -> bool:
    """Move blocks to a device, and back if that does not pay or fit. Whether they have moved.

    `touched` computes the time of all stages that the move changes. `at_most_s`: more than a step can gain.
    """
    move_s = prices.move_s(moved, device, draft.meeting(moved, device))
    if prices.gained_s(at_most_s) <= move_s:
        return False
    before_s = touched()
    draft.move(moved, device)
    gain_s = before_s - touched()
    if draft.room.total[device] <= draft.room.capacity[device] and prices.pays(gain_s, move_s):
        return True
    draft.move_back(moved, device)
    return False


def move_runs(draft: PartialPlacement, prices: Prices, layers_s: list[float]) -> bool:
    """Move runs of layers on one device, or their first or last part, to another device."""
    changed = False
    for begin, end in runs(draft.ffn * draft.times.n_devices + draft.proj):
        best = _best_part(draft, prices, begin, end, layers_s)
        if best is not None:
            changed |= _try_run(draft, prices, *best)
    return changed


def _best_part(
    draft: PartialPlacement, prices: Prices, begin: int, end: int, layers_s: list[float]
) -> tuple[int, int, int] | None:
    """(begin, end, device) of the move that promises most, of a run on one device or of its first or last part."""
    times, here, length = draft.times, int(draft.ffn[begin]), end - begin
    alone_s, source = times.whole_layer_s, draft.source(begin)
    after = int(draft.proj[end]) if end < len(draft.ffn) else draft.lm_head
    come_here_s = times.hop_s(source, here)
    inner_s = layers_s[begin + 1] if length > 1 else layers_s[begin] - come_here_s
    share = inner_s / float(alone_s[here])  # by how much spread heads shorten a layer, here and so elsewhere
    if prices.costs is not None:
        # No layer gains more elsewhere, and hops are gained once: if that does not pay for one, more do not either.
        at_most_s = inner_s - share * times.least_layer_s + come_here_s + times.hop_s(here, after)
        if not _could_pay(prices.gained_s(at_most_s), times.n_groups, prices.costs, here):
            return None
    room = np.minimum(whole_layers_room(draft), length)  # [n_devices]
    room[here] = 0
    if not room.any():
        return None
    bits = times.hidden_bits
    come_s, go_s = times.links.row(source, bits), times.links.column(after, bits)  # [n_devices]
    each_s = inner_s - share * alone_s  # [n_devices]
    in_gain_s = come_here_s - come_s
    out_gain_s = times.hop_s(here, after) - go_s
    numbers = [room]  # of layers that move, in each way: [n_devices] each
    ways_s = [np.where(room == length, length * each_s + in_gain_s + out_gain_s, -np.inf)]  # all
    if length > 1:
        part, into_s, out_s = np.minimum(room, length - 1), times.links.column(here, bits), times.links.row(here, bits)
        numbers += [part, part]
        ways_s += [  # the first part, the last part
            np.where(part > 0, part * each_s + in_gain_s - into_s, -np.inf),
            np.where(part > 0, part * each_s + out_gain_s - out_s, -np.inf),
        ]
    gains_s = np.array(ways_s)  # [n_ways, n_devices]
    net_s = prices.steps(gains_s) * gains_s
    if prices.costs is not None:
        net_s -= np.array(numbers) * _layer_move_s(draft, prices.costs, here)
    which, device = divmod(int(net_s.argmax()), times.n_devices)
    if net_s[which, device] <= 0:
        return None
    moved = length if which == 0 else int(numbers[which][device])
    return (begin, begin + moved, device) if which < 2 else (end - moved, end, device)


def _layer_move_s(draft: PartialPlacement, costs: MoveCosts, here: int) -> FloatArray:
    """Time to move a complete layer from a device to each: [n_devices]."""
    bits, flash_s = costs.layer(draft.times.n_groups)
    return np.maximum(costs.prices.links.s_per_bit.row(here) * bits, flash_s)


def _could_pay(gained_s: float, n_groups: int, costs: MoveCosts, here: int) -> bool:
    """Whether a gain is more than the least time to move a complete layer from a device to another."""
    bits, flash_s = costs.layer(n_groups)
    if gained_s <= flash_s:
        return False
    return not bits or gained_s > costs.prices.links.s_per_bit.least_in_row(here) * bits


def _try_run(draft: PartialPlacement, prices: Prices, begin: int, end: int, device: int) -> bool:
    """Try to move layers with the heads on their projections' device."""
    touched = range(begin, min(end + 1, len(draft.ffn)))
    moved = list(chain.from_iterable(to_move(draft, layer, LAYER, device) for layer in range(begin, end)))
    return try_move(draft, prices, moved, device, lambda: sum(map(draft.layer_s, touched)) + draft.ends_s())


def _try_singles(draft: PartialPlacement, prices: Prices, layer: int, kinds: tuple[Kind, ...], device: int) -> bool:
    """Try to move single blocks of a layer, or ends."""
    moved = to_move(draft, layer, kinds, device)
    return bool(moved) and try_move(draft, prices, moved, device, lambda: touched_s(draft, layer, kinds[0]))


def quickest_end_s(draft: PartialPlacement, costs: MoveCosts) -> float:
    """A lower bound of the time to move an end of the model to any device; where the other is, it brings no table."""
    apart = draft.embed != draft.lm_head
    return min(costs.quickest_s(kind, draft.at(kind, 0), meeting=apart) for kind in ENDS)


def move_ends(draft: PartialPlacement, prices: Prices) -> bool:
    """Move output matrix and embedding, both to one device or either."""
    changed, times, costs, bits = False, draft.times, prices.costs, draft.times.hidden_bits
    if costs is not None:
        at_most_s = draft.ends_s() + times.hop_s(draft.embed, int(draft.proj[0]))
        at_most_s -= float((times.lm_head_s + times.embed_s).min())
        if prices.gained_s(at_most_s) <= quickest_end_s(draft, costs):
            return False
    for kinds in (ENDS, (Kind.LM_HEAD,), (Kind.EMBED,)):
        cost_s = np.zeros(times.n_devices)
        if Kind.LM_HEAD in kinds:
            cost_s += times.links.row(int(draft.ffn[-1]), bits) + times.lm_head_s
        if Kind.EMBED in kinds:
            cost_s += times.links.column(int(draft.proj[0]), bits) + times.embed_s
        if kinds == (Kind.LM_HEAD,):
            cost_s += times.links.column(draft.embed, times.token_bits)
        if kinds == (Kind.EMBED,):
            cost_s += times.links.row(draft.lm_head, times.token_bits)
        fits = np.ones(times.n_devices, np.bool_)
        for kind in kinds:
            fits &= draft.room.with_single(kind) <= draft.room.capacity
        fits[[draft.at(kind, 0) for kind in kinds]] = True
        device = int(np.where(fits, cost_s, np.inf).argmin())
        if len(kinds) == 1:
            now_s = float(cost_s[draft.at(kinds[0], 0)])
        else:
            now_s = draft.ends_s() + times.hop_s(draft.embed, int(draft.proj[0]))
        if cost_s[device] < now_s * (1 - ROUNDING):
            changed |= _try_singles(draft, prices, 0, kinds, device)
    return changed


def join_layers(draft: PartialPlacement, prices: Prices) -> bool:
    """Move a projection to the device of its feed-forward block, or the feed-forward block to the projection's."""
    changed, times = False, draft.times
    for layer in np.flatnonzero(draft.proj != draft.ffn).tolist():
        at_proj, at_ffn, source = int(draft.proj[layer]), int(draft.ffn[layer]), draft.source(layer)
        hops_s = times.hop_s(at_proj, at_ffn) + times.hop_s(source, at_proj) + times.hop_s(source, at_ffn)
        for kind, here, there, alone_s in (
            (Kind.PROJ, at_proj, at_ffn, times.proj_s),
            (Kind.FFN, at_ffn, at_proj, times.ffn_s),
        ):
            promise_s = hops_s + float(alone_s[here] - alone_s[there])
            if prices.costs is None or prices.gained_s(promise_s) > prices.costs.quickest_s(kind, here):
                changed |= _try_singles(draft, prices, layer, (kind,), there)
    return changed
