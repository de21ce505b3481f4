"""Later decisions with several sequences at once: another pipeline, where what it gains pays for the moves. Pure.

With C sequences in flight all of them get a token in the time that the busiest device or link needs for them, and not
in less than one sequence alone takes: a round takes max(C x busiest, step).
"""

from collections import defaultdict
from itertools import pairwise

import numpy as np

from edgeemu.errors import InfeasibleError
from edgeemu.layout import Layout
from edgeemu.makespan import MoveCosts, StepTimes
from edgeemu.placement import Placement
from edgeemu.policies.edgeshard import pipelines
from edgeemu.policies.improve import Prices
from edgeemu.policies.stages import StageCosts
from edgeemu.room import union_fits
from edgeemu.view import ClusterView, NoBetterPlacement


def busiest_s(times: StepTimes, layout: Layout) -> float:
    """The longest that any device, or any link, is busy with one decode step of one sequence.

    Of links what goes round is counted, x and the token; heads that are not where x is send little beside.
    """
    counts = layout.counts(times.n_devices)  # [n_layers, n_devices]
    layers, devices = counts.nonzero()  # [m] each
    busy_s = np.zeros(times.n_devices)
    np.add.at(busy_s, devices, times.heads_s(devices, counts[layers, devices]))
    np.add.at(busy_s, layout.proj, times.proj_s[layout.proj])
    np.add.at(busy_s, layout.ffn, times.ffn_s[layout.ffn])
    busy_s[layout.embed] += times.embed_s[layout.embed]
    busy_s[layout.lm_head] += times.lm_head_s[layout.lm_head]
    way = [layout.embed, *np.stack([layout.proj, layout.ffn], 1).ravel().tolist(), layout.lm_head]
    bits: dict[tuple[int, int], float] = defaultdict(float)
    for source, target in pairwise(way):
        bits[source, target] += times.hidden_bits
    bits[layout.lm_head, layout.embed] += times.token_bits
    links_s = (times.links.s_per_bit.between(a, b) * size for (a, b), size in bits.items())
    return max(float(busy_s.max()), *links_s)


def round_s(times: StepTimes, layout: Layout, sequences: int) -> float:
    """Until every sequence that is in flight has its next token."""
    return max(sequences * busiest_s(times, layout), times.step_s(layout))


def better_pipeline(
    view: ClusterView, times: StepTimes, current: Placement, horizon: int, margin: float, worth: float
) -> Placement:
    """The current placement, or the pipeline with the shortest round, if that gains more than its moves take.

    Raises:
        NoBetterPlacement: the current placement no longer fits, and no pipeline does.
    """
    shape = view.costs.shape
    old, costs, stages = Layout.of(current, shape), MoveCosts(view), StageCosts(view)
    fits = view.holds(current)
    try:
        found = [Layout.of(stages.placement(pipeline), shape) for pipeline in pipelines(stages, old.embed)]
    except InfeasibleError:
        found = []
    if not found:
        if fits:
            return current
        raise NoBetterPlacement("a device has lost memory, and no pipeline of whole layers fits what is left")
    best = min(found, key=lambda layout: round_s(times, layout, view.sequences))
    before_s, after_s = (round_s(times, layout, view.sequences) for layout in (old, best))
    pays = Prices(costs, horizon / margin).pays(before_s - after_s, costs.migration_s(old, best))
    if fits and not (pays and before_s - after_s > worth * before_s and union_fits(view, old, best)):
        return current
    return best.placement(shape)
