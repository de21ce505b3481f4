"""Lower bounds of what any placement can reach, divided or not: step, first token, time between tokens. Pure.

No placement is faster, so a search that is close to a bound is done. Links and devices are as in the view, and each
message is alone in its pipe.

*With hops* (`search.bound_hops`): x must be sent before it is used, and a divided part is ready when its last share is.
Memory counts for each device by itself: what it cannot hold it does not compute.

*With the memory of all devices together*, where some device cannot hold the whole model, and then without hops: a
linear program over the shares that devices have of an average layer, and over both ends. Fixed times of operations
count in proportion to a share, so that the program is linear and never above the true time. The larger of both bounds
counts.

*Between two tokens* of several sequences nothing waits, but each token keeps devices busy: the same program.
"""

from enum import Enum

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
    return max(by_hops_s, _by_memory_s(parts, Order.STEP))


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
    return max(by_hops_s, _by_memory_s(parts, Order.PROMPT))


def least_busy_s(view: ClusterView, past: int) -> float:
    """Seconds between two tokens of however many sequences, at least: each token keeps devices busy.

    As `least_step_s`.
    """
    if len(view.devices) > MOST:
        return 0.0
    return _by_memory_s(PartTimes(view, 1, past), Order.NONE)


class Order(Enum):
    """Which work of a step has to wait for which."""

    STEP = "the feed-forward block for heads and projection, a layer for that before it, and so the ends"
    PROMPT = "a layer's attention, projection and feed-forward block for those of the layer before, and so the ends"
    NONE = "nothing: devices are busy with other sequences meanwhile"


def _by_memory_s(parts: PartTimes, order: Order) -> float:
    """Both ends and the average layer, in shares that memory allows, without hops; infinite if nothing fits."""
    view, model = parts.view, MixedIntegerProgram()
    n, shape = len(view.devices), parts.costs.shape
    rows, past, kinds = parts.rows, parts.past, (Kind.HEAD, Kind.PROJ, Kind.FFN)
    wholes_s = {kind: parts.seconds(parts.costs.work(kind, parts.totals[kind], rows, past)) for kind in kinds}
    if order is Order.PROMPT:  # the products for queries, keys and values can overlap with the layer before
        wholes_s[Kind.HEAD] = parts.seconds(parts.costs.attention_work(shape.n_groups, rows, past))
    per_s = 1e3 / float(sum(times.min() for times in wholes_s.values()))  # the tolerances of the solver are absolute
    share = {kind: model.add(n, upper=1.0) for kind in kinds}
    ends = {block: model.add(n, upper=1.0) for block in (EMBED, LM_HEAD)}
    for columns in (*share.values(), *ends.values()):
        model.equal([(1.0, int(x)) for x in columns], 1.0)
    ends_s = {block: parts.seconds(parts.costs.work(block.kind, 1, rows, past)) for block in ends}
    serial = ((Kind.HEAD, Kind.PROJ), (Kind.FFN,)) if order is Order.STEP else (kinds,)
    for part in serial:
        makespan = int(model.add(1, cost=float(shape.n_layers))[0])
        for d in range(n):
            terms = [(-per_s * float(wholes_s[kind][d]), int(share[kind][d])) for kind in part]
            if order is Order.NONE:
                terms += [(-per_s * float(ends_s[block][d]) / shape.n_layers, int(ends[block][d])) for block in ends]
            model.row([(1.0, makespan), *terms], low=0.0)
    for block, columns in ends.items() if order is not Order.NONE else ():
        for column, time_s in zip(columns.tolist(), ends_s[block].tolist(), strict=True):
            model.cost[column] = per_s * time_s
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
