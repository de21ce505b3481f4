"""Our own policy, a portfolio: placements of several kinds are proposed, and the one with the least time wins. Pure.

*The first placement.* `PROPOSERS` give placements: our own search, other policies, pipelines, single devices. One judge
compares them: the start of the run is simulated with each (`search.candidates`), which includes several sequences,
prompts, jitter, and links that share an interface.

*Our own search* minimises the closed form of a decode step (`view.step_time`): hops between devices in series, heads
of a layer in parallel. So layers stay together where latency dominates, and heads are spread where compute does. A
model of one layer is placed exactly but for memory (`search.one_layer`), one of many layers in runs
(`search.layer_runs`); the result is improved by moves (`search.local_moves`). Costs are those in the middle of the
steps to come, at most `HORIZON`: caches grow, and memory is counted at the end.

*Later placements* are the current one improved by moves that pay, or, on clusters that are small enough, a new one;
with several sequences another pipeline (`search.pipeline_moves`). `search.change_rule` says when a change pays.

* [D] A placement with divided projections or feed-forward blocks stays while it fits, and so does any placement for the
  objective of energy.
* Devices that have lost memory are relieved first, as `resource-aware` does it.
"""

import numpy as np

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies import edgeshard_latency, galaxy, layers, mdi
from edgeemu.policies.resource_aware import first, relieved
from edgeemu.policies.search.candidates import best_pipelines, divided_by, less, placed_by, score, single_devices
from edgeemu.policies.search.change_rule import HORIZON, WORTH, Prices, Prospect, prospects
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.layer_runs import SMALL as SMALL_CHAINS
from edgeemu.policies.search.layer_runs import best_chain
from edgeemu.policies.search.local_moves import improve
from edgeemu.policies.search.one_layer import best_ring
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.search.pipeline_moves import better_pipeline, round_s
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.memory_arrays import union_fits
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import StepTimes

SMALL = 20_000  # devices x groups up to which a new placement is made at every decision

PROPOSERS = (
    placed_by(edgeshard_latency.place),
    placed_by(mdi.place),
    placed_by(layers.place),
    divided_by(galaxy.place),
    best_pipelines,
    single_devices,
)


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Place; with a current placement, move what pays over the horizon.

    Raises:
        InfeasibleError: first call, and no placement was found.
        NoBetterPlacement: the current placement no longer fits, and no other was found.
    """
    if current is None:
        return _first(view)
    if view.objective == "energy" or is_divided(current):
        return kept(_first, view, current)
    for prospect in prospects(view):
        better = _better(view, prospect, current)
        if better is not current and not _loses(view, prospect, current, better):
            return better
    return current


def _loses(view: ClusterView, prospect: Prospect, current: Placement, better: Placement) -> bool:
    """Whether a move would lose until the change comes for which it is good; what no longer fits has to be left."""
    if prospect.meanwhile is None or not view.holds(current):
        return False
    times, shape = StepTimes(prospect.meanwhile), view.costs.shape
    before_s, after_s = (round_s(times, PlacementArrays.of(p, shape), view.sequences) for p in (current, better))
    return after_s > before_s * (1 + 1e-9)


def _first(view: ClusterView) -> Placement:
    """The best of our own placement and all that are proposed; our own where the cluster is too large to simulate."""
    times = StepTimes(view, view.past + min(view.remaining_tokens, HORIZON) // 2)
    best = _search(view, times).layout(None).placement(view.costs.shape)
    best_score = score(view, best) if len(view.devices) > 1 else None
    if best_score is None:
        return best
    seen = [best.owner]
    for propose in PROPOSERS:
        for placement in propose(view):
            if placement.owner in seen or not view.holds(placement):
                continue
            seen.append(placement.owner)
            found = score(view, placement)
            if found is not None and less(found, best_score):
                best, best_score = placement, found
    return best


def _better(view: ClusterView, prospect: Prospect, current: Placement) -> Placement:
    """The current placement improved by moves, or a new one, if its gain in the steps ahead exceeds its migration."""
    times = StepTimes(prospect.ahead, view.past + prospect.steps // 2)
    if view.sequences > 1:
        return better_pipeline(view, prospect, times, current)
    shape, costs = view.costs.shape, MoveCosts(view)
    prices = Prices(costs, prospect.tokens)
    old = PlacementArrays.of(current, shape)
    draft = relieved(view, times, old)
    base = draft.layout(old)  # without the moves that only shorten the step
    layers_s = draft.layers_s()
    before_s = draft.ends_s() + sum(layers_s)
    improve(draft, prices, layers_s)
    best = draft.layout(old)
    best_s = draft.step_s()
    if times.n_devices * shape.n_layers * times.n_groups <= SMALL:
        new = _new_below(view, times, best_s * (1 - WORTH), old, prices)
        if new is not None:
            moved_s = costs.migration_s(old, new) - costs.migration_s(old, best)
            gain_s = best_s - times.step_s(new)
            if prices.pays(gain_s, moved_s) and union_fits(view, old, new):
                best, best_s = new, best_s - gain_s
    if before_s - best_s < WORTH * before_s:
        best = base
    return current if best.same(old) else best.placement(shape)


def _search(view: ClusterView, times: StepTimes) -> PartialPlacement:
    """Our own search from nothing: the best of a ring or chain and of the head-level paper's algorithm.

    Raises:
        InfeasibleError: nothing that fits was found.
    """
    if view.costs.shape.n_layers == 1:
        return best_ring(view, times) or first(view, times)
    chain = best_chain(view, times)
    if times.n_devices * view.costs.shape.n_layers > SMALL_CHAINS:
        return chain or first(view, times)
    drafts = [] if chain is None else [chain]
    try:
        drafts.append(first(view, times))
    except InfeasibleError:
        if chain is None:
            raise
    for draft in drafts:
        improve(draft, Prices(None, 1.0))
    return min(drafts, key=PartialPlacement.step_s)


def _new_below(
    view: ClusterView, times: StepTimes, below_s: float, old: PlacementArrays, prices: Prices
) -> PlacementArrays | None:
    """A placement from nothing with a step below `below_s`; as many groups as possible stay. None: there is none."""
    if view.costs.shape.n_layers == 1:
        draft = best_ring(view, times, below_s, _moves_s(times, old, prices))
    else:
        draft = best_chain(view, times)
    return None if draft is None or draft.step_s() >= below_s else draft.layout(old)


def _moves_s(times: StepTimes, old: PlacementArrays, prices: Prices) -> dict[Kind, FloatArray] | None:
    """The migration time of each single block of a layer to each device, per step of the horizon: [n_devices]."""
    costs = prices.costs
    if costs is None:
        return None
    found = {}
    for kind, at in (
        (Kind.EMBED, old.embed),
        (Kind.PROJ, int(old.proj[0])),
        (Kind.FFN, int(old.ffn[0])),
        (Kind.LM_HEAD, old.lm_head),
    ):
        bits = costs.link_bits[kind]
        sent_s = times.links.row(at, bits) if bits else np.zeros(times.n_devices)
        found[kind] = np.maximum(sent_s, costs.flash_s[kind]) / prices.tokens
        found[kind][at] = 0.0
    return found
