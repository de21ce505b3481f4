"""One round of copying between device processes: of a migration, or to replicas."""

import math
from collections.abc import Iterable, Sequence

from edgeemu.device import protocol_out
from edgeemu.placement.shipments import Shipment
from edgeemu.run.processes.session import Session


class MigrationRound:
    """A round of copying, and the messages of receivers that have all of it."""

    def __init__(
        self, session: Session, epoch: int, number: int, shipments: Sequence[Shipment], reading: Iterable[int] = ()
    ) -> None:
        """`reading`: devices that read weights from their own storage."""
        self.epoch = epoch
        self.number = number
        self.shipments = shipments
        self.receivers = sorted({*(shipment.target for shipment in shipments), *reading})
        self.arrived: list[protocol_out.Arrived] = []
        self._told: set[int] = set()  # receivers
        self._session = session

    @property
    def complete(self) -> bool:
        """Whether every receiver has all of the round."""
        return len(self.arrived) == len(self.receivers)

    def take_arrivals(self, by_s: float) -> list[tuple[int, int]]:
        """Return the receivers that have had all of it by an instant, each with its number, since the last call."""
        arrived = [each.device for each in self.arrived if each.at_s <= by_s and each.device not in self._told]
        self._told.update(arrived)
        return [(device, self.number) for device in arrived]

    @property
    def is_told(self) -> bool:
        """Whether all arrivals have been taken."""
        return len(self._told) == len(self.receivers)

    @property
    def last_arrival_s(self) -> float:
        """When the last receiver of a complete round had all of it."""
        return max(message.at_s for message in self.arrived)

    async def wait(self, limit_s: float = math.inf) -> bool:
        """Wait until every receiver has all of the round. Return whether they have: not if a device was lost."""
        session = self._session
        await session.handle_until(protocol_out.Arrived, lambda: self.complete or bool(session.losses), limit_s)
        return self.complete
