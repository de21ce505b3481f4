"""What can be known of a cluster by watching it: speeds, queues, memory and links, smoothed. Pure; knows no scenario.

Everything starts from the data sheet: what was never observed is taken to be as it says. Observations come from
reports of real devices or from the simulator, in the same form. The one parameter is `smoothing`, the weight of the
newest observation; the first counts in full.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import op_s
from edgeemu.policies.view.cluster_view import ClusterView, DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.oracle import slowed
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord

_RIDGE = 1e-3  # weight of the data sheet in a link's estimate, of 1 for what was observed
_LEAST = 0.01  # of what the data sheet says: a link is not believed to be faster than a hundred times that


@dataclass(slots=True)
class _DeviceEstimate:
    slowdown: float | None = None  # what operations take, by the roofline of the whole device; None: not known yet
    unloaded: float = (
        1.0  # the same with nothing else on the device: other than 1 only where it is relative to the host
    )
    queueing_s: float = 0.0  # from ready to start, mean of an operation
    memory_bytes: int | None = None
    worked: bool = False  # since its state was last observed


@dataclass(slots=True)
class _LinkEstimate:
    """Sums of a weighted regression: took / nominal = p * (delay's part) + q * (transmission's part) of nominal."""

    delay_delay: float = 0.0
    delay_bits: float = 0.0
    bits_bits: float = 0.0
    delay_took: float = 0.0
    bits_took: float = 0.0
    seen: bool = False

    def fade(self, kept: float) -> None:
        for name in ("delay_delay", "delay_bits", "bits_bits", "delay_took", "bits_took"):
            setattr(self, name, kept * getattr(self, name))

    def add(self, weight: float, delay_part: float, took: float) -> None:
        bits_part = 1.0 - delay_part
        self.delay_delay += weight * delay_part * delay_part
        self.delay_bits += weight * delay_part * bits_part
        self.bits_bits += weight * bits_part * bits_part
        self.delay_took += weight * delay_part * took
        self.bits_took += weight * bits_part * took

    def factors(self) -> tuple[float, float]:
        """By what the delay, and the time per bit, are more than the data sheet's."""
        a, b, c = self.delay_delay + _RIDGE, self.delay_bits, self.bits_bits + _RIDGE
        x, y = self.delay_took + _RIDGE, self.bits_took + _RIDGE
        det = a * c - b * b
        return max(_LEAST, (c * x - b * y) / det), max(_LEAST, (a * y - b * x) / det)


class Estimate:
    """What has been observed of a cluster so far."""

    def __init__(
        self,
        cluster: Cluster,
        whole: Sequence[Compute],
        costs: Costs,
        smoothing: float,
        sheet: LinkMatrix | None = None,
    ) -> None:
        """`whole` are the devices' data sheets (`view.whole_devices`); the links', `sheet` or the cluster's."""
        self._cluster = cluster
        self._whole = whole
        self._costs = costs
        self._smoothing = smoothing
        self._devices = [_DeviceEstimate() for _ in cluster.devices]
        self._links: dict[tuple[int, int], _LinkEstimate] = {}
        self._sheet = sheet or LinkMatrix.of(cluster)

    # -- what comes in ------------------------------------------------------------------------------------------

    def observe_executions(self, executions: Iterable[OperationRecord]) -> None:
        """Operations of one step, or of several, each as long as it took on the timeline."""
        took_s: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
        for op, step, time, *_ in executions:
            sheet_s = op_s(self._whole[op.device], op, step.rows, step.past, self._costs)
            if sheet_s:  # some take nothing, and say nothing
                took_s[op.device].append((sheet_s, time.end_s - time.start_s, time.start_s - time.ready_s))
        for index, done in took_s.items():
            device = self._devices[index]
            sheet_s, busy_s, waited_s = (sum(column) for column in zip(*done, strict=True))
            first = device.slowdown is None
            device.queueing_s = self._smoothed(None if first else device.queueing_s, waited_s / len(done))
            device.slowdown = self._smoothed(device.slowdown, busy_s / sheet_s)
            device.worked = True

    def observe_transits(self, transits: Iterable[Transit]) -> None:
        """What messages took from departure to arrival, waiting on the way included."""
        by_way: dict[tuple[int, int], list[Transit]] = defaultdict(list)
        for transit in transits:
            if not transit.size_bytes and not self._sheet.delay_s.pair(transit.source, transit.target):
                continue  # nothing, at once: likewise
            by_way[transit.source, transit.target].append(transit)
        for way, seen in by_way.items():
            link = self._links.setdefault(way, _LinkEstimate())
            weight = self._smoothing if link.seen else 1.0
            link.fade(1.0 - weight)
            for transit in seen:
                bits_s = 8.0 * transit.size_bytes * self._sheet.s_per_bit.pair(*way)
                sheet_s = bits_s + self._sheet.delay_s.pair(*way)
                link.add(weight / len(seen), 1.0 - bits_s / sheet_s, transit.sum_s / transit.messages / sheet_s)
            link.seen = True

    def observe_state(self, index: int, availability: float, memory_bytes: int) -> None:
        """What a device's own meters say at an instant. Its load counts if it has executed nothing since the last."""
        device = self._devices[index]
        device.memory_bytes = memory_bytes
        if not device.worked:
            device.slowdown = self._smoothed(device.slowdown, device.unloaded / availability)
        elif self._cluster.devices[index].compute is None and device.slowdown is not None:
            device.unloaded = device.slowdown * availability
        device.worked = False

    def _smoothed(self, before: float | None, newest: float) -> float:
        return newest if before is None else before + self._smoothing * (newest - before)

    # -- what is known ------------------------------------------------------------------------------------------

    def slowdown(self, device: int) -> float:
        """How much longer everything takes on a device than its data sheet says."""
        return self._devices[device].slowdown or 1.0

    def queueing_s(self, device: int) -> float:
        """How long an operation that is ready waits for the device, in the mean."""
        return self._devices[device].queueing_s

    def memory_bytes(self, device: int) -> int:
        """What our blocks may hold there in all."""
        known = self._devices[device].memory_bytes
        return self._cluster.devices[device].memory_bytes if known is None else known

    def view(self, base: ClusterView) -> ClusterView:
        """`base` (its costs, its sequence, its rules) with the devices and links as they are known now."""
        devices = tuple(
            DeviceView.of(device, slowed(compute, self.slowdown(index)), self.memory_bytes(index))
            for index, (device, compute) in enumerate(zip(self._cluster.devices, self._whole, strict=True))
        )
        factors = {pair: link.factors() for pair, link in self._links.items()}
        return replace(base, devices=devices, links=self._sheet.scaled(factors), observed=factors)
