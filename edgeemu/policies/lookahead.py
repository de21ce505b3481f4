"""Our own policy: minimises what the rest of the sequence will take, moves included. Pure.

It reckons with the real makespan of a step (`view.step_time`): hops between devices in series, heads of a layer side
by side. So layers stay whole where latency dominates and heads are spread where compute does, with no rule for it.

* A model of one layer is placed exactly but for memory (`ring.py`), one of many in runs of layers (`chain.py`); the
  result is improved by moves (`improve.py`).
* Costs are those in the middle of the steps to come, at most `HORIZON`: caches grow, and memory is counted at the end.
* With a current placement: it is improved by moves that pay, and a new one is made beside it on clusters that are small
  enough. What takes least over the horizon wins: migration + steps.
* Against flapping, from measurements that are never quite right: a move has to gain `MARGIN` times what it takes, and
  all of them together `WORTH` of a step; nothing is moved for less.
* The first placement is the best of that and of placements of other kinds (pipelines, shards, one device), when the
  beginning of the run is played on the timeline (`candidates.py`): with several sequences at once, prompts, jitter, and
  whatever links share. With several sequences a later change is to another pipeline (`pipelined.py`).
* [D] A placement with divided projections or feed-forwards, and any for the objective of energy, stays while it fits.
* What is overfull because memory was lost is relieved first, as `resource-aware` does it.
"""

import numpy as np

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies.resource_aware import first, relieved
from edgeemu.policies.search.candidates import best_played
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.layer_runs import SMALL as SMALL_CHAINS
from edgeemu.policies.search.layer_runs import best_chain
from edgeemu.policies.search.local_moves import Prices, improve
from edgeemu.policies.search.one_layer import best_ring
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.search.pipeline_moves import better_pipeline
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.memory_arrays import union_fits
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import StepTimes

# Of 64-256 steps and 1.5-3, these lost least in runs of 200 tokens under load drawn anew at each token, and won as much
# as any under load drawn anew every 50.
HORIZON = 64  # steps
MARGIN = 1.5
WORTH = 0.01
SMALL = 20_000  # devices x groups up to which a placement is made anew at every decision


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Places; with a current placement, moves what pays over the horizon.

    Raises:
        InfeasibleError: first call, and no placement was found.
        NoBetterPlacement: the current placement no longer fits, and no other was found.
    """
    if current is None:
        return _first(view)
    if view.objective == "energy" or is_divided(current):
        return kept(_first, view, current)
    shape, horizon = view.costs.shape, min(view.remaining_tokens, HORIZON)
    times = StepTimes(view, view.past + horizon // 2)
    if view.sequences > 1:
        return better_pipeline(view, times, current, horizon, MARGIN, WORTH)
    old, costs = PlacementArrays.of(current, shape), MoveCosts(view)
    prices = Prices(costs, horizon / MARGIN)
    draft = relieved(view, times, old)
    base = draft.layout(old)
    layers_s = draft.layers_s()
    before_s = draft.ends_s() + sum(layers_s)
    improve(draft, prices, layers_s)
    best = draft.layout(old)
    best_s = draft.step_s()
    if times.n_devices * shape.n_layers * times.n_groups <= SMALL:
        anew = _anew_below(view, times, best_s * (1 - WORTH), old, prices)
        if anew is not None:
            moved_s = costs.migration_s(old, anew) - costs.migration_s(old, best)
            gain_s = best_s - times.step_s(anew)
            if prices.pays(gain_s, moved_s) and union_fits(view, old, anew):
                best, best_s = anew, best_s - gain_s
    if before_s - best_s < WORTH * before_s:
        best = base
    return current if best.same(old) else best.placement(shape)


def _first(view: ClusterView) -> Placement:
    """The best of our own search's result and placements of other kinds."""
    times = StepTimes(view, view.past + min(view.remaining_tokens, HORIZON) // 2)
    return best_played(view, _anew(view, times).layout(None).placement(view.costs.shape))


def _anew(view: ClusterView, times: StepTimes) -> PartialPlacement:
    """A placement from nothing, the best of what is there to make one."""
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


def _anew_below(
    view: ClusterView, times: StepTimes, below_s: float, old: PlacementArrays, prices: Prices
) -> PlacementArrays | None:
    """A placement from nothing with steps below `below_s`, as many groups where they are as possible; None: none."""
    if view.costs.shape.n_layers == 1:
        draft = best_ring(view, times, below_s, _moves_s(times, old, prices))
    else:
        draft = best_chain(view, times)
    return None if draft is None or draft.step_s() >= below_s else draft.layout(old)


def _moves_s(times: StepTimes, old: PlacementArrays, prices: Prices) -> dict[Kind, FloatArray] | None:
    """What moving each single block of a layer to each device adds to a step: [n_devices]."""
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
