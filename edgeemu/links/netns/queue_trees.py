"""From an interface of the layout to its tree of queues at an instant, as the kernel is to have it. Opens no socket.

A tree is an htb root with a class for each queue, under a class for the network interface's own rate where it has one,
and netem below each class where the kernel does delays. An interface without any limit has no tree. While a link is
down, a blackhole takes the place of its netem, or of the queue that htb has by itself.
"""

from edgeemu.links.netns import buffer_sizes
from edgeemu.links.netns.layout import CHANNEL, Interface, Queue
from edgeemu.links.netns.queues import (
    BY_DESTINATION,
    CLSACT_HANDLE,
    CLSACT_PARENT,
    EGRESS,
    EVERYTHING,
    HTB_ROOT,
    INGRESS,
    ROOT_PARENT,
    TICK_NS,
    Blackhole,
    Clsact,
    Filter,
    HtbClass,
    HtbRoot,
    Netem,
    QueuePlace,
    Settings,
)

Tree = dict[QueuePlace, Settings]  # in the order in which it is made

_NIC_CLASS = 0xFFFF
_DOWN = 0x4000  # of the handles of blackholes, beside those of netem
_ALL = 0xFFFE  # the class of a queue that is for no device in particular
_NS = 1e9
_U32 = 0xFFFFFFFF


def tree(interface: Interface, t_s: float, dilation: float, *, netem: bool) -> Tree:
    """The queues of an interface at an instant of emulated time, on a wall clock that is `dilation` times slower."""
    nic_bps = None if interface.nic_bps is None else interface.nic_bps / dilation
    return _tree(interface.ifindex, interface.queues, nic_bps, t_s, dilation, netem=netem) | (
        _to_shared_channel(interface.ifindex) if interface.on_shared_channel else {}
    )


def shared_channel_tree(queue: Queue, t_s: float, dilation: float) -> Tree:
    """The one queue in which all packets of the shared wireless channel wait, in both directions."""
    return _tree(CHANNEL, (queue,), None, t_s, dilation, netem=False)


def without_leaves(made: Tree) -> Tree:
    """The part of a tree that stays as long as its interface."""
    return {place: settings for place, settings in made.items() if not isinstance(settings, Netem | Blackhole)}


def queue_packets(interface: Interface) -> int:
    """Packets that the longest queue of an interface must hold."""
    rates = [(queue.bandwidth_bps, queue.delay_s + queue.jitter_s) for queue in interface.queues]
    return max((buffer_sizes.queue_packets(*rate) for rate in rates), default=buffer_sizes.MIN_QUEUE_PACKETS)


def slowest_bps(interface: Interface) -> float | None:
    """The lowest rate of an interface and its queues; None: none is limited."""
    rates = [rate for rate in (interface.nic_bps, *(q.bandwidth_bps for q in interface.queues)) if rate is not None]
    return min(rates, default=None)


def name_of(interface: Interface, place: QueuePlace) -> str:
    """The queue at a place of an interface's tree, in words."""
    minor = (place.handle if place.parent == ROOT_PARENT else place.parent) & 0xFFFF
    found = [queue.what for queue in interface.queues if _minor(queue) == minor]
    return found[0] if found else f"interface {interface.name}"


def _tree(
    ifindex: int, queues: tuple[Queue, ...], nic_bps: float | None, t_s: float, dilation: float, *, netem: bool
) -> Tree:
    rates = {queue: rate / dilation for queue in queues if (rate := queue.rate_at(t_s)) is not None}
    disturbances = {queue: _netem(queue, t_s, dilation) for queue in queues} if netem else {}
    root = QueuePlace(ifindex, HTB_ROOT, ROOT_PARENT)
    down = {queue for queue in queues if queue.is_down_at(t_s)}
    if not rates and nic_bps is None:
        if down:
            return {QueuePlace(ifindex, _DOWN << 16, ROOT_PARENT): Blackhole()}
        return dict(zip([root], disturbances.values(), strict=False))
    made: Tree = {root: HtbRoot(_ALL if queues and queues[0].target is None else 0)}
    nic = QueuePlace(ifindex, HTB_ROOT | _NIC_CLASS, ROOT_PARENT)
    if nic_bps is not None:  # its quantum is unused; a constant, so that no change of rate changes it
        made[nic] = _class(nic_bps, nic_bps)._replace(quantum_bytes=buffer_sizes.FRAME_BYTES)
    asked_bps = sum(min(rates.get(queue, nic_bps or 0.0), nic_bps or float("inf")) for queue in queues)
    for queue in queues:
        handle = HTB_ROOT | _minor(queue)
        if nic_bps is None:
            place, settings = QueuePlace(ifindex, handle, ROOT_PARENT), _class(rates[queue], rates[queue])
        else:  # htb keeps no class below its own rate, so these must not add up to more than the interface's
            ceil_bps = min(rates.get(queue, nic_bps), nic_bps)
            certain_bps = ceil_bps * min(1.0, nic_bps / asked_bps)
            place, settings = QueuePlace(ifindex, handle, nic.handle), _class(certain_bps, ceil_bps)
        made[place] = settings
        if queue in down:
            made[QueuePlace(ifindex, (_minor(queue) ^ _DOWN) << 16, handle)] = Blackhole()
        elif queue in disturbances:
            made[QueuePlace(ifindex, (_minor(queue) + 1) << 16, handle)] = disturbances[queue]
    if queues and queues[0].target is not None:
        made[QueuePlace(ifindex, 1, HTB_ROOT)] = Filter(BY_DESTINATION)
    return made


def _to_shared_channel(ifindex: int) -> Tree:
    """Filters that send all packets of a port, in both directions, through the queue of the shared channel first."""
    return {
        QueuePlace(ifindex, CLSACT_HANDLE, CLSACT_PARENT): Clsact(),
        QueuePlace(ifindex, 1, INGRESS): Filter(EVERYTHING, CHANNEL),
        QueuePlace(ifindex, 1, EGRESS): Filter(EVERYTHING, CHANNEL),
    }


def _minor(queue: Queue) -> int:
    return _ALL if queue.target is None else queue.target + 1


def _class(rate_bps: float, ceil_bps: float) -> HtbClass:
    rate, ceil = (max(1, round(bps / 8)) for bps in (rate_bps, ceil_bps))
    burst, ceil_burst = (round(buffer_sizes.burst_s(bps) * _NS / TICK_NS) for bps in (rate_bps, ceil_bps))
    return HtbClass(rate, ceil, burst, ceil_burst, buffer_sizes.quantum_bytes(ceil_bps))


def _netem(queue: Queue, t_s: float, dilation: float) -> Netem:
    delay_s = queue.delay_at(t_s)
    jitter_s = min(queue.jitter_s, delay_s)  # netem would cut a negative delay at zero, and so raise the mean
    return Netem(
        limit_packets=buffer_sizes.queue_packets(queue.bandwidth_bps, queue.delay_s + jitter_s),
        delay_ns=round(delay_s * dilation * _NS),
        jitter_ns=round(jitter_s * dilation * _NS),
        loss=round(queue.loss_at(t_s) * _U32),
        duplicate=round(queue.duplicate * _U32),
        reorder=round(queue.reorder * _U32),
    )
