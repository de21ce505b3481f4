"""Estimates of speeds, queueing, memory and links from measurements, smoothed. Pure; knows no scenario.

Every estimate starts from the nominal value, or a link's from what is known of its start, and keeps it until something
is measured. Measurements are reports of real
devices or of the simulator, in one form. The one parameter is `smoothing`, the weight of the
newest observation; the first counts in full.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.costs import Costs
from edgeemu.policies.view.cluster_view import ClusterView, DeviceView, WorkloadView
from edgeemu.policies.view.link_estimates import LinkEstimates
from edgeemu.policies.view.link_factors import Factors, LinkFactors, Pair
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.operation_times import OperationTimes
from edgeemu.policies.view.oracle import slowed
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord


@dataclass(slots=True)
class _DeviceEstimate:
    slowdown: float | None = None  # duration of operations, relative to the unloaded device; None: not measured yet
    unloaded: float = (
        1.0  # the same with nothing else on the device: other than 1 only where it is relative to the host
    )
    queueing_s: float = 0.0  # from ready to start, mean of an operation
    memory_bytes: int | None = None
    worked: bool = False  # since its state was last observed


class Estimator:
    """Estimates from all measurements of a cluster so far."""

    def __init__(
        self,
        cluster: Cluster,
        nominal: Sequence[Compute],
        costs: Costs,
        smoothing: float,
        sheet: LinkMatrix | None = None,
        at_start: Factors | None = None,
    ) -> None:
        """`nominal`: speeds without load (`oracle.nominal_computes`). `sheet`: nominal links, if made already.

        `at_start`: links that are known to begin otherwise than nominally.
        """
        self._cluster = cluster
        self._nominal = nominal
        self._times = OperationTimes(nominal, costs)
        self._smoothing = smoothing
        self._devices = [_DeviceEstimate() for _ in cluster.devices]
        self._sheet = sheet or LinkMatrix.of(cluster)
        self._links = LinkEstimates(self._sheet, smoothing, at_start or {})
        # The last view of each device, with its slowdown and memory.
        self._last_shown: list[tuple[float, int, DeviceView] | None] = [None] * len(cluster.devices)

    # -- measurements ------------------------------------------------------------------------------------------

    def observe_executions(self, executions: Sequence[OperationRecord]) -> None:
        """Add operations of one step or of several, with their times on the timeline."""
        totals = self._times.totals(executions)
        worked = totals.number.nonzero()[0]
        sums = (each[worked].tolist() for each in totals)
        for index, number, nominal_s, busy_s, waited_s in zip(worked.tolist(), *sums, strict=True):
            device = self._devices[index]
            first = device.slowdown is None
            device.queueing_s = self._smoothed(None if first else device.queueing_s, waited_s / number)
            device.slowdown = self._smoothed(device.slowdown, busy_s / nominal_s)
            device.worked = True

    def observe_transits(self, transits: Iterable[Transit]) -> None:
        """Add durations of messages from departure to arrival, without the time in queues."""
        self._links.observe(transits)

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

    def newest_links(self) -> LinkFactors:
        """Measured delay, and measured time per bit, of the links that were measured since the decision before."""
        return self._links.factors(newest=True)

    def doubtful(self, worse: float, others: Collection[Pair] = ()) -> dict[Pair, int]:
        """Decisions since a link was measured, of those that were `worse` times as slow as nominal, and of others."""
        return self._links.doubtful(worse, others)

    def view(self, base: ClusterView, workload: WorkloadView | None = None, costs: Costs | None = None) -> ClusterView:
        """`base` with the estimated devices and links, and with another workload and costs where they are given."""
        devices = self._shown()
        self._links.next_turn()
        factors = self._links.factors()
        return replace(
            base,
            workload=workload or base.workload,
            costs=costs or base.costs,
            devices=devices,
            links=self._sheet.scaled(factors),
            observed=factors,
        )

    def _shown(self) -> tuple[DeviceView, ...]:
        """Return the views of devices; the last one of each, where nothing has changed."""
        found = self._last_shown
        for index, (known, last) in enumerate(zip(self._devices, found, strict=True)):
            device = self._cluster.devices[index]
            slowdown = known.slowdown or 1.0
            memory_bytes = device.memory_bytes if known.memory_bytes is None else known.memory_bytes
            if last is None or last[0] != slowdown or last[1] != memory_bytes:
                view = DeviceView.of(device, slowed(self._nominal[index], slowdown), memory_bytes)
                found[index] = slowdown, memory_bytes, view
        return tuple(each[2] for each in found if each is not None)
