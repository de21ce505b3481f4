"""Later decisions for one sequence on undivided blocks: moves that pay, or a new placement. Pure.

Single moves are tried first (`search.local_moves`), in the order that they promise most, and with the ends of the model
first. Then come all of them together, which work side by side, placements that the run has left, and on small clusters
one made from nothing. Moves that together gain too little to be made are no rivals of these: the current placement is.
What devices have no room for at once is begun with half of it, where that is all that pays.
"""

from collections.abc import Callable, Sequence

import numpy as np

from edgeemu.placement.arrays import FloatArray, PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.layer_code import PayRules, layer_tables, others_could_pay
from edgeemu.policies.resource_aware import relieve, relieved
from edgeemu.policies.search.change_rule import LARGE, WORTH, Prices, Prospect
from edgeemu.policies.search.going_back import from_now
from edgeemu.policies.search.layer_runs import SMALL as SMALL_CHAINS
from edgeemu.policies.search.layer_runs import best_chain
from edgeemu.policies.search.local_moves import improve, move_ends, turns_of_layers
from edgeemu.policies.search.one_layer import RING, best_ring
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.search.pipeline_moves import half_that_pays
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import found_placement, union_fits
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.step_time import StepTimes

SMALL = 20_000  # devices x groups up to which a new placement is made at every decision
AT_ONCE = 4  # moves that links and storages can carry out side by side: each takes so much less beside the others

Layouts = Callable[[], Sequence[PlacementArrays]]


def better_blocks(view: ClusterView, prospect: Prospect, current: Placement, left: Layouts) -> Placement:
    """The current placement of undivided blocks improved by moves, or a new one, if that pays.

    `left`: undivided placements that the run has left.
    """
    shape, costs, past = view.costs.shape, MoveCosts(view), view.past + prospect.steps // 2
    old = layout_of(current, shape)
    if shape.n_layers == 1:
        rules = PayRules(prospect.tokens, prospect.far_tokens, LARGE, WORTH)
        if not others_could_pay(layer_tables(view, prospect.ahead, past, costs, [old, *left()], rules)):
            return current
    times = StepTimes(prospect.ahead, past)
    draft = PartialPlacement.of(view, times, old)
    base = draft.layout(old) if relieve(draft) else old  # without the moves that only shorten the step
    layers_s = draft.layers_s()
    before_s = draft.ends_s() + sum(layers_s)
    prices = Prices.of(costs, prospect, before_s)
    worth_s = WORTH * before_s / turns_of_layers(view)
    best: PlacementArrays | None = base  # None: as in the draft
    best_s, others = before_s, []
    if improve(draft, prices, layers_s, worth_s) and before_s - (improved_s := draft.step_s()) >= worth_s:
        best, best_s = None, improved_s
    if times.n_devices * shape.n_layers <= SMALL_CHAINS and before_s - best_s >= WORTH * before_s:
        best = draft.layout(old)
        if improve(draft, prices.at_once(AT_ONCE)):
            others.append(draft.layout(old))
        other = relieved(view, times, old)  # the order of moves decides who gets memory
        if move_ends(other, prices):  # else all goes as before
            improve(other, prices)
            then = _followed(view, times, other.layout(old), prices)
            if other.step_s() < best_s or _catches_up(prices, costs, (old, best, best_s), (other, then)):
                best, best_s = other.layout(old), other.step_s()
    proposals = [*((layout, False) for layout in others), *((layout, True) for layout in left())]
    if times.n_devices * shape.n_layers * times.n_groups <= SMALL:
        new = _new_below(view, times, best_s * (1 - WORTH), old, prices)
        proposals += [] if new is None else [(new, False)]
    full: tuple[PlacementArrays, float] | None = None  # the best for which devices have no room at once, and its step
    for layout, earlier in proposals:
        if best_s <= times.least_step_s(layout):
            continue
        gain_s = best_s - times.step_s(layout)
        if gain_s <= 0:  # most: its moves and its memory are counted in vain
            continue
        proposed = from_now(view, old, layout) if earlier else layout
        if proposed is None:
            continue
        best = best or draft.layout(old)
        moved_s = costs.migration_s(old, proposed) - costs.migration_s(old, best)
        if not prices.pays(gain_s, moved_s):
            continue
        if union_fits(view, old, proposed):
            best, best_s = proposed, best_s - gain_s
        elif full is None or best_s - gain_s < full[1]:
            full = proposed, best_s - gain_s
    if before_s - best_s < worth_s:
        best = base
    best = best or draft.layout(old)
    if full is not None and best.same(old):
        return half_that_pays(view, times, prices, current, full[0]) or current
    return current if best.same(old) else found_placement(view, best)


def _followed(view: ClusterView, times: StepTimes, old: PlacementArrays, prices: Prices) -> PartialPlacement:
    """A placement improved once more, as at the next decision: then senders have freed their memory."""
    draft = relieved(view, times, old)
    improve(draft, prices)
    return draft


def _catches_up(
    prices: Prices,
    costs: MoveCosts,
    near: tuple[PlacementArrays, PlacementArrays, float],
    far: tuple[PartialPlacement, PartialPlacement],
) -> bool:
    """Whether two changes, of which the second needs memory that the first frees, pay more than the best single one."""
    (old, best, best_s), (first, second) = near, far
    middle, end = first.layout(old), second.layout(first.layout(old))
    more_s = costs.migration_s(old, middle) + costs.migration_s(middle, end) - costs.migration_s(old, best)
    return prices.pays(best_s - second.step_s(), more_s + first.step_s() - best_s)


def _new_below(
    view: ClusterView, times: StepTimes, below_s: float, old: PlacementArrays, prices: Prices
) -> PlacementArrays | None:
    """A placement from nothing with a step below `below_s`; as many groups as possible stay. None: there is none."""
    if view.costs.shape.n_layers == 1:
        draft = best_ring(view, times, below_s, single_moves_s(times, old, prices))
    else:
        draft = best_chain(view, times, below_s)
    return None if draft is None or draft.step_s() >= below_s else draft.layout(old)


def single_moves_s(times: StepTimes, old: PlacementArrays, prices: Prices) -> FloatArray | None:
    """Migration times of the single blocks of `RING` to each device, per step of the horizon: [4, n_devices]."""
    costs = prices.costs
    if costs is None:
        return None
    found_s = np.empty((len(RING), times.n_devices))
    at = old.embed, int(old.proj[0]), int(old.ffn[0]), old.lm_head
    for row_s, kind, device in zip(found_s, RING, at, strict=True):
        bits = costs.link_bits[kind]
        sent_s = costs.prices.links.row(device, bits) if bits else 0.0
        np.maximum(sent_s, costs.flash_s[kind], out=row_s)
        row_s[device] = 0.0
    if old.embed != old.lm_head:
        for row_s, kind, ends in ((found_s[0], Kind.EMBED, (at[0], at[3])), (found_s[3], Kind.LM_HEAD, (at[3], at[0]))):
            row_s[ends[1]] = costs.total_s([(kind, *ends)], [kind])
    found_s /= prices.tokens
    return found_s
