"""Rows that say who holds what under a placement. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from edgeemu.placement.blocks import Block, Kind, n_shards
from edgeemu.placement.placement import Placement
from edgeemu.report.rows import PlacementRow
from edgeemu_kernels.shape import ModelShape


def placement_rows(
    placement: Placement, shape: ModelShape, names: Sequence[str], epoch: int, step: tuple[int, int], at_s: float
) -> list[PlacementRow]:
    """Make the rows of a placement in model order, consecutive groups and shards of one device together.

    `names` are those of the devices; `step`: sequence and number of the step before which it was decided.
    """
    return [
        PlacementRow(epoch, *step, at_s, str(kind), layer, first, end, of, names[device])
        for kind, layer, first, end, of, device in _held(placement, shape)
    ]


def placement_of(rows: Iterable[PlacementRow], numbers: Mapping[str, int]) -> Placement:
    """Return the placement that rows of one epoch say, which may be none of a model; `numbers` are those of devices."""
    owner: dict[Block, int] = {}
    for row in rows:
        kind = Kind(row.block)
        divided = kind is Kind.HEAD or row.of > 1
        for part in range(row.first, row.end) if divided else (-1,):
            owner[Block(kind, row.layer, part)] = numbers[row.device]
    return Placement(owner)


def _held(placement: Placement, shape: ModelShape) -> Iterator[tuple[Kind, int, int, int, int, int]]:
    """Blocks and runs of groups or shards: kind, layer, first and end, number of all, device."""
    owner = placement.owner
    for (kind, layer), blocks in groupby(sorted(owner, key=_in_order), key=lambda block: block[:2]):
        parts = list(blocks)
        of = 1 if parts[0].group < 0 else shape.n_groups if kind is Kind.HEAD else n_shards(shape, kind)
        for device, run in groupby(parts, key=owner.__getitem__):
            numbers = [max(block.group, 0) for block in run]
            yield kind, layer, numbers[0], numbers[-1] + 1, of, device


def _in_order(block: Block) -> tuple[int, int, int]:
    """Place of a block in the model."""
    kind, layer, group = block
    ends = {Kind.EMBED: -1, Kind.LM_HEAD: 1 << 30}
    return ends.get(kind, layer), list(Kind).index(kind), group
