"""Later decisions with several sequences at once: another pipeline, where its gain pays for the moves. Pure.

With C sequences in flight all of them get a token in the time that the busiest device or link needs for them, and not
in less than one sequence alone takes: a round takes max(C x busiest, step).
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.change_rule import WORTH, Prices, Prospect
from edgeemu.policies.search.going_back import earlier_layouts, from_now
from edgeemu.policies.search.halfway import halfway, halfway_of_blocks
from edgeemu.policies.search.pipeline_programs import pipelines
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.memory_arrays import union_fits
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.share_memory import all_fits
from edgeemu.policies.view.step_time import StepTimes


def busiest_s(times: StepTimes, layout: PlacementArrays) -> float:
    """The longest time that any device, or any link, is busy with one decode step of one sequence.

    Links count with x and the token: heads on other devices than x send little in comparison.
    """
    return max(float(times.busy_s(layout).max()), _busiest_link_s(times, layout))


def _busiest_link_s(times: StepTimes, layout: PlacementArrays) -> float:
    """The longest time that a link is busy in a step with the token and with x on its path through single blocks."""
    ends = layout.embed, layout.lm_head
    sources = np.hstack([ends[1], ends[0], layout.ffn[:-1], layout.proj, layout.ffn[-1]])  # [2 * n_layers + 2]
    targets = np.hstack([ends[0], layout.proj, layout.ffn, ends[1]])  # [2 * n_layers + 2]
    bits = np.append(times.token_bits, np.full(len(sources) - 1, times.hidden_bits))
    away = np.flatnonzero(sources != targets)  # [m]
    if not len(away):
        return 0.0
    pairs, which = np.unique(sources[away] * times.n_devices + targets[away], return_inverse=True)
    sent = np.bincount(which, bits[away])  # [n_pairs]
    return float((times.links.s_per_bit.pairs(*np.divmod(pairs, times.n_devices)) * sent).max())


def round_s(times: StepTimes, layout: PlacementArrays, sequences: int) -> float:
    """Time until every sequence in flight has its next token."""
    if sequences == 1:
        return times.step_s(layout)
    return max(sequences * busiest_s(times, layout), times.step_s(layout))


def better_pipeline(view: ClusterView, prospect: Prospect, times: StepTimes, current: Placement) -> Placement:
    """The current placement, or the pipeline that gains most beyond what its moves take, if any gains more.

    `times` are those of the steps ahead. Where devices have no room for the migration to it, the half of it for which
    they have, if both halves together gain more than they take.

    Raises:
        NoBetterPlacement: the current placement no longer fits, and no pipeline does.
    """
    shape = view.costs.shape
    old, costs, stages = layout_of(current, shape), MoveCosts(view), StageCosts(prospect.ahead)
    fits = all_fits(view, current)
    try:
        found = [stages.layout(pipeline) for pipeline in pipelines(stages, old.embed)]
    except InfeasibleError:
        found = []
    before_s = round_s(times, old, view.sequences)
    prices = Prices.of(costs, prospect, before_s)
    drafts = [(layout, False) for layout in found] + [(layout, True) for layout in earlier_layouts(view)]
    changes = []
    for layout, earlier in drafts:
        gain_s = before_s - round_s(times, layout, view.sequences)  # whichever groups stay
        if fits and gain_s <= WORTH * before_s:
            continue
        now = from_now(view, old, layout) if earlier else layout
        if now is not None:
            changes.append(_PipelineChange(now, gain_s, costs.migration_s(old, now)))
    if fits:
        changes = [change for change in changes if prices.pays(*change[1:])]
    elif not changes:
        raise NoBetterPlacement("a device has lost memory, and no pipeline of complete layers fits the others")
    changes.sort(key=lambda change: change.moves_s - prices.gained_s(change.gain_s))
    for layout, _, _ in changes:
        if union_fits(view, old, layout):
            return layout.placement(shape)
        middle = half_that_pays(view, times, prices if fits else None, current, layout)
        if middle is not None:
            return middle
    return current if fits else changes[0].layout.placement(shape)


class _PipelineChange(NamedTuple):
    """A pipeline, what a round gains with it, and what the moves to it take."""

    layout: PlacementArrays
    gain_s: float
    moves_s: float


def half_that_pays(
    view: ClusterView, times: StepTimes, prices: Prices | None, current: Placement, target: PlacementArrays
) -> Placement | None:
    """The first half of a change of undivided blocks, if both halves gain more than they and the time between take.

    `prices`: those of moves; None: the current placement has to be left, whatever that takes. None: there is no half.
    """
    shape = view.costs.shape
    old = layout_of(current, shape)
    if view.by_layer is None:
        middle = halfway_of_blocks(view, old, target)
    else:
        found = halfway(view, current, target.placement(shape))
        middle = None if found is None else PlacementArrays.of(found, shape)
    if middle is None:
        return None
    if prices is not None and prices.costs is not None:
        layouts = old, middle, target
        steps_s = [round_s(times, layout, view.sequences) for layout in layouts]
        ways_s = sum(prices.costs.migration_s(*pair) for pair in pairwise(layouts))
        if not prices.pays_by_halves(steps_s, ways_s, view.interval_tokens):
            return None
    placement = middle.placement(shape)
    return None if view.has_refused(placement) else placement
