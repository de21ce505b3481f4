"""One round of a migration between device processes."""

from collections.abc import Sequence

from edgeemu.device import protocol_out
from edgeemu.placement.shipments import Shipment
from edgeemu.run.processes.session import Session


class MigrationRound:
    """A round of a migration, and the messages of receivers that have all of it."""

    def __init__(self, session: Session, epoch: int, number: int, shipments: Sequence[Shipment]) -> None:
        self.epoch = epoch
        self.number = number
        self.shipments = shipments
        self.receivers = sorted({shipment.target for shipment in shipments})
        self.arrived: list[protocol_out.Arrived] = []
        self._session = session

    @property
    def complete(self) -> bool:
        """Whether every receiver has all of the round."""
        return len(self.arrived) == len(self.receivers)

    @property
    def last_arrival_s(self) -> float:
        """When the last receiver of a complete round had all of it."""
        return max(message.at_s for message in self.arrived)

    async def wait(self) -> None:
        """Wait until every receiver has all of the round."""
        while not self.complete:
            await self._session.handle_next(protocol_out.Arrived)
