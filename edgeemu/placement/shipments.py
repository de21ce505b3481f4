"""Shipments of a migration: which bytes go from which device to which, cut into chunks."""

from collections.abc import Iterable
from typing import NamedTuple

from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.costs import Costs


class Shipment(NamedTuple):
    """Shipment of one block in one round: rows `first_row` to `end_row` of a sequence's cache, and weights if needed.

    `sequence` is -1 for a block without a cache; its rows are the length of the longest sequence. `ends_meet`: as in
    `Move`.
    """

    block: Block
    source: int
    target: int
    sequence: int
    first_row: int
    end_row: int
    with_weights: bool
    ends_meet: bool = False


def weight_bytes(block: Block, costs: Costs, *, ends_meet: bool = False) -> int:
    """Weights that a block brings; groups of heads and shards of a feed-forward bring a copy of their norm.

    An end of a tied model brings no table to where the ends meet.
    """
    with_norm = block.kind is Kind.HEAD or (block.kind is Kind.FFN and block.is_shard)
    there_bytes = costs.table_bytes() if ends_meet and costs.shape.tied_embeddings else 0
    return costs.weight_bytes(block) + (costs.norm_bytes() if with_norm else 0) - there_bytes


def payload_bytes(shipment: Shipment, costs: Costs) -> int:
    """Bytes of a shipment without headers."""
    costs = costs.at_step(1, shipment.end_row)
    size = weight_bytes(shipment.block, costs, ends_meet=shipment.ends_meet) if shipment.with_weights else 0
    if shipment.block.kind is Kind.HEAD:
        size += costs.kv_bytes(shipment.end_row) - costs.kv_bytes(shipment.first_row)
    return size


def chunk_sizes(payload: int, chunk: int) -> list[int]:
    """Sizes of the chunks of a payload, at most `chunk` bytes; an empty payload is one chunk, so that it arrives."""
    whole, rest = divmod(payload, chunk)
    return [chunk] * whole + ([rest] if rest or not whole else [])


def message_sizes(shipment: Shipment, costs: Costs, chunk: int) -> list[int]:
    """Sizes of a shipment's messages on the wire."""
    return [costs.header_bytes + size for size in chunk_sizes(payload_bytes(shipment, costs), chunk)]


def chains(shipments: Iterable[Shipment]) -> dict[tuple[int, int], list[Shipment]]:
    """Shipments by connection, each in block order: sequential on a connection, parallel on several."""
    ways: dict[tuple[int, int], list[Shipment]] = {}
    for shipment in sorted(shipments):
        ways.setdefault((shipment.source, shipment.target), []).append(shipment)
    return dict(sorted(ways.items()))
