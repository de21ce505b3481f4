"""The links of a run's devices, as the controller has them: where each listens, and the switchboard that shapes them.

Stamped links need nothing but an address. Kernel links have a process that holds the bridge and all queues.
"""

from edgeemu.cluster.cluster import Cluster
from edgeemu.host.fleet import Fleet
from edgeemu.links.netns import protocol
from edgeemu.links.netns.layout import DATA_PORT, NetworkLayout, network_layout
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.processes.session import Session
from edgeemu.timeline.clock import WallClock

_NAME = "~switchboard"  # no device has such a name


class LinkSetup:
    """`build` when the devices are there, `shape` when the dilation is known, `follow` when the timeline starts."""

    def __init__(self, choice: LinkChoice, cluster: Cluster, fleet: Fleet, session: Session) -> None:
        self.choice = choice
        self._fleet, self._session = fleet, session
        self._wiring: NetworkLayout | None = None
        if choice.kind != "stamped":
            self._wiring = network_layout(cluster, delays=choice.netem)

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
        spec = protocol.NetworkProcessConfig(self._session.control_address)
        await self._fleet.fork(_NAME, protocol.encode(spec), "edgeemu.links.netns.process:run_network_process")
        await self._session.receive(protocol.NetworkReady)  # its first word: before that, nothing reaches it
        await self._ask(protocol.Build(self._wiring, tuple(self._session.pids), dilation))

    async def shape(self, dilation: float) -> None:
        if self._wiring is not None:
            await self._ask(protocol.Shape(dilation))

    async def follow(self, clock: WallClock) -> None:
        """Links that change over time do so from now on."""
        if self._wiring is not None:
            await self._ask(protocol.BeginVariation(clock.start_s, clock.dilation))

    async def change(self, cluster: Cluster) -> None:
        """An event has made another cluster of it."""
        if self._wiring is not None:
            await self._ask(protocol.ChangeQueues(network_layout(cluster, delays=self._wiring.delays)))

    async def end(self) -> None:
        if self._wiring is not None:
            await self._ask(protocol.StopNetwork())

    async def _ask(self, order: protocol.Order) -> None:
        await self._session.tell_switchboard(protocol.encode(order))
        await self._session.receive(protocol.Done)
