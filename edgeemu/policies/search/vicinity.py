"""Placements near the one in force, from which a search goes on: what it looks at first. Pure."""

from functools import cached_property, lru_cache

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.ends_code import EndsCode
from edgeemu.policies.search.going_back import earlier_shares, known_layouts
from edgeemu.policies.search.share_moves import FEW_LAYERS, all_around, scopes
from edgeemu.policies.search.share_proposals import simple_seeds
from edgeemu.policies.search.share_search import changes_of
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_needs import FindsNeeds, Requirements
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.packed_tuples import Packed


class Vicinity:
    """Neighbours of a placement that change its ends or all layers alike, of few layers also single ones; then others.

    Others are the same on other devices, simple placements, and those that the run has left.
    """

    def __init__(
        self, view: ClusterView, devices: IntArray, base: ShareArrays, needs: FindsNeeds, code: EndsCode | None = None
    ) -> None:
        """`code`: machine code that has looked around."""
        self._view, self._devices, self._base, self._needs, self._code = view, devices, base, needs, code

    @cached_property
    def _made(self) -> tuple[Folded, int]:
        """The placements, and how many are neighbours."""
        if self._code is not None:
            return self._code.near
        others = ShareArrays.joined(
            [simple_seeds(self._view, self._devices), earlier_shares(self._view, self._devices)]
        )
        around = next(all_around(self._base, others))
        placements, beside = changes_of(self._view).vicinity(around, around.runs.folded(others))
        return Folded(placements, around.runs), beside

    @cached_property
    def placements(self) -> Folded:
        """All of them: [k]."""
        return self._made[0]

    @property
    def beside(self) -> int:
        """How many are neighbours."""
        return self._made[1]

    @cached_property
    def missing_bytes(self) -> int:
        """Bytes that devices lack for the placement in force."""
        if self._code is not None:
            return self._code.missing_bytes
        return int(self._needs.of(Folded.of(self._base)).missing_bytes[0])

    @cached_property
    def needs(self) -> Requirements:
        """Requirements of the placements."""
        return self._needs.of(self.placements)


def ends_code(
    view: ClusterView, costs: MoveCosts, devices: IntArray, current: Placement, everyone: Packed, *, divide: bool
) -> EndsCode | None:
    """Machine code that looks around a placement; None where there is none.

    `everyone`: all devices. `divide`: whether blocks may be divided.
    """
    n_layers = view.costs.shape.n_layers
    if n_layers > FEW_LAYERS:
        return None
    return EndsCode(view, costs, devices, everyone, known_layouts(view, current), _ranges(n_layers), divide=divide)


@lru_cache(maxsize=4)
def _ranges(n_layers: int) -> tuple[tuple[int, int], ...]:
    return tuple(scopes(n_layers))
