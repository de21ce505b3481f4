"""Moves that shorten the steps to come by more than they take: layers, single blocks, heads. Pure.

A move is tried where an estimate promises most, is then reckoned exactly, and stays only if it pays. Memory is counted
as in the middle of a migration: what leaves a device still is there, because senders free only when all has arrived.
"""

from dataclasses import dataclass

import numpy as np

from edgeemu.placement.arrays import runs
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.head_split import resplit
from edgeemu.policies.search.layer_runs import whole_layer_s, whole_layers_room
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.migration_time import MoveCosts

PASSES = 3
SMALL = 2000  # devices x layers up to which there is more than one pass


@dataclass(frozen=True, slots=True)
class Prices:
    """What a move takes, and how many steps it has to pay for itself. No `costs`: moves are free, nothing runs yet."""

    costs: MoveCosts | None
    tokens: float

    def pays(self, gain_s: float, move_s: float) -> bool:
        return self.tokens * gain_s > move_s and gain_s > 1e-12


def improve(draft: PartialPlacement, prices: Prices, layers_s: list[float] | None = None) -> None:
    """Improves a complete draft in place. `layers_s`: what its layers take now, if that is known."""
    small = draft.times.n_devices * len(draft.ffn) <= SMALL
    for _ in range(PASSES if small else 1):
        changed = _move_runs(draft, prices, layers_s or draft.layers_s())
        layers_s = None
        changed |= _move_ends(draft, prices)
        changed |= _join_layers(draft, prices)
        resplit_heads(draft, prices)
        if prices.costs is None:
            draft.settle()
        if not changed:
            return


def resplit_heads(draft: PartialPlacement, prices: Prices) -> None:
    """Heads one by one, from the device of a layer that is last to the one that is first."""
    times = draft.times
    costs = prices.costs or MoveCosts(draft.view)
    tokens = prices.tokens if prices.costs else np.inf
    for layer in range(len(draft.ffn)):
        source, gather = draft.source(layer), int(draft.proj[layer])
        better = resplit(times, costs, source, gather, draft.groups[layer], draft.room, layer, tokens)
        if better.gain_s > 0:
            draft.resplit(layer, better.counts)


def _move_runs(draft: PartialPlacement, prices: Prices, layers_s: list[float]) -> bool:
    """Runs of layers on one device, or their first or last part, to another device."""
    changed = False
    alone_s = whole_layer_s(draft.times)
    for begin, end in runs(draft.ffn * draft.times.n_devices + draft.proj):
        best = _best_part(draft, prices, begin, end, alone_s, layers_s)
        if best is not None:
            changed |= _try_run(draft, prices, *best)
    return changed


def _best_part(
    draft: PartialPlacement, prices: Prices, begin: int, end: int, alone_s: FloatArray, layers_s: list[float]
) -> tuple[int, int, int] | None:
    """(begin, end, device) of what promises the most, of a run on one device: all of it, its first or its last part."""
    times, here, length = draft.times, int(draft.ffn[begin]), end - begin
    source = draft.source(begin)
    after = int(draft.proj[end]) if end < len(draft.ffn) else draft.lm_head
    inner_s = layers_s[begin + 1] if length > 1 else layers_s[begin] - times.hop_s(source, here)
    share = inner_s / float(alone_s[here])  # what spreading the heads makes of a layer, here and so elsewhere
    if prices.costs is not None:
        # No layer gains more elsewhere, and hops are gained once: if that does not pay for one, more do not either.
        at_most_s = inner_s - share * float(alone_s.min()) + times.hop_s(source, here) + times.hop_s(here, after)
        if prices.tokens * at_most_s <= _quickest_layer_move_s(draft, prices.costs, here):
            return None
    room = np.minimum(whole_layers_room(draft), length)  # [n_devices]
    room[here] = 0
    if not room.any():
        return None
    bits = times.hidden_bits
    out_s, into_s = times.links.row(here, bits), times.links.column(here, bits)  # [n_devices]
    come_s, go_s = times.links.row(source, bits), times.links.column(after, bits)  # [n_devices]
    each_s = inner_s - share * alone_s  # [n_devices]
    in_gain_s = times.hop_s(source, here) - come_s
    out_gain_s = times.hop_s(here, after) - go_s
    part = np.minimum(room, length - 1)
    gains_s = np.stack(
        [
            np.where(room == length, length * each_s + in_gain_s + out_gain_s, -np.inf),
            np.where(part > 0, part * each_s + in_gain_s - into_s, -np.inf),
            np.where(part > 0, part * each_s + out_gain_s - out_s, -np.inf),
        ]
    )  # [3, n_devices]: whole, first part, last part
    net_s = prices.tokens * gains_s
    if prices.costs is not None:
        net_s -= np.stack([room, part, part]) * _layer_move_s(draft, prices.costs, here)
    way, device = divmod(int(net_s.argmax()), times.n_devices)
    if net_s[way, device] <= 0:
        return None
    moved = length if way == 0 else int(part[device])
    return (begin, begin + moved, device) if way < 2 else (end - moved, end, device)


def _layer_move_s(draft: PartialPlacement, costs: MoveCosts, here: int) -> FloatArray:
    """A whole layer from a device to each: [n_devices]."""
    bits, flash_s = _layer_costs(draft, costs)
    return np.maximum(draft.times.links.s_per_bit.row(here) * bits, flash_s)


def _quickest_layer_move_s(draft: PartialPlacement, costs: MoveCosts, here: int) -> float:
    """The least of them."""
    bits, flash_s = _layer_costs(draft, costs)
    return max(draft.times.links.s_per_bit.least_in_row(here) * bits, flash_s) if bits else flash_s


def _layer_costs(draft: PartialPlacement, costs: MoveCosts) -> tuple[float, float]:
    """What a whole layer brings along: bits on the link, seconds of storage."""
    n = draft.times.n_groups
    bits = costs.link_bits[Kind.PROJ] + costs.link_bits[Kind.FFN] + n * costs.link_bits[Kind.HEAD]
    return bits, costs.flash_s[Kind.PROJ] + costs.flash_s[Kind.FFN] + n * costs.flash_s[Kind.HEAD]


def _try_run(draft: PartialPlacement, prices: Prices, begin: int, end: int, device: int) -> bool:
    """Moves layers with the heads beside them; takes it back if it does not pay or fit."""
    last = len(draft.ffn)
    touched = range(begin, min(end + 1, last))
    proj, ffn, groups = draft.proj.copy(), draft.ffn.copy(), draft.groups[begin:end].copy()
    before_s = sum(map(draft.layer_s, touched)) + draft.ends_s()
    moved: list[tuple[Kind, int, int]] = []
    for layer in range(begin, end):
        here = int(draft.proj[layer])
        for kind in (Kind.PROJ, Kind.FFN):
            if draft.at(kind, layer) != device:
                moved.append((kind, draft.at(kind, layer), device))
                draft.put(kind, layer, device)
        beside = int(draft.groups[layer, here])
        if beside and here != device:
            counts = draft.groups[layer].copy()
            counts[device] += beside
            counts[here] = 0
            draft.resplit(layer, counts)
            moved += [(Kind.HEAD, here, device)] * beside
    gain_s = before_s - sum(map(draft.layer_s, touched)) - draft.ends_s()
    move_s = prices.costs.total_s(moved) if prices.costs else 0.0
    if draft.room.total[device] <= draft.room.capacity[device] and prices.pays(gain_s, move_s):
        return True
    for kind, _, _ in moved:
        if kind is not Kind.HEAD:
            draft.room.singles[kind][device] -= 1
    arrived = np.maximum(draft.groups[begin:end] - groups, 0)  # [layers, n_devices]
    draft.room.groups[begin:end] -= arrived
    draft.proj, draft.ffn = proj, ffn
    draft.groups[begin:end] = groups
    draft.room.recount_one(device)
    return False


def _move_ends(draft: PartialPlacement, prices: Prices) -> bool:
    """Output matrix and embedding, both to one device or either."""
    changed, times, costs, bits = False, draft.times, prices.costs, draft.times.hidden_bits
    if costs is not None:
        at_most_s = draft.ends_s() + times.hop_s(draft.embed, int(draft.proj[0]))
        at_most_s -= float((times.lm_head_s + times.embed_s).min())
        quickest_s = min(costs.quickest_s(Kind.LM_HEAD, draft.lm_head), costs.quickest_s(Kind.EMBED, draft.embed))
        if prices.tokens * at_most_s <= quickest_s:
            return False
    for kinds in ((Kind.LM_HEAD, Kind.EMBED), (Kind.LM_HEAD,), (Kind.EMBED,)):
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
        if cost_s[device] < now_s * (1 - 1e-9):
            changed |= _try_singles(draft, prices, 0, kinds, device)
    return changed


def _join_layers(draft: PartialPlacement, prices: Prices) -> bool:
    """A projection that is apart from its feed-forward block goes to it, or the other way round."""
    changed, times = False, draft.times
    for layer in np.flatnonzero(draft.proj != draft.ffn).tolist():
        at_proj, at_ffn, source = int(draft.proj[layer]), int(draft.ffn[layer]), draft.source(layer)
        hops_s = times.hop_s(at_proj, at_ffn) + times.hop_s(source, at_proj) + times.hop_s(source, at_ffn)
        for kind, here, there, alone_s in (
            (Kind.PROJ, at_proj, at_ffn, times.proj_s),
            (Kind.FFN, at_ffn, at_proj, times.ffn_s),
        ):
            promise_s = hops_s + float(alone_s[here] - alone_s[there])
            if prices.costs is None or prices.tokens * promise_s > prices.costs.quickest_s(kind, here):
                changed |= _try_singles(draft, prices, layer, (kind,), there)
    return changed


def _try_singles(draft: PartialPlacement, prices: Prices, layer: int, kinds: tuple[Kind, ...], device: int) -> bool:
    before = {kind: draft.at(kind, layer) for kind in kinds if draft.at(kind, layer) != device}
    if not before:
        return False
    ends = Kind.EMBED in kinds or Kind.LM_HEAD in kinds

    def touched_s() -> float:
        return draft.ends_s() + draft.layer_s(0) if ends else draft.around_s(layer)

    before_s = touched_s()
    for kind in before:
        draft.put(kind, layer, device)
    gain_s = before_s - touched_s()
    move_s = prices.costs.total_s([(kind, at, device) for kind, at in before.items()]) if prices.costs else 0.0
    if draft.room.total[device] <= draft.room.capacity[device] and prices.pays(gain_s, move_s):
        return True
    for kind, at in before.items():
        draft.room.remove_single(kind, device)
        draft.set(kind, layer, at)
    return False
