"""Costs of a batch of placements: their steps and migrations, each computed only if it can be below a limit."""

from edgeemu.policies.compiled.share_bound import least_s
from edgeemu.policies.compiled.share_loads import round_s
from edgeemu.policies.compiled.share_step import begin_batch
from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables
from edgeemu.policies.view.step_time import ROUNDING
from edgeemu_kernels.arrays import Floats, Ints


def costs(
    t: StepTables,
    b: Batch,
    w: Scratch,
    over: Ints,
    moves_s: Floats,
    price: float,
    below: float,
    missing: float,
    found: Floats,
) -> None:
    """Compute the cost of each placement, `moves_s` [k] times `price` included: [k].

    Those that are not below a limit can be any above; those that lack memory, `over` [k] bytes, cost `missing` more.
    """
    begin_batch(b, w)
    for which in range(b.k):
        moving = moves_s[which] * price
        if over[which] > 0:
            found[which] = missing + over[which] + moving
            continue
        cost = least_s(t, b, w, which)
        if cost < (below - moving) * (1.0 + ROUNDING):
            cost = round_s(t, b, w, which)
        found[which] = cost + moving
