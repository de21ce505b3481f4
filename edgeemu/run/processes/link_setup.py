"""The links of a run's devices on the controller's side: where each listens, and the process that shapes kernel links.

Stamped links need nothing but an address. Kernel links have a process that owns the bridge, all queues, and the
network namespaces of devices that are gone: who takes the place of one joins its namespace, and listens at another
port, where no packet arrives that was meant for the process before.
"""

from collections import Counter
from collections.abc import Mapping

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
        self._namespaces: tuple[str, ...] = ()  # of all devices, once they are joined
        self._replaced: Counter[int] = Counter()  # by device: how often another process has taken its place
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
        return f"tcp://{self._layout.address(device)}:{self._port(device)}"

    def listens_at(self, device: int) -> str:
        """Return where a device listens. On kernel links, at any address: it is forked before it has one."""
        return self._session.address(device) if self._layout is None else f"tcp://*:{self._port(device)}"

    def namespace(self, device: int) -> str:
        """Return where the network namespace is found that a device finds itself in; empty: it is to make one."""
        return self._namespaces[device] if self._namespaces else ""

    def replace(self, device: int) -> None:
        """Note that another process takes the place of a device, or its own that was not there before."""
        self._replaced[device] += 1

    def _port(self, device: int) -> int:
        return DATA_PORT + self._replaced[device]

    async def build(self, dilation: float, pids: Mapping[int, int]) -> None:
        """Connect the devices, of which these have processes, as fast as the host can.

        `dilation` is as far as it is known: 1 if not.
        """
        if self._layout is None:
            return
        spec = protocol.NetworkProcessConfig(self._session.control_address, self._session.orders_address)
        await self._fleet.fork(_NAME, protocol.encode(spec), "edgeemu.links.netns.process:run_network_process")
        await self._session.receive(protocol.NetworkReady)  # before that, nothing reaches it
        everyone = range(len(self._layout.devices))
        built = await self._ask(protocol.Build(self._layout, tuple(map(pids.get, everyone)), dilation))
        self._namespaces = built.namespaces

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

    async def _ask(self, order: protocol.Order) -> protocol.Done:
        await self._session.send_to_network_process(protocol.encode(order))
        return await self._session.receive(protocol.Done)
