"""Energy of a decode step of a placement, in joules. Pure arithmetic; knows no device processes, clock or records.

The model is the usual one of idle and dynamic power (Fan, Weber, Barroso, ISCA 2007), with a state machine's two states
for processors and a cost per bit for links (Huang et al., MobiSys 2012):

    E = sum over devices of ( idle_w * span + (busy_w - idle_w) * busy time ) + sum over messages of bits * J/bit

A device that holds nothing has its idle power too. The power of other work on a device is not counted; our work that
runs at the same time counts in full. An access point is no device. Retransmitted packets, the storage that weights are
read from, and a radio's wait for its channel are not counted.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.errors import EdgeemuError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.placement import Placement, PlacementError, is_divided
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.share_energy import ShareEnergy
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.policies.view.step_time import StepTimes
from edgeemu.units import ENERGY

MANY = 5  # names that a reason lists


class UnknownEnergyError(EdgeemuError):
    """A power or an energy per bit is missing, so that no energy can be computed. `str()` gives the reason."""


def missing_power(devices: Sequence[Device]) -> str:
    """Message about devices without idle or busy power; empty where there are none."""
    without = [device.name for device in devices if device.idle_w is None or device.busy_w is None]
    return f"{_some(without)} without idle or busy power: give power: {{idle: 2 W, busy: 5 W}}" if without else ""


def missing_links(cluster: Cluster, pairs: Sequence[tuple[int, int]]) -> str:
    """Message about pairs (source, target) without energy per bit; empty where there are none."""
    names = [device.name for device in cluster.devices]
    shown = _some([f"{names[a]} to {names[b]}" for a, b in pairs])
    return f"links without energy per bit, {shown}: give energy: {{send: 5 nJ/bit, receive: 5 nJ/bit}}" if pairs else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


class StepEnergy:
    """Energy of decode steps of placements: of one sequence alone, with the times of `StepTimes`.

    Raises:
        UnknownEnergyError: a device has no power; a message crosses a link without energy per bit.
    """

    def __init__(self, view: ClusterView, past: int | None = None) -> None:
        """`past`: positions cached; by default those of the view's next step."""
        self.times = StepTimes(view, past)
        self._view = view
        powers = [(device.idle_w, device.busy_w) for device in view.devices]
        without = [d.name for d, power in zip(view.devices, powers, strict=True) if None in power]
        if without:
            raise UnknownEnergyError(f"energy cannot be computed: {_some(without)} without idle or busy power")
        self.idle_w = np.array([idle for idle, _ in powers], np.float64)  # [n_devices]
        self.dynamic_w = np.array([busy for _, busy in powers], np.float64) - self.idle_w  # [n_devices]

    def step_j(self, layout: PlacementArrays) -> float:
        """Energy of one decode step: idle power of all devices, dynamic power of those that compute, and messages."""
        return self.token_j(layout, 1)

    def token_j(self, layout: PlacementArrays, sequences: int) -> float:
        """Energy of a token with several sequences in flight, which share the idle energy.

        At best: a pipeline is never quicker than one sequence's share of its steps, nor than its busiest device.
        """
        busy_s = self.times.busy_s(layout)
        between_s = max(self.times.step_s(layout) / sequences, float(busy_s.max()))
        return float(self.idle_w.sum()) * between_s + float(self.dynamic_w @ busy_s) + self.radio_j(layout)

    def radio_j(self, layout: PlacementArrays) -> float:
        """Energy of the messages of a step on all devices that send, relay or receive them."""
        spent_j = 0.0
        for (source, target), bits in self.times.message_bits(layout).items():
            j_per_bit = self._view.j_per_bit(source, target)
            if j_per_bit is None:
                raise _unknown_path(self._view, source, target)
            spent_j += bits * j_per_bit
        return spent_j


def step_energy_j(view: ClusterView, placement: Placement, past: int | None = None) -> float:
    """Joules of one decode step of a placement, alone on the cluster. `past` and errors: see `StepEnergy`."""
    return StepEnergy(view, past).step_j(PlacementArrays.of(placement, view.costs.shape))


def token_energy_j(view: ClusterView, placement: Placement) -> float:
    """Mean energy of the remaining tokens: of the step in their middle. Errors: see `StepEnergy`.

    A step's energy grows almost linearly with the cache. Sequences in flight share the idle energy, at best evenly. The
    prompt, and moves between placements, are not included.
    """
    past = view.past + max(0, view.remaining_tokens - 2) // 2
    if is_divided(placement, view.costs.shape.n_layers):
        return _divided_token_j(view, placement, past)
    middle = StepEnergy(view, past)
    return middle.token_j(PlacementArrays.of(placement, view.costs.shape), view.sequences)


def _divided_token_j(view: ClusterView, placement: Placement, past: int) -> float:
    """Energy of a token of a placement with shards. Raises PlacementError for shards of a projection without heads."""
    StepEnergy(view, past)  # refuses devices without power
    devices = np.array(placement.devices())
    for a, b in permutations(devices.tolist(), 2):
        if view.j_per_bit(a, b) is None:
            raise _unknown_path(view, a, b)
    shares = ShareArrays.of(placement, view.costs.shape, devices)
    if shares is None:
        raise PlacementError("the shards of a projection are not with their heads")
    step = step_of(ShareTimes(view, devices, past), shares)
    return float(ShareEnergy(view, devices).token_j(step, view.sequences)[0])


def _unknown_path(view: ClusterView, source: int, target: int) -> UnknownEnergyError:
    a, b = (view.devices[end].name for end in (source, target))
    return UnknownEnergyError(f"energy cannot be computed: no energy per bit on the path from {a} to {b}")


def over_budget(view: ClusterView, placement: Placement, current: Placement | None = None) -> str:
    """Message if a placement exceeds the energy budget; empty if not, or if it needs less than `current`."""
    allowed_j = view.energy_budget_j
    if allowed_j is None:
        return ""
    try:
        need_j = token_energy_j(view, placement)
        if need_j <= allowed_j or (current is not None and need_j < token_energy_j(view, current)):
            return ""
    except UnknownEnergyError as error:
        return str(error)
    except PlacementError:
        return "the energy of projections apart from their heads cannot be computed before the run (energy_budget)"
    need, allowed = (ENERGY.format_human(joules) for joules in (need_j, allowed_j))
    return f"the placement needs {need} a token, {allowed} allowed (energy_budget)"
