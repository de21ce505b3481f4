"""The links of a run's devices on the controller's side: where each listens, and the process that shapes kernel links.

Stamped links need nothing but an address. Kernel links have a process that owns the bridge and all queues.
"""

from collections.abc import Sequence

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.link_variation import BIN_MS
from edgeemu.host.fleet import Fleet
from edgeemu.links.netns import protocol
from edgeemu.links.netns.layout import DATA_PORT, NetworkLayout, network_layout
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.processes.session import Session
from edgeemu.timeline.clock import WallClock

_NAME = "~network"  # no device has such a name


class LinkSetup:
    """Links of a run: `build` for running devices, `shape` with the dilation, `follow` when the timeline starts."""

    def __init__(self, choice: LinkChoice, cluster: Cluster, fleet: Fleet, session: Session) -> None:
        self.choice = choice
        self.limitation = ""
        self._fleet, self._session = fleet, session
        self._layout: NetworkLayout | None = None
        if choice.kind != "stamped":
            self._layout = network_layout(cluster, delays=choice.netem)
            if any(link.varies is not None and link.varies.deliveries is not None for link in cluster.links()):
                self.limitation = f"the kernel follows packet traces by their mean rates in {BIN_MS} ms"

    @property
    def shaped(self) -> bool:
        """Whether the kernel shapes the links, in part or altogether."""
        return self._layout is not None

    def address(self, device: int) -> str:
        """Return where others reach a device."""
        if self._layout is None:
            return self._session.address(device)
        return f"tcp://{self._layout.address(device)}:{DATA_PORT}"

    async def build(self, dilation: float, pids: Sequence[int]) -> None:
        """Connect the devices, which have these process ids, as fast as the host can.

        `dilation` is as far as it is known: 1 if not.
        """
        if self._layout is None:
            return
        spec = protocol.NetworkProcessConfig(self._session.control_address, self._session.orders_address)
        await self._fleet.fork(_NAME, protocol.encode(spec), "edgeemu.links.netns.process:run_network_process")
        await self._session.receive(protocol.NetworkReady)  # before that, nothing reaches it
        await self._ask(protocol.Build(self._layout, tuple(pids), dilation))

    async def shape(self, dilation: float) -> None:
        """Give the links their rates and delays."""
        if self._layout is not None:
            await self._ask(protocol.Shape(dilation))

    async def follow(self, clock: WallClock) -> None:
        """Start the variation of links over time."""
        if self._layout is not None:
            await self._ask(protocol.BeginVariation(clock.start_s, clock.dilation))

    async def change(self, cluster: Cluster) -> None:
        """Apply an event that has changed the cluster."""
        if self._layout is not None:
            await self._ask(protocol.ChangeQueues(network_layout(cluster, delays=self._layout.delays)))

    async def end(self) -> None:
        """End the network process."""
        if self._layout is not None:
            await self._ask(protocol.StopNetwork())

    async def _ask(self, order: protocol.Order) -> None:
        await self._session.send_to_network_process(protocol.encode(order))
        await self._session.receive(protocol.Done)
