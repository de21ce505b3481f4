"""Lower bounds with the memory of all devices together, and without hops: a linear program. Pure.

Its variables are the shares that devices have of an average layer, and of both ends. Fixed times of operations count in
proportion to a share, so that the program is linear and never above the true time.
"""

from enum import Enum

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, head, n_shards
from edgeemu.placement.memory import caches_bytes
from edgeemu.policies.search.mip import MixedIntegerProgram
from edgeemu.policies.search.part_times import PartTimes
from edgeemu.policies.view.cluster_view import ClusterView

TIME_LIMIT_S = 60.0  # of a linear program, which takes less than a second
SOLVED = 1 - 1e-5  # of a linear program's optimum, which is found to a millionth


class Order(Enum):
    """Which work of a step has to wait for which."""

    STEP = "the feed-forward block for heads and projection, a layer for that before it, and so the ends"
    PROMPT = "a layer's attention, projection and feed-forward block for those of the layer before, and so the ends"
    NONE = "nothing: devices are busy with other sequences meanwhile"


def by_memory_s(parts: PartTimes, order: Order) -> float:
    """Both ends and the average layer, in shares that memory allows, without hops; infinite if nothing fits."""
    view, model = parts.view, MixedIntegerProgram()
    n, shape = view.n_devices, parts.costs.shape
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
    add_memory(model, view, share, ends)
    values = model.solve(TIME_LIMIT_S)
    if values is None:
        return np.inf
    return SOLVED * float(np.dot(model.cost, values)) / per_s


def add_memory(
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
    for d in range(view.n_devices):
        room = max(1, int(view.memory_bytes[d]))
        terms = [(shape.n_layers * bytes_of[kind] / room, int(columns[d])) for kind, columns in share.items()]
        end_bytes = [(costs.weight_bytes(block), int(columns[d])) for block, columns in ends.items()]
        if shape.tied_embeddings:  # a device that has both ends has one table
            table = int(model.add(1, upper=1.0)[0])
            for _, column in end_bytes:
                model.row([(1.0, table), (-1.0, column)], low=0.0)
            end_bytes = [(min(size for size, _ in end_bytes), table)]
        model.row([*terms, *((size / room, column) for size, column in end_bytes)], high=1.0)
