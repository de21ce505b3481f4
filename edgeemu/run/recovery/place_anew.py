"""Placements for a run that has lost devices: the policy's, and one that leaves alone what survivors hold."""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.repair import repaired
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.ask_policy import next_decision
from edgeemu.run.plan import Plan

NO_DELAY = 1e-9  # multiple of a delay that is as good as none


class Anew(NamedTuple):
    """Placements to try, the best first, and the policy's part: its processor time, and why its answer is not used."""

    placements: list[Placement]
    took_s: float | None  # None: it was not asked
    problem: str = ""


def without(view: ClusterView, gone: Collection[int]) -> ClusterView:
    """Return the view of a cluster that some devices are gone from: they have no memory for blocks."""
    if not gone:
        return view
    devices = tuple(
        replace(device, memory_bytes=0) if index in gone else device for index, device in enumerate(view.devices)
    )
    return replace(view, devices=devices)


def with_restoration(view: ClusterView, lost: Collection[int], store: int | None) -> ClusterView:
    """Return the view in which what lost devices had moves as it is restored: from storage, or from another device.

    With `store`, over the links of that device; else at the rate of each receiver's own storage.
    """
    factors: dict[tuple[int, int], tuple[float, float]] = {}
    wire = view.links.wire
    for source in lost:
        for target in range(len(view.devices)):
            if target == source:
                continue
            nominal = wire.delay_s.pair(source, target), wire.s_per_bit.pair(source, target)
            if store is None or store == target:
                factors[source, target] = NO_DELAY, 1.0 / (8.0 * view.flash_bytes_per_s) / nominal[1]
            else:
                stored = wire.delay_s.pair(store, target), wire.s_per_bit.pair(store, target)
                delay = stored[0] / nominal[0] if nominal[0] else 1.0
                factors[source, target] = max(delay, NO_DELAY), stored[1] / nominal[1]
    return replace(view, links=wire.scaled(factors), lost=frozenset(lost))


def place_anew(plan: Plan, view: ClusterView, current: Placement, gone: Collection[int]) -> Anew:
    """Ask the policy for a placement without devices that are gone, which `view` has without memory.

    Raises:
        InfeasibleError: nobody finds one that fits.
    """
    found: list[Placement] = []
    took_s, problem = None, ""
    if plan.placer is not None:
        answer = next_decision(plan.placer, view, current, plan.rules.decision_limit_s)
        took_s, problem = answer.took_s, answer.problem
        if gone and not frozenset(gone).isdisjoint(answer.placement.owner.values()):
            problem = problem or "its placement needs a device that is gone"
        else:
            found.append(answer.placement)
    try:
        fallback = repaired(view, current)
    except InfeasibleError:
        if not found:
            raise
    else:
        found += [] if fallback in found else [fallback]
    return Anew(found, took_s, problem)
