"""The links of a run's devices, as the controller has them: where each listens, and the switchboard that shapes them.

Stamped links need nothing but an address. Kernel links have a process that holds the bridge and all queues.
"""

from edgeemu.cluster import Cluster
from edgeemu.fleet import Fleet
from edgeemu.link_choice import LinkChoice
from edgeemu.links import orders
from edgeemu.links.wiring import DATA_PORT, Wiring, wiring
from edgeemu.session import Session
from edgeemu.timeline import WallClock

_NAME = "~switchboard"  # no device has such a name


class Cabling:
    """`build` when the devices are there, `shape` when the dilation is known, `follow` when the timeline starts."""

    def __init__(self, choice: LinkChoice, cluster: Cluster, fleet: Fleet, session: Session) -> None:
        self.choice = choice
        self._fleet, self._session = fleet, session
        self._wiring: Wiring | None = None
        if choice.kind != "stamped":
            self._wiring = wiring(cluster, delays=choice.netem)

    @property
    def shaped(self) -> bool:
        """Whether the kernel does any of it."""
        return self._wiring is not None

    def address(self, device: int) -> str:
        """Where others find a device."""
        if self._wiring is None:
            return self._session.address(device)
        return f"tcp://{self._wiring.address(device)}:{DATA_PORT}"

    async def build(self, dilation: float) -> None:
        """All devices can reach each other, as fast as the host can. `dilation` as far as it is known: 1 if not."""
        if self._wiring is None:
            return
        spec = orders.SwitchboardSpec(self._session.control_address)
        await self._fleet.fork(_NAME, orders.encode(spec), "edgeemu.links.switchboard:run_switchboard")
        await self._session.receive(orders.Hello)  # its first word: before that, nothing reaches it
        await self._ask(orders.Build(self._wiring, tuple(self._session.pids), dilation))

    async def shape(self, dilation: float) -> None:
        if self._wiring is not None:
            await self._ask(orders.Shape(dilation))

    async def follow(self, clock: WallClock) -> None:
        """Links that change over time do so from now on."""
        if self._wiring is not None:
            await self._ask(orders.Begin(clock.start_s, clock.dilation))

    async def change(self, cluster: Cluster) -> None:
        """An event has made another cluster of it."""
        if self._wiring is not None:
            await self._ask(orders.Change(wiring(cluster, delays=self._wiring.delays)))

    async def end(self) -> None:
        if self._wiring is not None:
            await self._ask(orders.Stop())

    async def _ask(self, order: orders.Order) -> None:
        await self._session.tell_switchboard(orders.encode(order))
        await self._session.receive(orders.Done)
