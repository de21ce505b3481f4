"""Lower bounds of what any placement can reach, divided or not: a decode step, and the first token. Pure.

No placement is faster, so a search that is close to a bound is done. Links and devices are as in the view; each message
is alone in its pipe, each device has nothing else to do, and a sequence is alone.

*A decode step.* x_s[d] is the earliest instant at which x can be whole on device d, for each d by itself: the placement
that is best for one device need not be the one that is best for another. A part that is divided has its result on r
when the last share has: device a with u units is at r at x_s[a] + compute(a, u) + hop(a, r), which is a slot for each
u, and the least makespan of all units is the earliest slot but as many. The outputs of heads go to the projection's
devices in the same way. This is done for each device of the output matrix, which sends the token and has x in the end.

*Memory.* In the bound above each device counts by itself: what it cannot hold it does not compute. Where no device
holds the whole model, a linear program over shares of an average layer counts all memory together, but no hops. The
larger of both counts.

*The first token.* A prompt's rows are computed in chunks that overlap with messages. What counts are both ends and, for
each layer, the least makespan of the work that cannot begin before the last chunk of the layer before is computed: its
attention, its projection and its feed-forward block. It is the same linear program.
"""

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, head, n_shards
from edgeemu.placement.memory import caches_bytes
from edgeemu.policies.search.bound_hops import PromptWithHops, StepWithHops
from edgeemu.policies.search.mip import MixedIntegerProgram
from edgeemu.policies.search.part_times import PartTimes
from edgeemu.policies.view.cluster_view import ClusterView

MANY = 64  # devices; with more, hops do not count
MOST = 2_000  # devices; with more, there is no bound
TIME_LIMIT_S = 60.0  # of a linear program, which takes less than a second
SOLVED = 1 - 1e-5  # of a linear program's optimum, which is found to a millionth


def least_step_s(view: ClusterView, past: int | None = None) -> float:
    """Seconds that a decode step takes at least; infinite if it is proven that nothing fits.

    `past`: positions cached, those of the view's next step if not given. With more of them no step is shorter. 0 for
    more than `MOST` devices, of which nothing is known.
    """
    n_devices = len(view.devices)
    if n_devices > MOST:
        return 0.0
    parts = PartTimes(view, 1, view.past if past is None else past)
    by_hops_s = StepWithHops(parts).least_s() if n_devices <= MANY else 0.0
    if n_devices <= MANY and bool(parts.holds_all.all()):
        return by_hops_s
    return max(by_hops_s, _by_memory_s(parts, barriers=True))


def least_first_token_s(view: ClusterView, rows: int | None = None) -> float:
    """Seconds from a prompt's release to its first token, at least; as `least_step_s`.

    `rows`: of the prompt, those of the view if not given. With more of them it does not take less.
    """
    n_devices = len(view.devices)
    if n_devices > MOST:
        return 0.0
    parts = PartTimes(view, view.prompt_tokens if rows is None else rows, 0)
    by_hops_s = PromptWithHops(parts).least_s() if n_devices <= MANY else 0.0
    if n_devices <= MANY and bool(parts.holds_all.all()):
        return by_hops_s
    return max(by_hops_s, _by_memory_s(parts, barriers=False))


def _by_memory_s(parts: PartTimes, *, barriers: bool) -> float:
    """Both ends and the average layer, in shares that memory allows, without hops; infinite if nothing fits.

    `barriers`: the feed-forward block begins when the projection has ended; else a layer has one makespan.
    """
    view, model = parts.view, MixedIntegerProgram()
    n, shape = len(view.devices), parts.costs.shape
    rows, past, kinds = parts.rows, parts.past, (Kind.HEAD, Kind.PROJ, Kind.FFN)
    wholes_s = {kind: parts.seconds(parts.costs.work(kind, parts.totals[kind], rows, past)) for kind in kinds}
    if not barriers:
        wholes_s[Kind.HEAD] = parts.seconds(parts.costs.attention_work(shape.n_groups, rows, past))
    per_s = 1e3 / float(sum(times.min() for times in wholes_s.values()))  # the tolerances of the solver are absolute
    share = {kind: model.add(n, upper=1.0) for kind in kinds}
    ends = {block: model.add(n, upper=1.0) for block in (EMBED, LM_HEAD)}
    for columns in (*share.values(), *ends.values()):
        model.equal([(1.0, int(x)) for x in columns], 1.0)
    for block, columns in ends.items():
        times_s = parts.seconds(parts.costs.work(block.kind, 1, rows, past))
        for column, time_s in zip(columns.tolist(), times_s.tolist(), strict=True):
            model.cost[column] = per_s * time_s
    serial = ((Kind.HEAD, Kind.PROJ), (Kind.FFN,)) if barriers else (kinds,)
    for part in serial:
        makespan = int(model.add(1, cost=float(shape.n_layers))[0])
        for d in range(n):
            terms = [(-per_s * float(wholes_s[kind][d]), int(share[kind][d])) for kind in part]
            model.row([(1.0, makespan), *terms], low=0.0)
    _add_memory(model, view, share, ends)
    values = model.solve(TIME_LIMIT_S)
    if values is None:
        return np.inf
    return SOLVED * float(np.dot(model.cost, values)) / per_s


def _add_memory(
    model: MixedIntegerProgram, view: ClusterView, share: dict[Kind, IntArray], ends: dict[Block, IntArray]
) -> None:
    """Add the memory of weights and caches, as shares of a layer times the layers."""
    shape, workload = view.costs.shape, view.workload
    costs = view.costs.at_step(1, view.total_tokens - 1)
    cache_bytes = caches_bytes(costs, view.total_tokens, workload.concurrent)
    bytes_of = {Kind.HEAD: shape.n_groups * (costs.weight_bytes(head(0, 0)) + cache_bytes)}
    for kind in (Kind.PROJ, Kind.FFN):
        one = costs.weight_bytes(Block(kind, 0, 1))
        bytes_of[kind] = min(costs.weight_bytes(Block(kind, 0)), n_shards(shape, kind) * one)
    for d in range(len(view.devices)):
        room = max(1, int(view.memory_bytes[d]))
        terms = [(shape.n_layers * bytes_of[kind] / room, int(columns[d])) for kind, columns in share.items()]
        end_bytes = [(costs.weight_bytes(block), int(columns[d])) for block, columns in ends.items()]
        if shape.tied_embeddings:  # a device that has both ends has one table
            table = int(model.add(1, upper=1.0)[0])
            for _, column in end_bytes:
                model.row([(1.0, table), (-1.0, column)], low=0.0)
            end_bytes = [(min(size for size, _ in end_bytes), table)]
        model.row([*terms, *((size / room, column) for size, column in end_bytes)], high=1.0)
