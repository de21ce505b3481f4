"""Replicas: which devices have a copy of a block, in case the one that owns it is lost. Pure; no time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.memory import Usage, caches_bytes
from edgeemu.placement.placement import Placement
from edgeemu.placement.shipments import weight_bytes


class Replica(NamedTuple):
    """A copy of a block, on a device that does not own it."""

    block: Block
    holder: int


def replica_bytes(block: Block, usage: Usage) -> int:
    """Bytes that a replica takes on any device: all weights of the block, and its caches at full length.

    `usage` is of any device: it has the lengths of the sequences.
    """
    caches = caches_bytes(usage.costs, usage.total_tokens, usage.beside) if block.kind is Kind.HEAD else 0
    return weight_bytes(block, usage.costs) + caches


def bytes_beside(placement: Placement, replicas: Iterable[Replica], usages: Sequence[Usage]) -> Counter[int]:
    """Bytes of replicas by holder, beside the blocks of a placement: what its holder owns is no replica."""
    found = Counter[int]()
    for block, holder in replicas:
        if placement.owner.get(block) != holder:
            found[holder] += replica_bytes(block, usages[holder])
    return found


@dataclass(slots=True)
class _Holder:
    """Memory of a device that holds replicas beside its own blocks."""

    usage: Usage  # as if they were its own
    memory_bytes: int
    held_bytes: int  # weights and caches, of its own blocks and of replicas

    @classmethod
    def of(cls, usage: Usage, memory_bytes: int) -> Self:
        page = usage.page()
        return cls(usage, memory_bytes, page.weights_bytes + page.cache_bytes)

    def with_(self, blocks: Iterable[Block]) -> int:
        """Return the bytes with replicas of these blocks, and with the workspace to run them."""
        blocks = list(blocks)
        page = self.usage.page_with(*blocks)
        own = self.held_bytes + page.workspace_bytes + page.messages_bytes
        return own + sum(replica_bytes(block, self.usage) for block in blocks)

    def fits(self, blocks: Iterable[Block]) -> bool:
        return self.memory_bytes > 0 and self.with_(blocks) <= self.memory_bytes

    def take(self, block: Block) -> None:
        self.held_bytes += replica_bytes(block, self.usage)
        self.usage.add(block)


def place_replicas(
    placement: Placement,
    wanted: int,
    usages: Sequence[Usage],
    memory_bytes: Sequence[int],
    way_s: Callable[[int, int], float],
    before: Collection[Replica] = (),
) -> frozenset[Replica]:
    """Choose `wanted` holders for every block: few for the blocks of one owner, and those that it reaches soonest.

    `usages` are what devices hold under the placement, and are changed. A holder has room for its replicas, and to run
    them, within its `memory_bytes` (0: it holds nothing). `way_s` is the time from an owner to a holder. Those that
    have replicas `before` keep them where they can.

    Raises:
        InfeasibleError: there is no room for all.
    """
    found = set[Replica]()
    holders = [_Holder.of(usage, size) for usage, size in zip(usages, memory_bytes, strict=True)]
    blocks_of: dict[int, list[Block]] = defaultdict(list)
    for block, owner in sorted(placement.owner.items()):
        blocks_of[owner].append(block)
    for owner in sorted(blocks_of, key=lambda owner: (-holders[owner].held_bytes, owner)):
        blocks = blocks_of[owner]
        others = [device for device, size in enumerate(memory_bytes) if size and device != owner]
        had = Counter(replica.holder for replica in before if placement.owner.get(replica.block) == owner)
        others.sort(key=lambda device: (-had[device], way_s(owner, device), device))
        for _ in range(wanted):
            free = (at for at in others if not any(Replica(block, at) in found for block in blocks))
            whole = next((at for at in free if holders[at].fits(blocks)), None)
            rest = blocks
            for at in others if whole is None else [whole]:
                rest = _given(at, holders[at], rest, found)
            if rest:
                raise InfeasibleError(_lacking(rest, owner, {at: holders[at] for at in others}))
    return frozenset(found)


def _given(at: int, holder: _Holder, blocks: Iterable[Block], found: set[Replica]) -> list[Block]:
    """Have a device hold the blocks that it has room for. Return the others."""
    rest = []
    for block in blocks:
        if Replica(block, at) in found or not holder.fits([block]):
            rest.append(block)
        else:
            holder.take(block)
            found.add(Replica(block, at))
    return rest


def _lacking(rest: Sequence[Block], owner: int, others: Mapping[int, _Holder]) -> str:
    some = list(others.items())[:3]
    told = ", ".join(
        f"device {at} would need {holder.with_(rest[:1]):,} of {holder.memory_bytes:,} B" for at, holder in some
    )
    more = f", and {len(others) - len(some)} more" if len(others) > len(some) else ""
    return f"no room for replicas of {len(rest)} blocks of device {owner}; for {rest[0]}: {told or 'no device'}{more}"


def promotion(placement: Placement, lost: Collection[int], replicas: Iterable[Replica]) -> list[Replica] | None:
    """Return a replica of every block that lost devices had, on as few devices as there can be; None: one has none."""
    of_block: dict[Block, list[int]] = defaultdict(list)
    for block, holder in replicas:
        if placement.owner[block] in lost and holder not in lost:
            of_block[block].append(holder)
    count = Counter(holder for holders in of_block.values() for holder in holders)
    blocks = sorted(block for block, owner in placement.owner.items() if owner in lost)
    if not all(of_block[block] for block in blocks):
        return None
    return [Replica(block, min(of_block[block], key=lambda device: (-count[device], device))) for block in blocks]
