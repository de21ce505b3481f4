"""Estimates of speeds, queueing, memory and links from measurements, smoothed. Pure; knows no scenario.

Every estimate starts from the nominal value, or a link's from what is known of its start, and keeps it until something
is measured. Measurements are reports of real
devices or of the simulator, in one form. The one parameter is `smoothing`, the weight of the
newest observation; the first counts in full. In views devices are at their levels, in which noise averages out
(`view.levels`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.costs import Costs
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.history import DecisionTime, History
from edgeemu.policies.view.levels import KNOWN, believed, followed, middle, squared_noise, weights
from edgeemu.policies.view.link_estimates import LinkEstimates, MeasuredLinks
from edgeemu.policies.view.link_factors import NO_LINKS, Doubtful, Factors, LinkFactors
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.operation_times import OperationTimes
from edgeemu.policies.view.outlook import Outlook
from edgeemu.policies.view.scaling import Scaling
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord


class Estimator:
    """Estimates from all measurements of a cluster so far."""

    _link_estimates: type[LinkEstimates] = LinkEstimates

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
        n = len(cluster.devices)
        self._slowdown = np.full(n, np.nan)  # [n] of operations, by the unloaded device; NaN: not measured yet
        self._measured = False  # whether all of them are
        self._steady = np.full(n, np.nan)  # [n] levels of slowdowns
        self._level = np.ones(n)  # [n] the same as far as they are to be believed
        self._near = np.zeros(n)  # [n] observations in a row that were near them
        self._noise = np.zeros(n)  # [n] squares of what the last of them was off, relative
        self._variance = np.zeros(1)  # of all, in the mean
        self._idle = np.ones(n)  # [n] the same with nothing else there: other than 1 only where the host says it
        self._queueing_s = np.zeros(n)  # [n] from ready to start, mean of an operation
        self._sizes: Sequence[int] = tuple(device.memory_bytes for device in cluster.devices)
        self._memory_bytes = np.array(self._sizes, np.int64)  # [n] the same
        self._worked = np.zeros(n, np.bool_)  # [n] since states were last observed
        self._by_host = np.array([device.compute is None for device in cluster.devices], np.bool_)  # [n]
        self._some_by_host = bool(self._by_host.any())
        self._sheet = sheet or LinkMatrix.of(cluster)
        self._links = self._link_estimates(self._sheet, smoothing, at_start or {})
        self._scaling = Scaling(n, np.empty(0, np.int64), np.empty(0, np.int64))  # of the links that were measured
        self._history = History()
        self._unloaded: tuple[ClusterView, ClusterView] | None = None  # a view, and the same without load
        self._begin()

    def _begin(self) -> None:
        """Prepare what another way to learn the same needs."""

    # -- measurements ------------------------------------------------------------------------------------------

    def observe_executions(self, executions: Sequence[OperationRecord]) -> None:
        """Add operations of one step or of several, with their times on the timeline."""
        totals = self._times.totals(executions)
        worked = totals.number.nonzero()[0]  # [m]
        number, nominal_s, busy_s, waited_s = (each[worked] for each in totals)
        before, newest = self._slowdown[worked], busy_s / nominal_s
        queueing_s = self._queueing_s[worked]
        if not self._measured:
            queueing_s = np.where(np.isnan(before), np.nan, queueing_s)
        self._queueing_s[worked] = self._smoothed(queueing_s, waited_s / number)
        self._slowdown[worked] = self._smoothed(before, newest)
        level = self._steady[worked]
        self._near[worked] = near = followed(self._near[worked], level, newest)
        self._noise[worked] = squared_noise(near, level, newest)
        self._steady[worked] = self._level[worked] = self._smoothed(level, newest, near)
        self._worked[worked] = True

    def observe_transits(self, transits: Iterable[Transit]) -> None:
        """Add durations of messages from departure to arrival, without the time in queues."""
        self._links.observe(transits)

    def observe_states(self, availability: Sequence[float], memory_bytes: Sequence[int]) -> None:
        """Add the readings of all devices at an instant.

        `availability`, above 0: counts if nothing was executed since the last.
        """
        if memory_bytes != self._sizes:
            self._sizes, self._memory_bytes = tuple(memory_bytes), np.array(memory_bytes, np.int64)
        shares = np.array(availability)
        if self._some_by_host:
            self._idle = np.where(self._worked & self._by_host, self._slowdown * shares, self._idle)
        self._add_states(shares)
        if not self._measured:
            self._begin_near_others()
        self._measured = True
        self._settle()

    def _add_states(self, shares: FloatArray) -> None:
        """Add what those devices say of themselves on which nothing was executed since the last time."""
        rested, newest = np.logical_not(self._worked), self._idle / shares
        near = followed(self._near, self._steady, newest)
        np.copyto(self._noise, squared_noise(near, self._steady, newest), where=rested)
        np.copyto(self._slowdown, self._smoothed(self._slowdown, newest), where=rested)
        np.copyto(self._steady, self._smoothed(self._steady, newest, near), where=rested)
        np.copyto(self._near, near, where=rested)
        self._worked.fill(False)

    def _begin_near_others(self) -> None:
        """Have what all devices do in the middle count as an observation of each that is near it."""
        others = np.full(len(self._steady), middle(self._steady))
        self._near[:] = near = followed(np.zeros(len(others)), others, self._steady)
        self._noise[:] = squared_noise(near, others, self._steady)
        np.copyto(self._steady, self._smoothed(others, self._steady, near), where=near > 0.0)
        self._variance[0] = self._noise.mean()

    def _settle(self) -> None:
        """Find out how far levels are to be believed."""
        self._variance += (self._noise.cumsum()[-1] / len(self._noise) - self._variance) / KNOWN
        self._level[:] = believed(self._steady, self._near, float(self._variance[0]), self._smoothing)

    def _smoothed(self, before: FloatArray, newest: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Estimates with newer observations, [n]; `near`: how many in a row have been near them."""
        weight = self._smoothing if near is None else weights(self._smoothing, near)
        smoothed = before + weight * (newest - before)
        return smoothed if self._measured else np.where(np.isnan(before), newest, smoothed)

    # -- estimates ------------------------------------------------------------------------------------------

    def slowdowns(self) -> FloatArray:
        """By how many times operations on each device take longer than nominally: [n_devices]."""
        return self._slowdown.copy() if self._measured else np.where(np.isnan(self._slowdown), 1.0, self._slowdown)

    def queueing_s(self, device: int) -> float:
        """Mean time that a ready operation waits for the device."""
        return float(self._queueing_s[device])

    def outlook(self, now: DecisionTime, bits: float) -> Outlook:
        """Note what was measured before a decision, and return what to expect; of links by a message of `bits`."""
        return self._history.outlook(now, self.slowdowns(), *self.newest_links(bits))

    def newest_links(self, bits: float) -> MeasuredLinks:
        """Links that were measured since the decision before, and how slow they are for a message of `bits`."""
        return self._links.newest(bits)

    def newest_codes(self) -> IntArray:
        """Codes of these links, ascending."""
        return self._links.newest_codes()

    def doubtful(self, worse: float, others: IntArray = NO_LINKS) -> Doubtful:
        """Links that were `worse` times as slow as nominal when they were measured, and others, by their codes [n]."""
        return self._links.doubtful(worse, others)

    def make_ready(self, base: ClusterView) -> ClusterView:
        """Compute what views are made of and compared with; return the view without load."""
        unloaded = replace(base, devices=self._nominal)
        for each in (base, unloaded):
            _ = each.flops_per_s, each.mem_bytes_per_s, each.overhead_s, each.message_ends
            _ = each.memory_bytes, each.installed_bytes
        self._unloaded = base, unloaded
        return unloaded

    def view(
        self,
        base: ClusterView,
        workload: WorkloadView | None = None,
        costs: Costs | None = None,
        told: tuple[DecisionTime, float] | None = None,
    ) -> ClusterView:
        """`base` with the estimated devices and links, and with another workload and costs where they are given.

        `told`: arguments of `outlook`, which it then has too.
        """
        self._links.next_turn()
        known = self._unloaded
        others: dict[str, Any] = {"workload": workload or base.workload, "costs": costs or base.costs}
        unloaded = known[1] if known is not None and known[0] is base else self.make_ready(base)
        if told:
            others["outlook"] = self._from_levels(self.outlook(*told))
        return self._view(unloaded, **others)

    def _from_levels(self, outlook: Outlook) -> Outlook:
        """Return what to expect of devices that are at their levels now."""
        devices, known = outlook.devices, outlook.of_devices
        if not len(devices):
            return outlook
        mean = known.mean * (self._slowdown[devices] / self._level[devices])
        return outlook._replace(of_devices=known._replace(mean=mean))

    def _view(self, unloaded: ClusterView, **others: Any) -> ClusterView:
        """A view without load as it is with the estimated devices and links; `others`: other fields."""
        factors = self._links.factors()
        links = self._sheet.scaled(factors, self._scaling_of(factors))
        return unloaded.slowed(self._level.copy(), self._memory_bytes, links=links, observed=factors, **others)

    def _scaling_of(self, factors: LinkFactors) -> Scaling:
        """How to find links that were measured; they are mostly those of the decision before."""
        if factors.sources is not self._scaling.sources:
            self._scaling = self._links.scaling(factors)
        return self._scaling
