"""Promise of a change of placement by a policy's closed forms: steps before and after, and the pause. Pure."""

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Move, Placement, is_divided
from edgeemu.policies.compiled.share_code import StepCode, functions_made
from edgeemu.policies.search.going_back import placed_on
from edgeemu.policies.search.pipeline_moves import round_s
from edgeemu.policies.search.share_proposals import prepared_devices
from edgeemu.policies.search.share_search import ShareJudge
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts, migration_s
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.policies.view.step_time import StepTimes

MAX_DEVICES = 64  # with divided layers, between all of which there can be messages
OTHERWISE = 1e-6  # relative, more than by how much closed forms differ by rounding


class ExpectedGain(NamedTuple):
    """Time until every sequence in flight has its next token, and the time for which a change makes them wait."""

    before_s: float | None  # None: no closed form knows the placement
    after_s: float | None
    migration_s: float


def expected_gain(view: ClusterView, old: Placement, new: Placement) -> ExpectedGain:
    """Compute what a change of placement is expected to gain at the next step, and to take."""
    rounds = _Rounds(view, prepared_devices(view, old, new))
    return ExpectedGain(rounds.round_s(old), rounds.round_s(new), _migration_s(view, old, new))


def may_pay(view: ClusterView, old: Placement, new: Placement, moved: Iterable[Move], steps: int) -> bool:
    """Whether a change may gain more in so many steps than it takes: if not, it is sure that `expected_gain` says so.

    `moved`: its moves, of which the caches and weights of heads are counted, each link alone.
    """
    shape, devices = view.costs.shape, prepared_devices(view, old, new)
    if functions_made() is None or view.sequences > 1 or view.lost or len(devices) > MAX_DEVICES:
        return True
    known = [placed_on(each, shape, devices) for each in (old, new)]
    shares = [each.shares for each in known if each is not None]
    if len(shares) < len(known):
        return True
    heads = Counter((move.source, move.target) for move in moved if move.block.kind is Kind.HEAD)
    s_per_bit, bits = view.links.wire.s_per_bit, MoveCosts(view).link_bits[Kind.HEAD]
    least_s = max((count * bits * s_per_bit.pair(*pair) for pair, count in heads.items()), default=0.0)
    rounds_s = StepCode(view, devices, view.past).steps(Folded.of(ShareArrays.joined(shares)))
    before_s, after_s = map(float, rounds_s)
    return steps * (before_s * (1 + OTHERWISE) - after_s) >= least_s * (1 - OTHERWISE)


def pays_within(view: ClusterView, old: Placement, new: Placement, tokens: float) -> bool:
    """Whether so many steps gain more by a change of placement than it takes; not if no closed form knows either."""
    rounds = _Rounds(view, prepared_devices(view, old, new))
    before_s = rounds.round_s(old)
    if before_s is None:
        return False
    moved_s = _migration_s(view, old, new)
    if tokens * (before_s - rounds.least_s(new)) <= moved_s:
        return False
    after_s = rounds.round_s(new)
    return after_s is not None and tokens * (before_s - after_s) > moved_s


def _migration_s(view: ClusterView, old: Placement, new: Placement) -> float:
    """Seconds that the sequence waits for the moves; of many blocks at once, where none is divided."""
    shape = view.costs.shape
    if view.lost or is_divided(old, shape.n_layers) or is_divided(new, shape.n_layers):
        return migration_s(view, old, new)
    return MoveCosts(view).migration_s(layout_of(old, shape), layout_of(new, shape))


class _Rounds:
    """Closed forms of a view, made once for the placements on some devices, [n]."""

    def __init__(self, view: ClusterView, devices: IntArray) -> None:
        self._view, self._devices = view, devices

    @cached_property
    def _times(self) -> StepTimes:
        return StepTimes(self._view)

    @cached_property
    def _judge(self) -> ShareJudge:
        return ShareJudge(self._view, self._devices, 1)

    def round_s(self, placement: Placement) -> float | None:
        """Time until every sequence in flight has its next token; None: no closed form knows the placement."""
        shape = self._view.costs.shape
        if not is_divided(placement, shape.n_layers):
            return round_s(self._times, layout_of(placement, shape), self._view.sequences)
        few = len(self._devices) <= MAX_DEVICES
        shares = ShareArrays.of(placement, shape, self._devices) if few else None
        return None if shares is None else float(self._judge.round_s(shares)[0])

    def least_s(self, placement: Placement) -> float:
        """A lower bound of `round_s` that is known sooner; 0 where layers are divided."""
        shape = self._view.costs.shape
        return 0.0 if is_divided(placement, shape.n_layers) else self._times.least_step_s(layout_of(placement, shape))
