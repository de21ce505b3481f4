"""Placements in which columns of a projection are apart from the heads whose outputs they multiply. Pure.

The search over shares has them together. Apart, they cost a message, which pays where memory is so short that a device
makes better use of it for units of the feed-forward block.
"""

from collections import defaultdict
from collections.abc import Iterator

from edgeemu.placement.blocks import Block, Kind, ffn, shards
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView


def apart(view: ClusterView, placement: Placement) -> Iterator[Placement]:
    """Move all columns of a layer from one device to another that takes part; as many bytes of units come back."""
    columns: dict[tuple[int, int], list[Block]] = defaultdict(list)  # by layer and device
    for block, device in placement.owner.items():
        if block.kind is Kind.PROJ and block.is_shard:
            columns[block.layer, device].append(block)
    for (layer, source), moved in columns.items():
        number = sum(map(view.costs.weight_bytes, moved)) // view.costs.weight_bytes(ffn(layer, 1)) + 1
        for target in placement.devices():
            if target == source:
                continue
            elsewhere = placement.moved(moved, target)
            units = [unit for unit in shards(view.costs.shape, Kind.FFN, layer) if placement.owner.get(unit) == target]
            yield elsewhere.moved(units[:number], source)
            if units:
                yield elsewhere
