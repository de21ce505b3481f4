"""Estimates of speeds, queueing, memory and links from measurements, smoothed. Pure; knows no scenario.

Every estimate starts from the nominal value and keeps it until something is measured. Measurements are reports of real
devices or of the simulator, in one form. The one parameter is `smoothing`, the weight of the
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

_RIDGE = 1e-3  # weight of the nominal values in a link's estimate; measurements have weight 1
_LEAST = 0.01  # least factor: no link is estimated to be more than a hundred times as fast as nominally


@dataclass(slots=True)
class _DeviceEstimate:
    slowdown: float | None = None  # duration of operations, relative to the unloaded device; None: not measured yet
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
    unseen_turns: int = 0  # decisions since it was last measured

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
        """Measured delay, and measured time per bit, as multiples of the nominal values."""
        a, b, c = self.delay_delay + _RIDGE, self.delay_bits, self.bits_bits + _RIDGE
        x, y = self.delay_took + _RIDGE, self.bits_took + _RIDGE
        det = a * c - b * b
        return max(_LEAST, (c * x - b * y) / det), max(_LEAST, (a * y - b * x) / det)


class Estimator:
    """Estimates from all measurements of a cluster so far."""

    def __init__(
        self,
        cluster: Cluster,
        nominal: Sequence[Compute],
        costs: Costs,
        smoothing: float,
        sheet: LinkMatrix | None = None,
    ) -> None:
        """`nominal`: speeds without load (`oracle.nominal_computes`). `sheet`: nominal links, if made already."""
        self._cluster = cluster
        self._nominal = nominal
        self._costs = costs
        self._smoothing = smoothing
        self._devices = [_DeviceEstimate() for _ in cluster.devices]
        self._links: dict[tuple[int, int], _LinkEstimate] = {}
        self._sheet = sheet or LinkMatrix.of(cluster)

    # -- measurements ------------------------------------------------------------------------------------------

    def observe_executions(self, executions: Iterable[OperationRecord]) -> None:
        """Add operations of one step or of several, with their times on the timeline."""
        took_s: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
        for op, step, time, *_ in executions:
            sheet_s = op_s(self._nominal[op.device], op, step.rows, step.past, self._costs)
            if sheet_s:  # an operation that takes no time has no information
                took_s[op.device].append((sheet_s, time.end_s - time.start_s, time.start_s - time.ready_s))
        for index, done in took_s.items():
            device = self._devices[index]
            sheet_s, busy_s, waited_s = (sum(column) for column in zip(*done, strict=True))
            first = device.slowdown is None
            device.queueing_s = self._smoothed(None if first else device.queueing_s, waited_s / len(done))
            device.slowdown = self._smoothed(device.slowdown, busy_s / sheet_s)
            device.worked = True

    def observe_transits(self, transits: Iterable[Transit]) -> None:
        """Add durations of messages from departure to arrival, with the time in queues."""
        by_pair: dict[tuple[int, int], list[Transit]] = defaultdict(list)
        for transit in transits:
            if not transit.size_bytes and not self._sheet.delay_s.pair(transit.source, transit.target):
                continue  # a message that takes no time has no information
            by_pair[transit.source, transit.target].append(transit)
        for pair, seen in by_pair.items():
            link = self._links.setdefault(pair, _LinkEstimate())
            old = (1.0 - self._smoothing) ** max(1, link.unseen_turns + 1)  # what was measured long ago weighs little
            weight = 1.0 - old if link.seen else 1.0
            link.fade(1.0 - weight)
            for transit in seen:
                bits_s = 8.0 * transit.size_bytes * self._sheet.s_per_bit.pair(*pair)
                sheet_s = bits_s + self._sheet.delay_s.pair(*pair)
                link.add(weight / len(seen), 1.0 - bits_s / sheet_s, transit.sum_s / transit.messages / sheet_s)
            link.seen = True
            link.unseen_turns = -1  # until the view is made

    def observe_state(self, index: int, availability: float, memory_bytes: int) -> None:
        """Add a device's own readings at an instant. Availability counts if nothing was executed since the last."""
        device = self._devices[index]
        device.memory_bytes = memory_bytes
        if not device.worked:
            device.slowdown = self._smoothed(device.slowdown, device.unloaded / availability)
        elif self._cluster.devices[index].compute is None and device.slowdown is not None:
            device.unloaded = device.slowdown * availability
        device.worked = False

    def _smoothed(self, before: float | None, newest: float) -> float:
        return newest if before is None else before + self._smoothing * (newest - before)

    # -- estimates ------------------------------------------------------------------------------------------

    def slowdown(self, device: int) -> float:
        """By how many times operations on a device take longer than nominally."""
        return self._devices[device].slowdown or 1.0

    def queueing_s(self, device: int) -> float:
        """Mean time that a ready operation waits for the device."""
        return self._devices[device].queueing_s

    def memory_bytes(self, device: int) -> int:
        """Bytes that our blocks may hold on a device in all."""
        known = self._devices[device].memory_bytes
        return self._cluster.devices[device].memory_bytes if known is None else known

    def doubtful(self, worse: float) -> dict[tuple[int, int], int]:
        """Decisions since a link was last measured, of those that were `worse` times as slow as nominally, or more."""
        return {pair: link.unseen_turns for pair, link in self._links.items() if max(link.factors()) >= worse}

    def view(self, base: ClusterView) -> ClusterView:
        """`base` (its costs, workload and rules) with the estimated devices and links."""
        devices = tuple(
            DeviceView.of(device, slowed(compute, self.slowdown(index)), self.memory_bytes(index))
            for index, (device, compute) in enumerate(zip(self._cluster.devices, self._nominal, strict=True))
        )
        for link in self._links.values():
            link.unseen_turns += 1
        factors = {pair: link.factors() for pair, link in self._links.items()}
        return replace(base, devices=devices, links=self._sheet.scaled(factors), observed=factors)
