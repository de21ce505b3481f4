"""Our own policy, a portfolio: proposers give placements, one judge compares them, one rule says when to change. Pure.

*The first placement.* `PROPOSERS` give placements: our own search, other policies, pipelines, single devices. The judge
simulates the start of the run with each (`search.candidates`), which includes several sequences, prompts, jitter, and
links that share an interface. From all of them `search.share_proposals` searches on over shares: layers divided in
whatever way, feed-forward columns over some devices and heads on others; then the judge itself decides beside the best.

*Our own search* minimises the closed form of a decode step (`view.step_time`): hops between devices in series, heads
of a layer in parallel. So layers stay together where latency dominates, and heads are spread where compute does. A
model of one layer is placed exactly but for memory (`search.one_layer`), one of many layers in runs
(`search.layer_runs`); the result is improved by moves (`search.local_moves`). Costs are those in the middle of the
steps to come, at most `HORIZON`: caches grow, and memory is counted at the end.

*Later placements* are the current one improved by whole moves that pay, or, on clusters that are small enough, a new
one (`search.undivided_moves`) or one with other shares (`search.share_changes`): they shift, and layers become divided
or whole, for the objective of energy too; so the blocks of one layer move. With several sequences undivided placements
of more layers change to another pipeline (`search.pipeline_moves`). What devices have no room for at once is begun with
half of it (`search.halfway`). `search.change_rule` says when a change pays. Where nothing has changed since a placement
was kept, it is kept again. On large clusters the heads of layers have turns, from decision to decision.

* Placements that the run has left are proposals too (`search.going_back`).
* [D] A divided placement on more devices than a search can have stays while it fits: on more than 32, or than eight
  for the objective of energy. On large clusters so does any placement for that objective.
* Devices that have lost memory are relieved first, as `resource-aware` does it. Where shares no longer fit, and
  devices accept none that do, the change that comes closest is made, and more with the next decisions. Where there is
  none, all is placed anew, once: what devices refuse then has no room later either.
* What lost devices had goes to others by itself, with what pays beside that, or all is placed anew: what costs least.
"""

from dataclasses import replace
from itertools import islice
from math import inf

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import head
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies import edgeshard_latency, galaxy, layers, mdi
from edgeemu.policies.compiled import layer_code
from edgeemu.policies.compiled.share_code import functions
from edgeemu.policies.resource_aware import first
from edgeemu.policies.search.candidates import Contest, best_pipelines, divided_by, placed_by, single_devices
from edgeemu.policies.search.change_rule import HORIZON, Prices, Prospect, prospects
from edgeemu.policies.search.expected_gain import expected_gain
from edgeemu.policies.search.going_back import EarlierLayouts
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.known_placement import Known
from edgeemu.policies.search.layer_runs import SMALL as SMALL_CHAINS
from edgeemu.policies.search.layer_runs import best_chain
from edgeemu.policies.search.local_moves import improve, turns_of_layers
from edgeemu.policies.search.one_layer import best_ring
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.search.pipeline_moves import better_pipeline, round_s
from edgeemu.policies.search.repair import repaired
from edgeemu.policies.search.share_changes import better_shares, is_slower, make_ready
from edgeemu.policies.search.share_proposals import SLOW_LINK, ShareProposer, finds_ways_round
from edgeemu.policies.search.undivided_moves import Layouts, better_blocks
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.link_factors import LinkFactors
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.share_memory import all_fits
from edgeemu.policies.view.step_time import ROUNDING, StepTimes

SEARCHED = 2000  # devices x layers up to which shares are looked for
SMALL_TO_DIVIDE = 200  # devices x layers up to which undivided placements may become divided
JUDGED = 600  # layers x devices² of all placements of a search over shares that are simulated, and as many beside them
LEAST_JUDGED = 3
SLACK = 0.03  # by how much slower a closed form may find what is simulated beside the best

PROPOSERS = (
    placed_by(edgeshard_latency.place),
    placed_by(mdi.place),
    placed_by(layers.place),
    divided_by(galaxy.place),
    best_pipelines,
    single_devices,
)


def prepare(view: ClusterView) -> None:
    """Make the machine code for decisions, and all that it writes into."""
    if view.n_devices == 1:
        return
    functions()
    searched = view.n_devices * view.costs.shape.n_layers <= SEARCHED
    if searched and view.objective != "energy":
        if view.divide or _could_be_by_shares(view):
            make_ready(view, divide=_may_become_divided(view))
        if view.costs.shape.n_layers == 1 and not view.divide and view.sequences == 1:
            layer_code.make_ready()


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Place; with a current placement, move what pays over the horizon.

    Raises:
        InfeasibleError: first call, and no placement was found.
        NoBetterPlacement: the current placement no longer fits, and no other was found.
    """
    if current is None:
        return _first(view)
    if view.lost:
        return _without_lost(view, current)
    if view.still >= turns_of_layers(view):
        return current
    n_layers = view.costs.shape.n_layers
    divided = is_divided(current, n_layers)
    known = None
    if divided or _by_shares(view):
        known = Known.of(view, current, divide=view.divide if divided else _may_become_divided(view))
    left = EarlierLayouts(view)
    for prospect in prospects(view):
        better = _better(view, prospect, current, known, left, divided=divided)
        if better is not current and not _loses(view, prospect, current, better, known):
            return better
    return current


def _by_shares(view: ClusterView) -> bool:
    """Whether later decisions search over shares from undivided blocks, too.

    Where blocks stay undivided, machine code does so in less time than moves of blocks are searched. These find ways
    round slow links to all devices, of which a search over shares takes only the most promising if they are many.
    """
    few_ways = not _may_become_divided(view) and view.objective != "energy" and not finds_ways_round(view)
    return _could_be_by_shares(view) and not (few_ways and LinkFactors.of(view.observed).slowest() >= SLOW_LINK)


def _may_become_divided(view: ClusterView) -> bool:
    """Whether undivided blocks may: how long several sequences take together is known well of whole blocks only."""
    return view.divide and view.sequences == 1


def _could_be_by_shares(view: ClusterView) -> bool:
    """Whether later decisions search over shares from undivided blocks while links are good."""
    n_layers = view.costs.shape.n_layers
    if n_layers * view.n_devices > SMALL_TO_DIVIDE:
        return False
    if view.sequences > 1:
        return n_layers == 1 and view.objective != "energy"
    return view.divide or view.objective == "energy" or n_layers == 1


def _without_lost(view: ClusterView, current: Placement) -> Placement:
    """The placement without lost devices that costs least until the horizon, what is restored included."""
    found: list[Placement] = []
    try:
        base = repaired(view, current)
        found += [base, place(replace(view, lost=frozenset()), base)]
    except InfeasibleError:
        base = current
    found.append(kept(_first, view, current))
    found = [each for each in found if each is not current and not refusing_devices(view, current, each)]
    if not found:
        raise NoBetterPlacement("no placement without what was lost was found")
    steps = min(view.remaining_tokens, HORIZON)

    def cost_s(placement: Placement) -> float:
        _, after_s, moved_s = expected_gain(view, current, placement)
        return moved_s + steps * (inf if after_s is None else after_s)

    return min(found, key=cost_s)


def _better(
    view: ClusterView, prospect: Prospect, current: Placement, known: Known | None, left: Layouts, *, divided: bool
) -> Placement:
    """The current placement, or one whose gain in the steps ahead exceeds its migration.

    `known`: of its shares. `left`: undivided placements that the run has left.
    """
    if known is not None:
        found = better_shares(view, prospect, known)
        if found is not None:
            return found
    if divided or view.objective == "energy":
        if view.refused is not None:  # placed anew, what devices hold now has no room beside it
            return current
        return kept(_first, view, current)
    if view.sequences > 1:
        return better_pipeline(view, prospect, StepTimes(prospect.ahead, view.past + prospect.steps // 2), current)
    return better_blocks(view, prospect, current, left)


def _loses(view: ClusterView, prospect: Prospect, current: Placement, better: Placement, known: Known | None) -> bool:
    """Whether a move would lose until the change comes for which it is good; what no longer fits has to be left."""
    if known is not None or not prospect.early or not all_fits(view, current):
        return False  # `better_shares` has compared what is known
    shape = view.costs.shape
    if is_divided(current, shape.n_layers) or is_divided(better, shape.n_layers):
        return is_slower(view, better, current)
    times = StepTimes(view)
    before_s, after_s = (round_s(times, layout_of(p, shape), view.sequences) for p in (current, better))
    return after_s > before_s * (1 + ROUNDING)


def _first(view: ClusterView) -> Placement:
    """The best of all that is proposed, by the judge; our own where the cluster is too large to simulate."""
    contest = Contest(view)
    problem: InfeasibleError | None = None
    try:
        contest.add(_own(view))
    except InfeasibleError as error:
        problem = error  # other kinds can fit
    if contest.simulates or problem is not None:
        for propose in PROPOSERS:
            for placement in propose(view):
                contest.add(placement)
        _add_shares(view, contest)
    if contest.best is None:
        raise problem or view.infeasible(head(0, 0), [0] * view.n_devices)
    return contest.best


def _add_shares(view: ClusterView, contest: Contest) -> None:
    """Search over shares from all that was proposed, and then beside the best with the judge itself."""
    proposer = ShareProposer(view, contest.by_score(), min(view.remaining_tokens, HORIZON))
    size = view.costs.shape.n_layers * len(proposer.devices) ** 2
    for placement in islice(proposer.placements(), max(LEAST_JUDGED, JUDGED // size)):
        contest.add(placement)
    left = contest.judged + max(LEAST_JUDGED, JUDGED // size)
    improved = contest.simulates
    while improved and contest.best is not None:
        improved = False
        for placement in proposer.beside(contest.best, SLACK):
            if contest.judged >= left:
                return
            if contest.add(placement):
                improved = True
                break


def _own(view: ClusterView) -> Placement:
    """Our own search for a placement of undivided blocks."""
    times = StepTimes(view, view.past + min(view.remaining_tokens, HORIZON) // 2)
    return _search(view, times).layout(None).placement(view.costs.shape)


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
