"""Progress of replicas: what they have, and what is on its way to them. Pure; no I/O, no time."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.placement import Placement
from edgeemu.placement.replicas import Replica
from edgeemu.placement.shipments import Shipment, weight_bytes


class ReplicaRound(NamedTuple):
    """A round: what is shipped to holders, and whose weights each reads from its own storage."""

    epoch: int
    number: int
    shipments: list[Shipment]
    reads: dict[int, list[Replica]]


class _PartOfRound(NamedTuple):
    """The part of one holder in a round that is under way."""

    number: int
    rows: dict[Replica, dict[int, int]]  # that it has then, by sequence
    loads: frozenset[Replica]  # weights


@dataclass(slots=True)
class ReplicaCopies:
    """State of the replicas of a placement.

    One round at a time goes to a holder. What is computed meanwhile waits for its next: a link that is too slow for a
    round a token has fewer and larger ones.
    """

    epoch: int
    placement: Placement
    replicas: frozenset[Replica]
    store: int | None = None  # the device whose storage has all weights; None: every holder reads from its own
    unloaded: frozenset[Replica] = frozenset()  # without weights
    _there: dict[Replica, dict[int, int]] = field(default_factory=dict)  # rows by sequence
    _under_way: dict[int, _PartOfRound] = field(default_factory=dict)  # by holder
    _number: int = -1

    def renewed(
        self, epoch: int, placement: Placement, replicas: frozenset[Replica], store: int | None
    ) -> "ReplicaCopies":
        """Return the state of other replicas, of another placement; those that were there before keep what they have.

        What is under way is lost. Rounds are numbered on.
        """
        lacking = (replicas - self.replicas) | (self.unloaded & replicas)
        there = {replica: rows for replica, rows in self._there.items() if replica in replicas}
        return ReplicaCopies(epoch, placement, replicas, store, lacking, there, _number=self._number)

    @property
    def loaded(self) -> frozenset[Replica]:
        """Replicas that have their weights."""
        return self.replicas - self.unloaded

    def rows(self, replica: Replica, sequence: int) -> int:
        """Return how many rows a replica has of a sequence's cache."""
        return self._there.get(replica, {}).get(sequence, 0)

    def common_rows(self, replicas: Iterable[Replica], kept: Mapping[int, int]) -> dict[int, int]:
        """Return the rows that all of some replicas have, and at most the `kept`, by sequence."""
        heads = [replica for replica in replicas if replica.block.kind is Kind.HEAD]
        return {
            sequence: min((end, *(self.rows(replica, sequence) for replica in heads))) for sequence, end in kept.items()
        }

    def next_round(self, rows: Mapping[int, int]) -> ReplicaRound | None:
        """Begin a round to all holders to which none is under way, for caches with so many rows. None: they have all.

        Rows are by open sequence; those of sequences that have ended are forgotten.
        """
        parts: dict[int, list[Replica]] = defaultdict(list)
        for replica in sorted(self.replicas):
            if replica.holder not in self._under_way:
                parts[replica.holder].append(replica)
        number, shipments, reads = self._number + 1, list[Shipment](), dict[int, list[Replica]]()
        for holder, replicas in parts.items():
            loads = [replica for replica in replicas if replica in self.unloaded]
            shipped = [shipment for replica in replicas for shipment in self._shipments(replica, rows)]
            if read := [replica for replica in loads if self.store in (None, holder)]:
                reads[holder] = read
            if shipped or read:
                heads = [replica for replica in replicas if replica.block.kind is Kind.HEAD]
                self._under_way[holder] = _PartOfRound(number, {head: dict(rows) for head in heads}, frozenset(loads))
            shipments += shipped
        if not shipments and not reads:
            return None
        self._number = number
        return ReplicaRound(self.epoch, number, shipments, reads)

    def _shipments(self, replica: Replica, rows: Mapping[int, int]) -> Iterator[Shipment]:
        block, holder = replica
        if replica in self.unloaded and self.store is not None and self.store != holder:
            yield Shipment(block, self.store, holder, -1, 0, 0, True)
        if block.kind is Kind.HEAD:
            owner = self.placement.owner[block]
            for sequence, end in sorted(rows.items()):
                if (first := self.rows(replica, sequence)) < end:
                    yield Shipment(block, owner, holder, sequence, first, end, False)

    def arrived(self, holder: int, number: int) -> None:
        """Note that a holder has all of a round; one that was given up is nothing."""
        under_way = self._under_way.get(holder)
        if under_way is not None and under_way.number == number:
            del self._under_way[holder]
            self._there.update(under_way.rows)
            self.unloaded -= under_way.loads

    def stop(self) -> None:
        """Give up what is under way: it is shipped again."""
        self._under_way.clear()

    def lost(self, holders: Collection[int]) -> None:
        """Note that holders have lost what they had, and what was under way to them."""
        gone = frozenset(replica for replica in self.replicas if replica.holder in holders)
        self.unloaded |= gone
        for replica in gone:
            self._there.pop(replica, None)
        for holder in holders:
            self._under_way.pop(holder, None)

    def rewound(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        """Shorten the rows, with none under way: those of the first `layers` layers to `rows`, others to `kept`."""
        for replica, there in self._there.items():
            ends = rows if replica.block.layer < layers else kept
            self._there[replica] = {n: min(end, ends.get(n, end)) for n, end in there.items()}


def read_ends(round_: ReplicaRound, at_s: float, flash_bytes_per_s: float, costs: Costs) -> dict[int, float]:
    """End of each holder's read of weights from its own storage, from an instant on."""
    return {
        holder: at_s + sum(weight_bytes(replica.block, costs) for replica in read) / flash_bytes_per_s
        for holder, read in round_.reads.items()
    }
