"""Identity as the key of a cache: what a run has or had is never changed, and comparing it would take longer."""

from functools import lru_cache
from typing import Generic, TypeVar

from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.placement import Placement
from edgeemu_kernels.shape import ModelShape

_Kept = TypeVar("_Kept")


class Same(Generic[_Kept]):
    """An object, or several, as the key of a cache, by which object it is."""

    def __init__(self, kept: _Kept) -> None:
        self.kept = kept

    def __hash__(self) -> int:
        return id(self.kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.kept is self.kept


def layout_of(placement: Placement, shape: ModelShape) -> PlacementArrays:
    """A placement as arrays, which nobody may write into; those of the last few are kept.

    Raises:
        PlacementError: a block is in shards, or is not placed.
    """
    return _layout_of(Same(placement), shape)


@lru_cache(maxsize=8)
def _layout_of(known: Same[Placement], shape: ModelShape) -> PlacementArrays:
    layout = PlacementArrays.of(known.kept, shape)
    for owners in (layout.heads, layout.proj, layout.ffn):
        owners.setflags(write=False)
    return layout
