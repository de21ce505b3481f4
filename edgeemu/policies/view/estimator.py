"""Estimates of speeds, queueing, memory and links from measurements, smoothed. Pure; knows no scenario.

Every estimate starts from the nominal value, or a link's from what is known of its start, and keeps it until something
is measured. Measurements are reports of real
devices or of the simulator, in one form. The one parameter is `smoothing`, the weight of the
newest observation; the first counts in full.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.costs import Costs
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_estimates import LinkEstimates
from edgeemu.policies.view.link_factors import Factors, LinkFactors, Pair
from edgeemu.policies.view.link_matrix import FloatArray, LinkMatrix
from edgeemu.policies.view.operation_times import OperationTimes
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
        each = zip(cluster.devices, nominal, strict=True)
        self._nominal = tuple(DeviceView.of(device, compute, device.memory_bytes) for device, compute in each)
        self._times = OperationTimes(nominal, costs)
        self._smoothing = smoothing
        self._devices = [_DeviceEstimate() for _ in cluster.devices]
        self._sheet = sheet or LinkMatrix.of(cluster)
        self._links = LinkEstimates(self._sheet, smoothing, at_start or {})
        self._unloaded: tuple[ClusterView, ClusterView] | None = None  # a view, and the same without load

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

    def slowdowns(self) -> FloatArray:
        """By how many times operations on each device take longer than nominally: [n_devices]."""
        return np.array([device.slowdown or 1.0 for device in self._devices])

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
        self._links.next_turn()
        factors = self._links.factors()
        if self._unloaded is None or self._unloaded[0] is not base:
            self._unloaded = base, replace(base, devices=self._nominal)
        memory_bytes = np.array([self.memory_bytes(index) for index in range(len(self._devices))], np.int64)
        return self._unloaded[1].slowed(
            self.slowdowns(),
            memory_bytes,
            workload=workload or base.workload,
            costs=costs or base.costs,
            links=self._sheet.scaled(factors),
            observed=factors,
        )
