"""A migration of a run between its decision and its end, and the rows that record it. Pure; no I/O."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeemu.placement.costs import Costs
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.shipments import Shipment, payload_bytes
from edgeemu.report.rows import MigrationRow
from edgeemu.timeline.steps import Step


@dataclass(slots=True)
class RunningMigration:
    """A migration that has begun. `copied`: its background copy has arrived, or steps wait for it."""

    protocol: MigrationProtocol
    step: Step  # the step before which it was decided
    began_s: float
    copied: bool = False
    last_round: bool = False  # it is on its way, or has arrived
    waited_from_s: float | None = None  # since when steps wait
    sent_bytes: Counter[str] = field(default_factory=Counter)  # by block

    @property
    def all_bytes(self) -> int:
        """Bytes that were shipped, of all blocks."""
        return self.sent_bytes.total()

    def next_round(self, rows: Mapping[int, int], costs: Costs) -> list[Shipment]:
        """Return what to ship now, when caches hold so many rows by sequence, and count its bytes."""
        shipments = self.protocol.next_round(rows)
        for shipment in shipments:
            self.sent_bytes[str(shipment.block)] += payload_bytes(shipment, costs)
        return shipments

    def rows(self, names: Sequence[str], outcome: str, ended_s: float, pause_s: float) -> list[MigrationRow]:
        """Return a row for each block that was to move; `names` are those of the devices."""
        return [
            MigrationRow(
                sequence=self.step.sequence,
                step=self.step.step,
                epoch=self.protocol.epoch,
                block=str(move.block),
                source=names[move.source],
                target=names[move.target],
                bytes=self.sent_bytes[str(move.block)],
                began_s=self.began_s,
                ended_s=ended_s,
                pause_s=pause_s,
                outcome=outcome,
            )
            for move in self.protocol.moves
        ]
