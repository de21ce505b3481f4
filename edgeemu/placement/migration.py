"""Protocol of a migration: its states, its rounds of copying, and which step may follow which. Pure; no I/O.

A change of placement goes through *prepare* (every receiver reserves memory, or refuses), one or more *rounds* of
copying, and *commit* (routes switch, senders release memory). `pause` copies all in one round while the token waits.
`precopy` copies rows that are already written in the background, while tokens are generated under the old routes; the
token waits only for the rows since. A refusal, or an abort before commit, leaves the old placement as it was.

A projection or a feed-forward that is divided in only one of the two placements moves in shards. At commit every device
puts together what it is then to have of a divided block, of what it had and of what has arrived. For that it reserves
memory as well, because this is there twice meanwhile.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.memory import Usage
from edgeemu.placement.placement import Move, Placement, moves, regroupings
from edgeemu.placement.replicas import Replica
from edgeemu.placement.shipments import Shipment, weight_bytes
from edgeemu.placement.valid_rows import ValidRows


class IllegalTransitionError(EdgeemuError):
    """Raised for a step that the state of a migration does not allow."""


class MigrationState(Enum):
    PREPARING = "preparing"
    PREPARED = "prepared"
    COPYING = "copying"
    COPIED = "copied"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True)
class MigrationProtocol:
    """State machine of one change of placement. Events are method calls; an illegal one raises with the history."""

    epoch: int
    old: Placement
    new: Placement
    weights_on_flash: bool = False
    lost: frozenset[int] = frozenset()  # devices that lost what they had: it comes from storage, caches without rows
    store: int | None = None  # the device whose storage has all weights; None: every device reads from its own
    valid: ValidRows | None = None  # rows of caches, after a loss; None: all
    promoted: frozenset[Replica] = frozenset()  # that become the blocks themselves: nothing of them moves
    state: MigrationState = MigrationState.PREPARING
    round: int = -1
    rows: dict[int, int] = field(default_factory=dict)  # cache rows that have been shipped, by sequence
    left: Placement = field(init=False)  # what is there of `old`
    moves: list[Move] = field(init=False)
    _awaited: set[int] = field(default_factory=set)
    _history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.old.left_by(self.lost)
        self.moves = [
            move if move.source >= 0 else move._replace(source=~move.source) for move in moves(self.left, self.new)
        ]

    def prepared(self) -> None:
        """Record that every receiver has reserved the memory that it needs."""
        self._step("prepared", MigrationState.PREPARED, MigrationState.PREPARING)

    def aborted(self, why: str) -> None:
        """Record a refusal or an abort. Illegal once the routes may have switched."""
        self._step(
            f"aborted: {why}",
            MigrationState.ABORTED,
            MigrationState.PREPARING,
            MigrationState.PREPARED,
            MigrationState.COPYING,
            MigrationState.COPIED,
        )

    def next_round(self, rows: Mapping[int, int]) -> list[Shipment]:
        """Start a round: the shipments for caches of open sequences with so many rows each.

        The first round ships weights and all rows; later ones the rows since, and those of sequences begun since. Rows
        of sequences that have ended were shipped in vain.
        """
        for sequence, end_row in rows.items():
            if end_row < self.rows.get(sequence, 0):
                raise self._illegal(f"a round for {end_row} rows of sequence {sequence}, after {self.rows[sequence]}")
        told = ", ".join(f"{end_row} of sequence {sequence}" for sequence, end_row in sorted(rows.items()))
        self._step(
            f"round {self.round + 1} for rows {told}",
            MigrationState.COPYING,
            MigrationState.PREPARED,
            MigrationState.COPIED,
        )
        self.round += 1
        shipments = [shipment for move in self.moves for shipment in self._shipments(move, rows)]
        self.rows = dict(rows)
        self._awaited = {shipment.target for shipment in shipments}
        if not self.round:
            self._awaited |= {move.target for move in self.moves if self.from_flash(move)}
        if not self._awaited:
            self.state = MigrationState.COPIED
        return shipments

    def from_flash(self, move: Move) -> bool:
        """Whether the receiver of a block reads its weights from its own storage."""
        if self.is_there(move):
            return False
        return self.weights_on_flash or (move.source in self.lost and self.store in (None, move.target))

    def is_there(self, move: Move) -> bool:
        """Whether the receiver of a block has a replica of it, which is as good."""
        return bool(self.promoted) and Replica(move.block, move.target) in self.promoted

    def _shipments(self, move: Move, rows: Mapping[int, int]) -> Iterator[Shipment]:
        """Shipments of one block: its weights go with the rows of the first sequence."""
        block, source, target, ends_meet = move
        if self.is_there(move):
            return
        with_weights = self.round == 0 and not self.from_flash(move)
        if source in self.lost:
            if with_weights and self.store is not None:
                yield Shipment(block, self.store, target, -1, 0, 0, with_weights, ends_meet)
            return
        if self.valid is not None:
            shorter = self.valid.at(block.layer)
            rows = {sequence: min(end, shorter.get(sequence, end)) for sequence, end in rows.items()}
        ranges = [(n, self.rows.get(n, 0), end) for n, end in sorted(rows.items())] if block.kind is Kind.HEAD else []
        if not ranges and self.round == 0:
            ranges = [(-1, 0, max(rows.values(), default=0))]
        for number, (sequence, first_row, end_row) in enumerate(ranges):
            with_these = with_weights and not number
            yield Shipment(block, source, target, sequence, first_row, end_row, with_these, ends_meet)

    def arrived(self, device: int, number: int) -> bool:
        """Record that a receiver has all of a round. Returns whether every receiver has."""
        if self.state is not MigrationState.COPYING or number != self.round or device not in self._awaited:
            raise self._illegal(f"round {number} arrived at device {device}")
        self._history.append(f"round {number} arrived at device {device}")
        self._awaited.remove(device)
        if not self._awaited:
            self.state = MigrationState.COPIED
        return not self._awaited

    def committed(self) -> None:
        """Record that routes have switched on every device, and senders have released the blocks."""
        self._step("committed", MigrationState.COMMITTED, MigrationState.COPIED)

    def _step(self, what: str, to: MigrationState, *allowed: MigrationState) -> None:
        if self.state not in allowed:
            raise self._illegal(what)
        self._history.append(what)
        self.state = to

    def _illegal(self, what: str) -> IllegalTransitionError:
        before = "; ".join(self._history) or "nothing"
        return IllegalTransitionError(
            f"migration to epoch {self.epoch}: {what}, but it is {self.state.value}. Before that: {before}"
        )


def incoming(migration: MigrationProtocol) -> dict[int, list[Move]]:
    """Receivers, ascending, and the blocks that each receives."""
    by_target: dict[int, list[Move]] = defaultdict(list)
    for move in migration.moves:
        by_target[move.target].append(move)
    return dict(sorted(by_target.items()))


def copied_bytes(old: Placement, new: Placement, costs: Costs, moved: Sequence[Move] | None = None) -> dict[int, int]:
    """Bytes that are twice in the memory of devices that put shards together, by device. `moved`: the moves, if known.

    One block is put together after the other: it is the largest that counts.
    """
    most: dict[int, int] = {}
    for device, parts in regroupings(old, new, moved):  # of a block's shards, only the first can have another size
        size_bytes = costs.weight_bytes(parts[0]) + (len(parts) - 1) * costs.weight_bytes(parts[-1])
        most[device] = max(most.get(device, 0), size_bytes)
    return most


def reservation_bytes(moved: Iterable[Move], rows: int, costs: Costs) -> int:
    """Bytes that a receiver holds in addition until commit: weights, and caches of `rows` rows in all."""
    costs = costs.at_step(1, rows)
    alike = Counter((*move.block[:2], min(move.block.group, 1), move.ends_meet) for move in moved)
    return sum(  # the first shard of a block has the bias
        count
        * (weight_bytes(Block(kind, layer, group), costs, ends_meet=meet) + costs.kv_bytes(rows) * (kind is Kind.HEAD))
        for (kind, layer, group, meet), count in alike.items()
    )


class Need(NamedTuple):
    """Bytes that a device must have free: for arriving blocks and copies, and for its own growth until the switch.

    A device to which nothing is `moved`, but which puts the rest of its shards together, will hold less than before: it
    may use all of its memory for that, also what other work took since.
    """

    target: int
    moved: list[Move]
    reserve_bytes: int
    growth_bytes: int


def needs(
    migration: MigrationProtocol, held: Sequence[Usage], rows: int, last_rows: int, costs: Costs
) -> Iterator[Need]:
    """Needs by device, ascending. Caches hold `rows` rows now and at most `last_rows` when routes switch.

    `held` is the memory of each device under what is left of the old placement. If steps continue until the switch, it
    grows too, and messages need memory.
    """
    arriving = incoming(migration)
    copied = copied_bytes(migration.left, migration.new, costs.at_step(1, last_rows), migration.moves)
    for target in sorted(arriving.keys() | copied.keys()):
        moved = [move for move in arriving.get(target, []) if not migration.is_there(move)]
        if not moved and target not in copied:
            continue
        growth_bytes = 0
        if last_rows > rows:
            growth_bytes = held[target].groups.total() * costs.kv_bytes(last_rows - rows)
            growth_bytes += held[target].page().messages_bytes
        reserve_bytes = reservation_bytes(moved, last_rows, costs) + copied.get(target, 0)
        yield Need(target, moved, reserve_bytes, growth_bytes)


def flash_ends(migration: MigrationProtocol, at_s: float, flash_bytes_per_s: float, costs: Costs) -> dict[int, float]:
    """End of each receiver's read of weights from its own storage, in the first round and if they are there."""
    if migration.round > 0:
        return {}
    costs = costs.at_step(1, max(migration.rows.values(), default=0))
    read = {
        target: [
            weight_bytes(move.block, costs, ends_meet=move.ends_meet) for move in moved if migration.from_flash(move)
        ]
        for target, moved in incoming(migration).items()
    }
    return {target: at_s + sum(sizes) / flash_bytes_per_s for target, sizes in read.items() if sizes}
