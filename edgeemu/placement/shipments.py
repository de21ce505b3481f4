"""Shipments of a migration: which bytes go from which device to which, cut into chunks."""

from collections.abc import Iterable
from typing import NamedTuple

from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.costs import Costs


class Shipment(NamedTuple):
    """One block's way in one round: rows `first_row` to `end_row` of a sequence's cache, its weights if they must go.

    `sequence` is -1 where there is no cache; rows then say how long the longest sequence is.
    """

    block: Block
    source: int
    target: int
    sequence: int
    first_row: int
    end_row: int
    with_weights: bool


def weight_bytes(block: Block, costs: Costs) -> int:
    """Weights that a block takes along; a group of heads, and a shard of a feed-forward, take a copy of their norm."""
    with_norm = block.kind is Kind.HEAD or (block.kind is Kind.FFN and block.is_shard)
    return costs.weight_bytes(block) + (costs.norm_bytes() if with_norm else 0)


def payload_bytes(shipment: Shipment, costs: Costs) -> int:
    """What a shipment carries, without headers."""
    costs = costs.at_step(1, shipment.end_row)
    size = weight_bytes(shipment.block, costs) if shipment.with_weights else 0
    if shipment.block.kind is Kind.HEAD:
        size += costs.kv_bytes(shipment.end_row) - costs.kv_bytes(shipment.first_row)
    return size


def chunk_sizes(payload: int, chunk: int) -> list[int]:
    """A payload in messages of at most `chunk` bytes; also an empty payload is one message, so that it can arrive."""
    whole, rest = divmod(payload, chunk)
    return [chunk] * whole + ([rest] if rest or not whole else [])


def message_sizes(shipment: Shipment, costs: Costs, chunk: int) -> list[int]:
    """Sizes of a shipment's messages on the wire."""
    return [costs.header_bytes + size for size in chunk_sizes(payload_bytes(shipment, costs), chunk)]


def chains(shipments: Iterable[Shipment]) -> dict[tuple[int, int], list[Shipment]]:
    """Shipments by connection, each in block order: one after the other on a connection, connections in parallel."""
    ways: dict[tuple[int, int], list[Shipment]] = {}
    for shipment in sorted(shipments):
        ways.setdefault((shipment.source, shipment.target), []).append(shipment)
    return dict(sorted(ways.items()))
