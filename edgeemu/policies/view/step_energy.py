"""What a run, or a decode step of a placement, draws in joules. Pure arithmetic; knows no devices, clock or records.

The model is the usual one of idle and dynamic power (Fan, Weber, Barroso, ISCA 2007), with a state machine's two states
for processors and a cost per bit for links (Huang et al., MobiSys 2012):

    E = sum over devices of ( idle_w * span + (busy_w - idle_w) * busy time ) + sum over messages of bits * J/bit

A device that holds nothing draws its idle power too: it is there. What other work on a device draws is not ours, and is
not counted; while ours runs beside it, ours counts in full. An access point is no device. Packets that are sent again,
the storage that weights are read from, and a radio's wait for its channel are not counted.
"""

from collections.abc import Sequence

import numpy as np

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.errors import EdgeemuError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_time import StepTimes
from edgeemu.units import ENERGY

MANY = 5  # names that a reason lists


class UnknownEnergyError(EdgeemuError):
    """Something has no figure of its power, so that no energy can be reckoned. `str()` says what, and what to do."""


def missing_power(devices: Sequence[Device]) -> str:
    """Which devices have no figure, and what to do; empty where all have."""
    without = [device.name for device in devices if device.idle_w is None or device.busy_w is None]
    return f"{_some(without)} without idle or busy power: give power: {{idle: 2 W, busy: 5 W}}" if without else ""


def missing_links(cluster: Cluster, ways: Sequence[tuple[int, int]]) -> str:
    """Which of these ways have no figure, and what to do; empty where there are none."""
    names = [device.name for device in cluster.devices]
    shown = _some([f"{names[a]} to {names[b]}" for a, b in ways])
    return f"links without energy per bit, {shown}: give energy: {{send: 5 nJ/bit, receive: 5 nJ/bit}}" if ways else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


class StepEnergy:
    """What decode steps draw under placements, from a view: of one sequence alone, as `makespan` has their times.

    Raises:
        UnknownEnergyError: a device has no figure; a layout's message crosses a link that has none.
    """

    def __init__(self, view: ClusterView, past: int | None = None) -> None:
        """`past`: positions cached; by default those of the view's next step."""
        self.times = StepTimes(view, past)
        self._view = view
        powers = [(device.idle_w, device.busy_w) for device in view.devices]
        without = [d.name for d, power in zip(view.devices, powers, strict=True) if None in power]
        if without:
            raise UnknownEnergyError(f"energy cannot be reckoned: {_some(without)} without idle or busy power")
        self.idle_w = np.array([idle for idle, _ in powers], np.float64)  # [n_devices]
        self.dynamic_w = np.array([busy for _, busy in powers], np.float64) - self.idle_w  # [n_devices]

    def step_j(self, layout: PlacementArrays) -> float:
        """One decode step: all devices wait for as long as it takes, some compute, and messages pass."""
        return self.token_j(layout, 1)

    def token_j(self, layout: PlacementArrays, sequences: int) -> float:
        """A token where so many sequences are in flight, which share the waiting.

        At best: a pipeline is never quicker than one sequence's share of its steps, nor than its busiest device.
        """
        busy_s = self.times.busy_s(layout)
        between_s = max(self.times.step_s(layout) / sequences, float(busy_s.max()))
        return float(self.idle_w.sum()) * between_s + float(self.dynamic_w @ busy_s) + self.radio_j(layout)

    def radio_j(self, layout: PlacementArrays) -> float:
        """What the messages of a step cost all that send, relay or receive them."""
        spent_j = 0.0
        for (source, target), bits in self.times.message_bits(layout).items():
            j_per_bit = self._view.j_per_bit(source, target)
            if j_per_bit is None:
                a, b = (self._view.devices[end].name for end in (source, target))
                raise UnknownEnergyError(f"energy cannot be reckoned: no energy per bit on the way from {a} to {b}")
            spent_j += bits * j_per_bit
        return spent_j


def step_energy_j(view: ClusterView, placement: Placement, past: int | None = None) -> float:
    """One decode step of a placement, alone on the cluster: joules. `past`, and errors, as of `StepEnergy`."""
    return StepEnergy(view, past).step_j(PlacementArrays.of(placement, view.costs.shape))


def token_energy_j(view: ClusterView, placement: Placement) -> float:
    """What a token of those that are still to come draws in the mean: the step in their middle. Errors as above.

    A step's energy grows with the cache all but linearly. Sequences in flight share the waiting, at best evenly. The
    prompt, and moves between placements, come on top.
    """
    reckoned = StepEnergy(view, view.past + max(0, view.remaining_tokens - 2) // 2)
    return reckoned.token_j(PlacementArrays.of(placement, view.costs.shape), view.sequences)


def over_budget(view: ClusterView, placement: Placement, current: Placement | None = None) -> str:
    """By what a placement breaks the view's budget; empty where it does not, or where it draws less than `current`."""
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
        return "the energy of divided blocks cannot be reckoned beforehand (energy_budget)"
    need, allowed = (ENERGY.format_human(joules) for joules in (need_j, allowed_j))
    return f"the placement needs {need} a token, {allowed} allowed (energy_budget)"
