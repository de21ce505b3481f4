"""The policy's view of a run: the cluster as it was measured, or, with `knowledge: oracle`, as it is."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeemu.cluster.links import Change
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.policies.compiled.watch_code import EstimatorCode, has_estimator_code
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.estimator import Estimator
from edgeemu.policies.view.history import DecisionTime, History
from edgeemu.policies.view.levels import TURN
from edgeemu.policies.view.link_estimates import MeasuredLinks
from edgeemu.policies.view.link_factors import Doubtful, LinkFactors
from edgeemu.policies.view.links_at import link_factors_at
from edgeemu.policies.view.oracle import view_at
from edgeemu.policies.view.outlook import Outlook
from edgeemu.run.backend import PROBE_PAYLOAD_BYTES, Measurements, StepMeasurement
from edgeemu.run.link_trials import LinkTrials
from edgeemu.run.plan import Plan
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord, Step


class Watcher:
    """Makes the view for each decision of a run, in the order of decisions: what it has learned grows with each."""

    def __init__(self, plan: Plan, devices: Measurements) -> None:
        self._plan = plan
        self._devices = devices
        watched = plan.cluster, plan.computes, plan.costs, plan.scenario.decisions.smoothing
        links = plan.links, plan.view.observed
        quick = plan.decide is not None and has_estimator_code(plan.links)
        self._estimate = EstimatorCode(*watched, *links) if quick else Estimator(*watched, *links)
        if plan.decide is not None:
            self._estimate.make_ready(plan.view)  # not in the first decision's time
        self._history = History()  # of an oracle
        self._x_bits = 8.0 * plan.costs.activation_bytes(1)  # of a vector x
        small, large = (MESSAGE_HEADER_BYTES + size_bytes for size_bytes in PROBE_PAYLOAD_BYTES)
        least_bits = 8.0 * min(plan.costs.attention_bytes(1, 1), plan.costs.activation_bytes(1))
        self.trials = LinkTrials(plan.links, least_bits, (small, large))
        self._standstills: list[tuple[int, float, float]] = []  # of devices, from one instant to another
        self._links_down: list[tuple[Change, float, float]] = []  # links, from one instant to another
        self._now = DecisionTime(0, 0.0, 0.0)  # of the last view; tokens of each sequence, as decisions count them

    async def view(self, steps: Sequence[Step], at_s: float, tokens: int = 0, *, moved: bool = False) -> ClusterView:
        """Return the view for a decision at an instant, before decode steps, one of each open sequence.

        `tokens`: of each, since the last view. `moved`: since then blocks have moved, which took its time, too.
        """
        view, longest = self._plan.view, max(steps, key=lambda step: step.past)
        costs = view.costs.at_step(longest.rows, longest.past)
        workload = view.workload.with_cached(longest.past, sum(step.past for step in steps))
        self._now = now = self._now.later(tokens, at_s, paused=moved)
        if self._plan.scenario.knowledge == "oracle":
            known, outlook = self._oracle(replace(view, workload=workload, costs=costs), at_s)
            return known.noted(outlook=outlook) if outlook else known
        for observed in await self._devices.observe():
            self._estimate.observe_executions(self._without_standstills(observed.executions))
            transits = self._without_links_down(observed)
            if self.trials.under_way:
                transits = self.trials.taken(transits, self.used_links())
            self._estimate.observe_transits(transits)
        self._estimate.observe_states(*zip(*await self._devices.states(at_s), strict=True))
        return self._estimate.view(view, workload, costs, (now, self._x_bits))

    def note_standstill(self, device: int, began_s: float, over_s: float) -> None:
        """Note that a device stood still for a while, as it knows when that is over: operations of then say nothing."""
        self._standstills.append((device, began_s, over_s))

    def note_links_down(self, links: Change, began_s: float, over_s: float) -> None:
        """Note that links were down for a while: messages of then say nothing of their rate."""
        self._links_down.append((links, began_s, over_s))

    def _without_links_down(self, observed: StepMeasurement) -> Sequence[Transit]:
        """Return the transits of a step without those over links that were down meanwhile."""
        if not self._links_down or not observed.executions:
            return observed.transits
        begin_s = min(record.time.start_s for record in observed.executions)
        end_s = max(record.time.end_s for record in observed.executions)
        down = [links for links, began_s, over_s in self._links_down if begin_s < over_s and end_s > began_s]
        crosses = self._devices.cluster.crosses
        return [transit for transit in observed.transits if not any(crosses(*transit[:2], links) for links in down)]

    def _without_standstills(self, executions: Sequence[OperationRecord]) -> Sequence[OperationRecord]:
        if not self._standstills:
            return executions
        return [
            record
            for record in executions
            if not any(
                record.op.device == device and record.time.start_s < over_s and record.time.end_s > began_s
                for device, began_s, over_s in self._standstills
            )
        ]

    def used_links(self) -> IntArray:
        """Return the links that were measured since the decision before, as codes, ascending."""
        return self._estimate.newest_codes()

    def doubtful(self, outlook: Outlook) -> Doubtful:
        """Return links that were slow when they were measured, or are expected to become slow."""
        return self._estimate.doubtful(TURN, outlook.slower_links(TURN))

    def _oracle(self, base: ClusterView, at_s: float) -> tuple[ClusterView, Outlook]:
        """Return the view of the cluster as it is at an instant, and what is expected of what has come and gone."""
        cluster = self._devices.cluster
        slowdowns = np.array([device.slowdown_at(at_s) for device in cluster.devices])
        devices = tuple(
            DeviceView.of(device, compute.slowed(slowdown), device.memory_at(at_s))
            for device, compute, slowdown in zip(cluster.devices, self._plan.computes, slowdowns.tolist(), strict=True)
        )
        known = view_at(replace(base, devices=devices), cluster, self._plan.links, at_s)
        factors = LinkFactors.of(link_factors_at(self._plan.links, cluster, at_s))
        links = MeasuredLinks.of(self._plan.links, factors, self._x_bits)
        return known, self._history.outlook(self._now, slowdowns, *links)
