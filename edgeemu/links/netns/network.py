"""The kernel's network of a run: builds it, shapes it, changes it while messages are under way, and reads all back.

It must run in a process whose network namespace is the bridge's, and nobody else's. The devices' namespaces are
reached through their processes. It knows no clock: whoever runs it says what time it is.
"""

from collections.abc import Iterable, Sequence
from math import inf

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from edgeemu.errors import RunError
from edgeemu.host.namespaces import network_namespace_of, settle_namespace
from edgeemu.links.netns import buffer_sizes, interfaces, netlink, queue_trees, tc
from edgeemu.links.netns.interfaces import End
from edgeemu.links.netns.layout import AIR, BRIDGE, LEFT, MTU, PREFIX, RIGHT, NetworkLayout, mac
from edgeemu.links.netns.netlink import Netlink, NetlinkRequest
from edgeemu.links.netns.queue_trees import Tree
from edgeemu.links.netns.queues import Filter, HtbClass
from edgeemu.links.netns.tc import Place, Settings
from edgeemu.timeline.clock import WallClock

MIN_STEP_S = 1e-3  # wall seconds between two looks at what varies: more often costs more than it shows

_LOOPBACK = 1
_HERE = None  # the key of the bridge's namespace among those of the devices

Key = tuple[int | None, int]  # of an interface: namespace and number


class KernelNetwork:
    """Namespaces are given by their processes, everything else is made here. `close` removes it."""

    def __init__(self) -> None:
        self._sockets: dict[int | None, Netlink] = {_HERE: Netlink()}
        self._wiring: NetworkLayout | None = None
        self._has: dict[Key, Tree] = {}  # what the kernel was told
        self._dilation = 1.0
        self._clock: WallClock | None = None
        self._due_wall_s = inf

    # -- building -----------------------------------------------------------------------------------------------

    def build(self, wiring: NetworkLayout, pids: Sequence[int], dilation: float = 1.0) -> None:
        """Joins the namespaces of the devices' processes, unshaped. Every device can reach every other then.

        Raises: RunError, with what the kernel refused, or has otherwise than asked.
        """
        self._wiring, self._dilation = wiring, dilation
        in_line = wiring.topology == "line"
        settle_namespace(forwarding=False)
        for device, pid in enumerate(pids):
            with network_namespace_of(pid):
                settle_namespace(forwarding=in_line)
                self._sockets[device] = Netlink()
        self._request(_HERE, self._devices_here(wiring, pids))
        for device in range(len(pids)):
            self._request(device, _in_device(wiring, device))
        for namespace in self._sockets:
            self._check_interfaces(namespace)

    def _devices_here(self, wiring: NetworkLayout, pids: Sequence[int]) -> Iterable[NetlinkRequest]:
        yield interfaces.set_up(_LOOPBACK, "lo")
        if wiring.topology == "bridge":
            yield interfaces.add_bridge(BRIDGE, "bridge", MTU)
        if wiring.air is not None:
            rate_bps = wiring.air.bandwidth_bps
            yield interfaces.add_ifb(AIR, "air", MTU, 10 * buffer_sizes.queue_packets(rate_bps, 0.0))
        for cable in wiring.cables:
            ends = [
                End(end.ifindex, end.name, end.mac, None if end.device is None else pids[end.device])
                for end in (cable.near, cable.far)
            ]
            yield interfaces.add_veth(
                *ends,
                bridge=BRIDGE if cable.near.device is None else None,
                mtu=MTU,
                queue_packets=max(queue_trees.queue_packets(end) for end in (cable.near, cable.far)),
                gso_max_segs=self._gso_max_segs(wiring),
            )
            if cable.near.device is None:
                assert cable.far.device is not None
                yield interfaces.add_bridge_entry(cable.near.ifindex, cable.far.mac)

    def _gso_max_segs(self, wiring: NetworkLayout) -> int:
        """One for all: what a device sends in one piece passes every queue on its way so."""
        rates = [rate for end in wiring.interfaces() if (rate := queue_trees.slowest_bps(end)) is not None]
        rates += [wiring.air.bandwidth_bps] if wiring.air and wiring.air.bandwidth_bps else []
        return buffer_sizes.gso_max_segs(min(rates, default=inf) / self._dilation)

    # -- shaping ------------------------------------------------------------------------------------------------

    def shape(self, dilation: float) -> None:
        """From now on every link is as at the start of the timeline, on a wall clock that runs `dilation` times as
        long. Raises: RunError, as `build`."""
        self._dilation, self._clock, self._due_wall_s = dilation, None, inf
        self._set(self._wanted(0.0))

    def change(self, wiring: NetworkLayout, now_wall_s: float) -> None:
        """Other values for the same queues, from now on. What waits in them stays. Raises: RunError, as `build`."""
        self._wiring = wiring
        t_s = 0.0 if self._clock is None else max(0.0, self._clock.emulated_s(now_wall_s))
        self._set(self._wanted(t_s))
        if self._clock is not None:
            self._next_after(t_s)

    def follow(self, clock: WallClock) -> None:
        """The timeline has begun, or will: links that vary do so from now on, whenever `step` is called."""
        self._clock, self._dilation = clock, clock.dilation
        self._set(self._wanted(0.0))
        self._next_after(0.0)

    @property
    def due_wall_s(self) -> float:
        """When `step` has something to do."""
        return self._due_wall_s

    def step(self, now_wall_s: float) -> None:
        """Sets what varies to what it is now. Raises: RunError, as `build`."""
        if self._clock is None or now_wall_s < self._due_wall_s:
            return
        t_s = self._clock.emulated_s(now_wall_s)
        self._set(self._wanted(t_s, only_varying=True))
        self._next_after(t_s)
        self._due_wall_s = max(self._due_wall_s, now_wall_s + MIN_STEP_S)

    def _next_after(self, t_s: float) -> None:
        assert self._wiring is not None
        assert self._clock is not None
        queues = [queue for end in self._wiring.interfaces() for queue in end.queues if queue.varies is not None]
        queues += [self._wiring.air] if self._wiring.air is not None else []
        until_s = min((queue.until_s(t_s) for queue in queues), default=inf)
        self._due_wall_s = self._clock.wall_s(until_s) if until_s < inf else inf

    def _wanted(self, t_s: float, *, only_varying: bool = False) -> dict[Key, Tree]:
        assert self._wiring is not None
        wanted: dict[Key, Tree] = {}
        air = self._wiring.air
        if air is not None and not (only_varying and air.varies is None):
            wanted[_HERE, AIR] = queue_trees.air_tree(air, t_s, self._dilation)
        for end in self._wiring.interfaces():
            if not only_varying or any(queue.varies is not None for queue in end.queues):
                tree = queue_trees.tree(end, t_s, self._dilation, netem=self._wiring.delays)
                wanted[end.device, end.ifindex] = tree
        return wanted

    def _set(self, wanted: dict[Key, Tree]) -> None:
        """Tells the kernel what is different from what it was told before, and reads all of those interfaces back."""
        requests: dict[int | None, list[NetlinkRequest]] = {}
        touched: list[Key] = []
        for (device, ifindex), tree in wanted.items():
            before = self._has.get((device, ifindex), {})
            if tree.keys() != before.keys() and before:
                raise RunError("a link cannot get queues while the run goes on that it did not have before")
            differing = [
                _request(place, new, netlink.CHANGE if place in before else netlink.CREATE, self._what(device, place))
                for place, new in tree.items()
                if before.get(place) != new
            ]
            if differing:
                requests.setdefault(device, []).extend(differing)
                touched.append((device, ifindex))
            self._has[device, ifindex] = tree
        for device, of_device in requests.items():
            self._request(device, of_device)
        self._check_queues(touched)

    # -- reading back -------------------------------------------------------------------------------------------

    def _check_queues(self, touched: Iterable[Key]) -> None:
        """Every queue, class and filter of these interfaces is there, as asked, and no other."""
        qdiscs: dict[int | None, dict[Place, Settings]] = {}
        for device, ifindex in touched:
            socket = self._sockets[device]
            if device not in qdiscs:
                qdiscs[device] = tc.found_qdiscs(socket.dump(tc.list_qdiscs(), tc.Tc))
            asked = self._has[device, ifindex]
            found = {place: has for place, has in qdiscs[device].items() if place.ifindex == ifindex}
            if any(isinstance(of, HtbClass) for of in asked.values()):
                found |= tc.found_classes(socket.dump(tc.list_classes(ifindex), tc.Tc))
            for place, of in asked.items():
                if isinstance(of, Filter):
                    messages = socket.dump(tc.list_filters(ifindex, place.parent), tc.Tc)
                    found |= tc.found_filters(messages)
            for place in asked.keys() | found.keys():
                if asked.get(place) != found.get(place):
                    raise RunError(
                        f"the kernel has other settings than were asked for, for {self._what(device, place)}: "
                        f"{found.get(place, 'nothing')} instead of {asked.get(place, 'nothing')}"
                    )

    def _check_interfaces(self, device: int | None) -> None:
        """Interfaces and addresses of a namespace are as they were asked for."""
        assert self._wiring is not None
        socket = self._sockets[device]
        links = {link["index"]: link for link in socket.dump(interfaces.list_links(), ifinfmsg)}
        gso_max_segs = self._gso_max_segs(self._wiring)
        for cable in self._wiring.cables:
            packets = max(queue_trees.queue_packets(end) for end in (cable.near, cable.far))
            for end in (cable.near, cable.far):
                if end.device != device:
                    continue
                master = BRIDGE if device is None else None
                asked = (end.name, end.mac, MTU, packets, gso_max_segs, master, True)
                if (has := interfaces.facts_of(links.get(end.ifindex))) != asked:
                    raise RunError(f"the kernel has interface {end.name} otherwise than asked: {has}, not {asked}")
        if device is not None:
            addresses = {
                (message["index"], message.get_attr("IFA_LOCAL"), message["prefixlen"])
                for message in socket.dump(interfaces.list_addresses(), ifaddrmsg)
                if message["index"] != _LOOPBACK
            }
            asked_addresses = set(_addresses(self._wiring, device))
            if addresses != asked_addresses:
                name = self._wiring.devices[device]
                raise RunError(f"{name} has addresses {addresses} in the kernel, not {asked_addresses}")

    def _what(self, device: int | None, place: Place) -> str:
        assert self._wiring is not None
        for end in self._wiring.interfaces():
            if (end.device, end.ifindex) == (device, place.ifindex):
                return queue_trees.where(end, place)
        return "the shared air"

    # -- the end ------------------------------------------------------------------------------------------------

    def packets_dropped(self) -> int:
        """By all queues so far, beyond what netem was asked to lose: those that found a queue full, too."""
        return sum(
            message.get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE")["drops"]
            for socket in self._sockets.values()
            for message in socket.dump(tc.list_qdiscs(), tc.Tc)
        )

    def close(self) -> None:
        """Removes every interface that was made, and lets go of the namespaces."""
        if self._wiring is not None and self._wiring.topology == "bridge":
            self._request(_HERE, [interfaces.delete_group(interfaces.OUR_GROUP)])
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()

    def _request(self, device: int | None, requests: Iterable[NetlinkRequest]) -> None:
        try:
            self._sockets[device].request(list(requests))
        except netlink.KernelRefusalError as error:
            whose = "" if device is None or self._wiring is None else f" of {self._wiring.devices[device]}"
            raise RunError(f"network{whose}: {error}") from error


def _in_device(wiring: NetworkLayout, device: int) -> Iterable[NetlinkRequest]:
    """Addresses and who has which: nobody has to ask, so nothing is on the links but what devices send."""
    ends = [end for end in wiring.interfaces() if end.device == device]
    yield interfaces.set_up(_LOOPBACK, "lo")
    for end in ends:
        yield interfaces.set_up(end.ifindex, end.name)
    for address in _addresses(wiring, device):
        yield interfaces.add_address(*address)
    for other in wiring.interfaces():
        if other.device is None or other.device == device:
            continue
        if wiring.topology == "bridge":
            yield interfaces.add_neighbour(ends[0].ifindex, wiring.address(other.device), other.mac)
    if wiring.topology == "line":
        for ifindex, network, prefix, neighbour in wiring.routes(device):
            towards = RIGHT if neighbour < device else LEFT
            yield interfaces.add_neighbour(ifindex, wiring.address(neighbour), mac(neighbour, towards))
            yield interfaces.add_route(ifindex, network, prefix, wiring.address(neighbour))


def _addresses(wiring: NetworkLayout, device: int) -> list[tuple[int, str, int]]:
    """Interface, address and prefix. In a line a device has one address on both sides, and routes to all others."""
    prefix = PREFIX if wiring.topology == "bridge" else 32
    return [(end.ifindex, wiring.address(device), prefix) for end in wiring.interfaces() if end.device == device]


def _request(place: Place, of: Settings, flags: int, what: str) -> NetlinkRequest:
    match of:
        case HtbClass():
            return tc.tc_class(place, of, flags, what)
        case Filter():
            return tc.tc_filter(place.ifindex, place.parent, of, flags, what)
        case _:
            return tc.qdisc(place, of, flags, what)
