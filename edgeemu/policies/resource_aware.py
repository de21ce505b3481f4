"""The head-level paper's algorithm (arXiv 2505.02533), resource-aware placement with migration. Pure.

The published parts, and our choices, marked [D], where the paper and its public code leave something open:

* Score of a block on a device: S = max( operations / compute, memory with cache / memory, transfer time ), feasible
  up to 1. [D] Denominators are the remaining capacities: with total capacities every block ends on one device.
* [D] The remaining compute is that of an *interval*, of which operations over compute are a share. Blocks of one layer
  run in stages, and only heads run in parallel; so only heads use up compute for each other. The interval of the
  heads' stage is the shortest in which all of a layer's heads are feasible. Single blocks and their transfers are
  measured by the time that the fastest device takes for a layer, and a slower device is expensive but not forbidden.
* Transfers: to the blocks that are placed already and that a block exchanges data with [D: in both directions; for the
  feed-forward block also where x comes from, because a layer's other blocks are not placed yet]; latency counts.
* Order: by demand, memory/max memory + operations/max operations, largest first. [D] For L layers: embedding and
  output matrix, then layer by layer, because a layer's blocks exchange data and those of distant layers do not.
* Overload: where a block fits nowhere, or a device has lost memory, its largest users of memory are unplaced until
  1.1 x the excess is free, and are placed again by least S; else the next device is tried (a backtrack). Compute
  that was lost is not an overload [D]: a late token is no error, and a move for it must pay.
* Caps: 50 backtracks, and [D] 10 ms counted in scored placements, so that a decision is the same on every machine.
* [D] If that finds nothing on the first call, once more by memory alone. If nothing is feasible later, the current
  placement stays: `NoBetterPlacement` says why.
* [D] If undivided blocks find no room at the first call, projections and feed-forward blocks are divided, in any way
  that fits. Such a placement is kept while it fits.
* A block moves only where its gain over the interval (`view.interval_tokens` steps) exceeds its migration delay. [D]
  Tried are a layer's feed-forward block, its projection, both, or both with the heads on the projection's device,
  towards where the algorithm would place them from nothing; and heads one by one, from the device that finishes last to
  the one that finishes first.
"""

from contextlib import suppress

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind, head
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies.search.change_rule import Prices
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.local_moves import quickest_end_s, resplit_heads, to_move, touched_s, try_move
from edgeemu.policies.search.moves_anywhere import Anywhere, could_pay_anywhere
from edgeemu.policies.search.partial_placement import ENDS, PartialPlacement
from edgeemu.policies.search.score_search import NothingFoundError, Search
from edgeemu.policies.search.share_proposals import any_that_fits
from edgeemu.policies.search.single_gains import MOVES, could_pay
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.memory_arrays import found_placement
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.step_time import MANY, ROUNDING, StepTimes


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Place; with a current placement, move what has to move or what pays within the interval.

    Raises:
        InfeasibleError: first call, and no placement was found.
        NoBetterPlacement: the current placement no longer fits, and no other was found.
    """
    shape, times = view.costs.shape, StepTimes(view)
    if current is None:
        return _first_of_any_kind(view, times)
    if is_divided(current, shape.n_layers):
        return kept(lambda seen: _first_of_any_kind(seen, times), view, current)
    old = layout_of(current, shape)
    new = improved(view, times, relieved(view, times, old)).layout(old)
    return current if new.same(old) else found_placement(view, new)


def _first_of_any_kind(view: ClusterView, times: StepTimes) -> Placement:
    """Place from nothing; with divided layers, if undivided blocks find no room."""
    try:
        return first(view, times).layout(None).placement(view.costs.shape)
    except InfeasibleError:
        found = any_that_fits(view)
        if found is None:
            raise
        return found


def first(view: ClusterView, times: StepTimes, *, singles_only: bool = False) -> PartialPlacement:
    """Place from nothing. `singles_only`: heads may be left out, if they have room.

    Raises:
        InfeasibleError: no placement was found.
    """
    try:
        return Search(view, times, PartialPlacement.empty(view, times)).everything(singles_only=singles_only)
    except NothingFoundError:
        search = Search(view, times, PartialPlacement.empty(view, times), memory_only=True)
        try:
            return search.everything(singles_only=singles_only)
        except NothingFoundError as error:
            raise view.infeasible(head(error.layer, 0), search.draft.room.total.tolist()) from error


def relieved(view: ClusterView, times: StepTimes, old: PlacementArrays) -> PartialPlacement:
    """Move blocks of the current placement off devices that hold more than they now have memory for.

    Raises:
        NoBetterPlacement: what must move fits nowhere.
    """
    draft = PartialPlacement.of(view, times, old)
    relieve(draft)
    return draft


def relieve(draft: PartialPlacement) -> bool:
    """Move blocks off devices that hold more than they now have memory for; whether any has moved.

    Raises:
        NoBetterPlacement: what must move fits nowhere.
    """
    over = draft.room.over()
    if not len(over):
        return False
    search = Search(draft.view, draft.times, draft)
    try:
        for device in over.tolist():
            search.relieve(device)
    except NothingFoundError as error:
        name = draft.view.devices[error.device].name
        raise NoBetterPlacement(
            f"{name} holds more than it now has memory for, and the other devices have no room"
        ) from error
    return True


def improved(view: ClusterView, times: StepTimes, draft: PartialPlacement) -> PartialPlacement:
    """The draft, with every move that pays within the interval."""
    costs = MoveCosts(view)
    prices = Prices(costs, float(view.interval_tokens))
    layers_s = draft.layers_s()
    if _some_single_could_pay(draft, layers_s, prices.tokens, costs):
        anywhere = could_pay_anywhere(draft, prices, costs, layers_s) if len(layers_s) < MANY else None
        if anywhere is None or anywhere.any:
            with suppress(InfeasibleError):  # from nothing it can fail; then there is nothing to move towards
                target = first(view, times, singles_only=anywhere is not None)
                _move_singles(draft, target, prices, layers_s, anywhere)
    resplit_heads(draft, prices)
    return draft


def _some_single_could_pay(draft: PartialPlacement, layers_s: list[float], tokens: float, costs: MoveCosts) -> bool:
    """Whether a move of a single block can gain, within the interval, as much as its quickest migration takes.

    Where an end or a feed-forward block moves, with whatever beside it, the others still take what the fastest device
    takes for them; where only the projection does, the feed-forward block stays where it is.
    """
    times, at_most_s = draft.times, tokens * (1 + ROUNDING)
    ends_s = draft.ends_s()
    if at_most_s * (ends_s + max(layers_s[0], layers_s[-1])) > quickest_end_s(draft, costs):
        return True
    least_proj_s = float(times.proj_s.min())
    least_s = least_proj_s + float(times.ffn_s.min())
    for layer, (layer_s, next_s) in enumerate(zip(layers_s, [*layers_s[1:], ends_s], strict=True)):
        at_proj, at_ffn = draft.at(Kind.PROJ, layer), draft.at(Kind.FFN, layer)
        if at_most_s * (layer_s + next_s - least_s) > costs.quickest_s(Kind.FFN, at_ffn):
            return True
        if at_most_s * (layer_s - float(times.ffn_s[at_ffn]) - least_proj_s) > costs.quickest_s(Kind.PROJ, at_proj):
            return True
    return False


def _move_singles(
    draft: PartialPlacement,
    target: PartialPlacement,
    prices: Prices,
    layers_s: list[float],
    anywhere: Anywhere | None = None,
) -> None:
    """Move single blocks, and layers, to where `target` has them, where each pays. `layers_s`: as they are placed.

    `anywhere`: which moves could pay, if that is known.
    """
    last = len(draft.ffn) - 1
    ends_s = draft.ends_s()
    if anywhere is None:
        worth = could_pay(draft, target, prices, layers_s).tolist()  # n_moves x n_layers
        ends_worth = [True] * len(ENDS)
    else:
        worth, ends_worth = anywhere.towards(target)
    changed = set[int]()  # layers that are not as they were, or what is next to them
    for kind, worth_it in zip(ENDS, ends_worth, strict=True):
        layer = 0 if kind is Kind.EMBED else last
        worth_it = worth_it or bool(changed)
        if worth_it and _try_towards(draft, target, layer, (kind,), prices, ends_s + layers_s[layer]):
            changed |= {0, last}
    for layer in range(last + 1):
        at_most_s = layers_s[layer] + (layers_s[layer + 1] if layer < last else ends_s)
        for kinds, worth_it in zip(MOVES, worth, strict=True):
            worth_it = worth_it[layer] or layer in changed
            if worth_it and _try_towards(draft, target, layer, kinds, prices, at_most_s):
                changed |= {layer, layer + 1}


def _try_towards(
    draft: PartialPlacement,
    target: PartialPlacement,
    layer: int,
    kinds: tuple[Kind, ...],
    prices: Prices,
    at_most_s: float,
) -> bool:
    """Try to move blocks of one layer to where `target` has the first; two single blocks move only together.

    Whether they have moved.
    """
    device = target.at(kinds[0], layer)
    moved = to_move(draft, layer, kinds, device)
    if sum(each.kind is not Kind.HEAD for each in moved) < min(2, len(kinds)):
        return False
    return try_move(draft, prices, moved, device, lambda: touched_s(draft, layer, kinds[0]), at_most_s)
