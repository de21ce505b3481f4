"""The kernel's network of a run: builds it, shapes it, changes it while messages are in flight, and reads all back.

It must run in a process whose network namespace is the central one, with nobody else in it. It keeps the devices'
namespaces, also when their processes have ended: another process can take a place there. It knows no clock: its caller
passes the instants of the wall clock.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from edgeemu.errors import RunError
from edgeemu.host.namespaces import in_network_namespace, open_network_namespace, settle_namespace
from edgeemu.links.netns import build, interfaces, netlink, queue_trees, tc
from edgeemu.links.netns.layout import CHANNEL, NetworkLayout
from edgeemu.links.netns.netlink import Netlink, NetlinkRequest
from edgeemu.links.netns.queue_trees import Tree
from edgeemu.links.netns.queues import HtbRoot, QueuePlace, Settings
from edgeemu.timeline.clock import WallClock

MIN_STEP_S = 1e-3  # wall seconds between two updates of what varies: more often costs more than it shows

_CENTRAL = None  # the key of the central namespace among those of the devices

InterfaceKey = tuple[int | None, int]  # namespace and number


class KernelNetwork:
    """Namespaces are given by their processes, everything else is made here. `close` removes it.

    `namespaces` are descriptors of those of the devices.
    """

    def __init__(self) -> None:
        self.namespaces: tuple[int, ...] = ()
        self._sockets: dict[int | None, Netlink] = {_CENTRAL: Netlink()}
        self._layout: NetworkLayout | None = None
        self._sent: dict[InterfaceKey, Tree] = {}  # the trees that the kernel was asked for
        self._dilation = 1.0
        self._clock: WallClock | None = None
        self._due_wall_s = inf

    # -- building -----------------------------------------------------------------------------------------------

    def build(self, layout: NetworkLayout, pids: Sequence[int | None], dilation: float = 1.0) -> None:
        """Joins the namespaces of the devices' processes, unshaped. Every device can reach every other afterwards.

        A device that has no process yet (None) gets an empty one.

        Raises: RunError, with the request that the kernel refused, or what it has otherwise than asked.
        """
        self._layout, self._dilation = layout, dilation
        settle_namespace(forwarding=False)
        self.namespaces = tuple(map(open_network_namespace, pids))
        for device, namespace in enumerate(self.namespaces):
            with in_network_namespace(namespace):
                settle_namespace(forwarding=not layout.bridged)
                self._sockets[device] = Netlink()
        self._request(_CENTRAL, build.central_requests(layout, self.namespaces, dilation))
        for device in range(len(pids)):
            self._request(device, build.device_requests(layout, device))
        for of, socket in self._sockets.items():
            build.check_interfaces(socket, layout, of, dilation)

    # -- shaping ------------------------------------------------------------------------------------------------

    def shape(self, dilation: float) -> None:
        """Gives every link its values at the start of the timeline, on a wall clock that is `dilation` times slower.

        Raises: RunError, as `build`.
        """
        self._dilation, self._clock, self._due_wall_s = dilation, None, inf
        self._set(self._wanted(0.0))

    def change(self, layout: NetworkLayout, now_wall_s: float) -> None:
        """Gives the existing queues other values from now on; packets in them stay. Raises: RunError, as `build`."""
        self._layout = layout
        t_s = 0.0 if self._clock is None else max(0.0, self._clock.emulated_s(now_wall_s))
        self._set(self._wanted(t_s))
        if self._clock is not None:
            self._next_after(t_s)

    def follow(self, clock: WallClock) -> None:
        """Lets links vary over the timeline of a clock from now on, at each call of `step`."""
        self._clock, self._dilation = clock, clock.dilation
        self._set(self._wanted(0.0))
        self._next_after(0.0)

    @property
    def due_wall_s(self) -> float:
        """The instant at which `step` has something to do."""
        return self._due_wall_s

    def step(self, now_wall_s: float) -> None:
        """Sets what varies to its values of now. Raises: RunError, as `build`."""
        if self._clock is None or now_wall_s < self._due_wall_s:
            return
        t_s = self._clock.emulated_s(now_wall_s)
        self._set(self._wanted(t_s, only_varying=True))
        self._next_after(t_s)
        self._due_wall_s = max(self._due_wall_s, now_wall_s + MIN_STEP_S)

    def _next_after(self, t_s: float) -> None:
        assert self._layout is not None
        assert self._clock is not None
        queues = [queue for end in self._layout.interfaces() for queue in end.queues if queue.varies is not None]
        queues += [self._layout.shared_channel] if self._layout.shared_channel is not None else []
        until_s = min((queue.until_s(t_s) for queue in queues), default=inf)
        self._due_wall_s = self._clock.wall_s(until_s) if until_s < inf else inf

    def _wanted(self, t_s: float, *, only_varying: bool = False) -> dict[InterfaceKey, Tree]:
        assert self._layout is not None
        wanted: dict[InterfaceKey, Tree] = {}
        channel = self._layout.shared_channel
        if channel is not None and not (only_varying and channel.varies is None):
            wanted[_CENTRAL, CHANNEL] = queue_trees.shared_channel_tree(channel, t_s, self._dilation)
        for end in self._layout.interfaces():
            if not only_varying or any(queue.varies is not None for queue in end.queues):
                tree = queue_trees.tree(end, t_s, self._dilation, netem=self._layout.delays)
                wanted[end.device, end.ifindex] = tree
        return wanted

    def _set(self, wanted: dict[InterfaceKey, Tree]) -> None:
        """Sends the kernel the differences from the trees sent before, and reads all of those interfaces back."""
        requests: dict[int | None, list[NetlinkRequest]] = {}
        touched: list[InterfaceKey] = []
        for (device, ifindex), tree in wanted.items():
            before = self._sent.get((device, ifindex), {})
            if before and queue_trees.without_leaves(tree).keys() != queue_trees.without_leaves(before).keys():
                raise RunError("a link cannot get queues during the run that it did not have before")
            differing = list(self._differences(device, before, tree))
            if differing:
                requests.setdefault(device, []).extend(differing)
                touched.append((device, ifindex))
            self._sent[device, ifindex] = tree
        for device, of_device in requests.items():
            self._request(device, of_device)
        self._check_queues(touched)

    def _differences(self, device: int | None, before: Tree, tree: Tree) -> Iterator[NetlinkRequest]:
        """Requests that make one tree of an interface of another. A leaf at the place of another replaces it."""
        left = {place.parent: place for place in before if place not in tree}
        for place, new in tree.items():
            if before.get(place) == new:
                continue
            replaces = left.pop(place.parent, None) is not None
            to_make = netlink.CREATE_OR_REPLACE if replaces else netlink.CREATE
            yield tc.request(place, new, netlink.CHANGE if place in before else to_make, self._name(device, place))
        for place in left.values():
            yield tc.removal(place, self._name(device, place))

    # -- reading back -------------------------------------------------------------------------------------------

    def queues(self, device: int | None, ifindex: int) -> dict[QueuePlace, Settings]:
        """The queues, classes and filters that the kernel has on an interface. `device` None: the central namespace."""
        socket = self._sockets[device]
        return self._read(device, ifindex, tc.found_qdiscs(socket.dump(tc.list_qdiscs(), tc.Tc)))

    def _read(self, device: int | None, ifindex: int, qdiscs: dict[QueuePlace, Settings]) -> dict[QueuePlace, Settings]:
        """The queues of an interface, of which `qdiscs` has those of the namespace: these are listed all at once."""
        socket = self._sockets[device]
        found = {place: has for place, has in qdiscs.items() if place.ifindex == ifindex}
        parents = [parent for has in found.values() for parent in tc.FILTERED_AT.get(type(has), ())]
        if HtbRoot in map(type, found.values()):
            found |= tc.found_classes(socket.dump(tc.list_classes(ifindex), tc.Tc))
        for parent in parents:
            found |= tc.found_filters(socket.dump(tc.list_filters(ifindex, parent), tc.Tc))
        return found

    def _check_queues(self, touched: Iterable[InterfaceKey]) -> None:
        """Raises: RunError, where the kernel does not have exactly the trees that were sent."""
        qdiscs: dict[int | None, dict[QueuePlace, Settings]] = {}
        for device, ifindex in touched:
            if device not in qdiscs:
                qdiscs[device] = tc.found_qdiscs(self._sockets[device].dump(tc.list_qdiscs(), tc.Tc))
            asked, found = self._sent[device, ifindex], self._read(device, ifindex, qdiscs[device])
            for place in asked.keys() | found.keys():
                if asked.get(place) != found.get(place):
                    raise RunError(
                        f"the kernel has other settings than were asked for, for {self._name(device, place)}: "
                        f"{found.get(place, 'nothing')} instead of {asked.get(place, 'nothing')}"
                    )

    def _name(self, device: int | None, place: QueuePlace) -> str:
        assert self._layout is not None
        for end in self._layout.interfaces():
            if (end.device, end.ifindex) == (device, place.ifindex):
                return queue_trees.name_of(end, place)
        return "the shared wireless channel"

    # -- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Removes every interface that was made, and releases the namespaces."""
        if self._layout is not None and self._layout.bridged:
            self._request(_CENTRAL, [interfaces.delete_group(interfaces.OUR_GROUP)])
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
        for namespace in self.namespaces:
            os.close(namespace)
        self.namespaces = ()

    def _request(self, device: int | None, requests: Iterable[NetlinkRequest]) -> None:
        try:
            self._sockets[device].request(list(requests))
        except netlink.KernelRefusalError as error:
            of = "" if device is None or self._layout is None else f" of {self._layout.devices[device]}"
            raise RunError(f"network{of}: {error}") from error
