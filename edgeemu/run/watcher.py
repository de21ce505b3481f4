"""The policy's view of a run: the cluster as it was measured, or, with `knowledge: oracle`, as it is."""

from collections.abc import Sequence
from dataclasses import replace

from edgeemu.policies.view.cluster_view import ClusterView, DeviceView
from edgeemu.policies.view.estimator import Estimator
from edgeemu.policies.view.oracle import slowed, view_at
from edgeemu.run.backend import Measurements
from edgeemu.run.plan import Plan
from edgeemu.timeline.steps import Step


class Watcher:
    """Makes the view for each decision of a run, in the order of decisions: its estimates grow with each."""

    def __init__(self, plan: Plan, devices: Measurements) -> None:
        self._plan = plan
        self._devices = devices
        self._estimate = Estimator(
            plan.cluster, plan.computes, plan.costs, plan.scenario.decisions.smoothing, plan.links
        )

    async def view(self, steps: Sequence[Step], at_s: float) -> ClusterView:
        """Return the view for a decision at an instant, before decode steps, one of each open sequence."""
        view, longest = self._plan.view, max(steps, key=lambda step: step.past)
        costs = view.costs.at_step(longest.rows, longest.past)
        workload = replace(view.workload, length=longest.past, cached=sum(step.past for step in steps))
        base = replace(view, workload=workload, costs=costs)
        if self._plan.scenario.knowledge == "oracle":
            return self._oracle(base, at_s)
        for observed in await self._devices.observe():
            self._estimate.observe_executions(observed.executions)
            self._estimate.observe_transits(observed.transits)
        for index, state in enumerate(await self._devices.states(at_s)):
            self._estimate.observe_state(index, state.availability, state.memory_bytes)
        return self._estimate.view(base)

    def _oracle(self, base: ClusterView, at_s: float) -> ClusterView:
        """Return the view of the cluster as it is at an instant."""
        cluster = self._devices.cluster
        devices = tuple(
            DeviceView.of(device, slowed(compute, device.slowdown_at(at_s)), device.memory_at(at_s))
            for device, compute in zip(cluster.devices, self._plan.computes, strict=True)
        )
        return view_at(replace(base, devices=devices), cluster, self._plan.links, at_s)
