"""What a policy is shown: the cluster as it was measured, or, with `knowledge: oracle`, as it is. Asks the backend."""

from collections.abc import Sequence
from dataclasses import replace

from edgeemu.policies.view.cluster_view import ClusterView, DeviceView
from edgeemu.policies.view.estimator import Estimate
from edgeemu.policies.view.oracle import slowed, view_at
from edgeemu.run.backend import Measurements
from edgeemu.run.plan import Plan
from edgeemu.timeline.steps import Step


class Watcher:
    """Makes the view for each decision of a run. It remembers: it must be asked in the order of the decisions."""

    def __init__(self, plan: Plan, devices: Measurements) -> None:
        self._plan = plan
        self._devices = devices
        self._estimate = Estimate(plan.cluster, plan.whole, plan.costs, plan.scenario.decisions.smoothing, plan.links)

    async def view(self, steps: Sequence[Step], at_s: float) -> ClusterView:
        """For the decision at an instant, before steps that are not their sequences' first."""
        view, longest = self._plan.view, max(steps, key=lambda step: step.past)
        costs = view.costs.at_step(longest.rows, longest.past)
        base = replace(view, length=longest.past, cached=sum(step.past for step in steps), costs=costs)
        if self._plan.scenario.knowledge == "oracle":
            return self._true(base, at_s)
        for observed in await self._devices.observe():
            self._estimate.observe_executions(observed.executions)
            self._estimate.observe_transits(observed.transits)
        for index, state in enumerate(await self._devices.states(at_s)):
            self._estimate.observe_state(index, state.availability, state.memory_bytes)
        return self._estimate.view(base)

    def _true(self, base: ClusterView, at_s: float) -> ClusterView:
        cluster = self._devices.cluster
        devices = tuple(
            DeviceView.of(device, slowed(compute, device.slowdown_at(at_s)), device.memory_at(at_s))
            for device, compute in zip(cluster.devices, self._plan.whole, strict=True)
        )
        return view_at(replace(base, devices=devices), cluster, self._plan.links, at_s)
