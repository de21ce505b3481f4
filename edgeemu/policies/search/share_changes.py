"""Later decisions: shares that shift, layers that become divided or whole, as far as that pays. Pure.

The search is that of first placements, from the current placement, from the same on other devices, from simple ones and
from those that the run has left; a placement costs its step and the share of it that its migration takes. What it finds
is then judged with the exact time of its migration, and with what devices would refuse. Where that is all of it, the
best is reached over half of the change.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice

import numpy as np

from edgeemu.placement.arrays import blocks_of
from edgeemu.placement.memory import Usage
from edgeemu.placement.placement import Placement, moves
from edgeemu.policies.search.change_rule import WORTH, Prices, Prospect, prospects
from edgeemu.policies.search.going_back import owners_of
from edgeemu.policies.search.halfway import halfway
from edgeemu.policies.search.known_placement import WORK_TO_CHOOSE, Known, is_step_slower
from edgeemu.policies.search.share_moves import FEW_LAYERS
from edgeemu.policies.search.share_proposals import numbers_chosen
from edgeemu.policies.search.share_search import MISSING, End, ShareJudge
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import overfull, refusing_devices
from edgeemu.policies.view.share_memory import counts_memory
from edgeemu.policies.view.shares import ShareArrays

EXACT = 6  # placements of which the migration is computed exactly
BESIDE = 24  # neighbours, the best, of which one is looked for that is not refused
HALVED = 2  # refused placements, the best, to which a way over another placement is looked for


def make_ready(view: ClusterView, *, divide: bool) -> None:
    """Look for better shares on each number of devices that a search can have: what it needs is then made.

    Where a model has so many layers that a search takes long, only once, from everything on one device. `divide`:
    whether undivided blocks may become divided.
    """
    shape = view.costs.shape
    alone = Placement(dict.fromkeys(blocks_of(shape), 0))
    later = replace(view, workload=replace(view.workload, length=view.prompt_tokens))
    known, owners = Known.of(later, alone, divide=divide), owners_of(alone, shape)
    if known is None or owners is None:
        return
    numbers = numbers_chosen(view, WORK_TO_CHOOSE) if shape.n_layers <= FEW_LAYERS else []
    others = [
        Known(later, alone, owners, np.arange(n), divide=each)
        for each in sorted({divide, view.divide})
        for n in numbers
        if n != len(known.devices) or each != divide
    ]
    for placed in (known, *others):
        for prospect in prospects(later):
            better_shares(later, prospect, placed)


def better_shares(view: ClusterView, prospect: Prospect, known: Known) -> Placement | None:
    """The current placement, or the one whose gain in the steps to come exceeds its migration by most.

    None: it no longer fits, and no other was found among so few devices.
    """
    price = known.present.second / prospect.tokens
    if known.fits and counts_memory(view):
        view.fitting.append(known.current)  # who asks again need not count
    before, ends = known.ends(prospect, price)
    if not ends and known.fits:
        return known.current
    change = _BestChange(view, prospect, known, before)
    for end in ends[:EXACT]:
        change.add(end)
    if ends and change.best is None:  # no room on the way to what is best in the end: the best small change
        limit = before * (1 - WORTH) if known.fits else before
        for cost, shares in islice(known.search(change.judge, price).all_below(limit, known.near), BESIDE):
            if change.add(End(cost, shares)):
                break
    if change.best is not None:
        return change.answer(change.best)
    return change.by_halves() if known.fits else change.nearest_to_fitting()


class _BestChange:
    """Judgement of what a search has found, with the exact time of its migration and what devices would refuse."""

    def __init__(self, view: ClusterView, prospect: Prospect, known: Known, before: float) -> None:
        """`before`: the cost of the current placement."""
        self._view, self._prospect, self._current, self._known = view, prospect, known.current, known
        self._before, self._prices = before, Prices.of(known.costs, prospect, before)
        self._net = 0.0 if known.fits else -np.inf
        self.best: End | None = None
        self._refused: list[tuple[float, End]] = []  # what is gained in all, and the placement

    @cached_property
    def judge(self) -> ShareJudge:
        """Judge of the steps to come."""
        return self._known.judge(self._prospect)

    @cached_property
    def _held(self) -> list[Usage]:
        return self._view.usages(self._current)

    def add(self, end: End) -> bool:
        """Take a placement that gains more than the best so far, if no device refuses it; whether it is taken."""
        known = self._known
        if end.cost >= MISSING:
            return False
        gain = self._before - (float(self.judge.promised(end.shares)[0]) if end.promised is None else end.promised)
        gained = self._prices.gained_s(gain)
        if gained <= self._net:  # its migration makes it no better
            return False
        net = gained - known.moving_s(end) * self._known.present.second
        if net <= self._net or (known.fits and gain <= WORTH * self._before):
            return False
        if not self._is_accepted(end):
            self._refused.append((net, end))
            return False
        self._net, self.best = net, end
        return True

    def answer(self, end: End) -> Placement:
        """A placement that was found, or the current one if it would lose."""
        if self._loses(end):
            return self._current
        new = self._known.placement(end)
        self._view.fitting.append(new)
        return new

    def by_halves(self) -> Placement:
        """The current placement, or the half way to a refused one, if both halves gain more than they take."""
        view, known = self._view, self._known
        best = sorted(self._refused, key=lambda refused: -refused[0])[:HALVED]
        for target in (other for _, end in best for other in self._with_other_ends(end.shares)):
            new = target.placement(0, view.costs.shape, known.devices, self._current)
            middle = halfway(view, self._current, new) if view.holds(new) else None
            half = None if middle is None else ShareArrays.of(middle, view.costs.shape, known.devices)
            if middle is None or half is None:
                continue
            after, between = self.judge.promised(ShareArrays.joined([target, half])).tolist()
            ways_s = known.costs.moves_s(moves(self._current, middle)) + known.costs.moves_s(moves(middle, new))
            steps = self._before, between, after
            if self._prices.pays_by_halves(steps, ways_s * self._known.present.second, view.interval_tokens):
                return self._current if self._loses(End(between, half)) else middle
        return self._current

    def _with_other_ends(self, shares: ShareArrays) -> Iterator[ShareArrays]:
        """A placement, and the same with both ends of the model on any device, those that gain, the best first."""
        yield shares
        everyone = np.arange(len(self._known.devices))
        others = replace(shares.taken(0 * everyone), embed=everyone, lm_head=everyone)
        costs = self.judge.promised(others)
        for at in costs.argsort(kind="stable").tolist():
            if costs[at] < self._before * (1 - WORTH):
                yield others.taken([at])

    def _loses(self, end: End) -> bool:
        """Whether a placement would lose until the change comes for which it is good.

        What no longer fits has to be left.
        """
        return self._prospect.early and self._known.fits and self._known.is_slower(end)

    def nearest_to_fitting(self) -> Placement | None:
        """A placement near by that comes closest to fitting, where none that fits is to be had in one step."""
        known, placements = self._known, self._known.near.placements
        missing_bytes = known.near.needs.missing_bytes  # [k]
        less = np.flatnonzero(missing_bytes < known.near.missing_bytes)
        for at in less[missing_bytes[less].argsort(kind="stable")][:BESIDE].tolist():
            shares = placements.unfolded([at])
            new = shares.placement(0, self._view.costs.shape, known.devices, self._current)
            if not overfull(self._view, new, self._current) and self._is_accepted(End(0.0, shares)):
                return new
        return None

    def _is_accepted(self, end: End) -> bool:
        view, known = self._view, self._known
        if view.refused is not None and view.has_refused(known.placement(end)):
            return False
        if _counts_exactly(view) and known.has_room(end):
            return True
        return not refusing_devices(view, self._current, known.placement(end), self._held)


def _counts_exactly(view: ClusterView) -> bool:
    """Whether what is counted in arrays of a migration is no less than what devices reserve."""
    alike = view.by_layer is None and view.costs.of_every_step
    return alike and view.sequences == 1 and not (view.gather or view.precopy or view.lost)


def is_slower(view: ClusterView, new: Placement, old: Placement) -> bool:
    """Whether the next step of a placement takes longer than that of another, as far as the closed form knows both.

    Both fit.
    """
    devices = np.array(sorted({*new.owner.values(), *old.owner.values()}))
    after, before = (ShareArrays.of(placement, view.costs.shape, devices) for placement in (new, old))
    return after is not None and before is not None and is_step_slower(ShareJudge(view, devices, 1), after, before)
