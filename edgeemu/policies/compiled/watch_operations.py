"""Times of executed operations by device, and what is learned from them: `view.estimator`, in the same order."""

from typing import NamedTuple

from edgeemu.policies.view.levels import STEADY, TURN
from edgeemu_kernels.arrays import Flags, Floats, Ints


class DeviceTimes(NamedTuple):
    """Devices without load, what was measured of them, and places to write in for a step."""

    n: int
    smoothing: float  # weight of the newest measurement
    flops_per_s: Floats  # [n]
    mem_bytes_per_s: Floats  # [n]
    overhead_s: Floats  # [n]
    slowdown: Floats  # [n] of operations; NaN: not measured yet
    queueing_s: Floats  # [n] from ready to start, mean of an operation
    worked: Flags  # [n] since states were last observed
    steady: Floats  # [n] levels of slowdowns
    near: Floats  # [n] observations in a row that were near them
    noise: Floats  # [n] squares of what the last of them was off, relative
    level: Floats  # [n] levels as far as they are to be believed
    first: Floats  # [n] the first slowdowns that a decision saw
    number: Ints  # [n] operations of the step
    nominal_s: Floats  # [n]
    busy_s: Floats  # [n]
    waited_s: Floats  # [n]


class OperationKinds(NamedTuple):
    """Kinds of operations, with their works in steps of some rows."""

    n_kinds: int
    works: Floats  # [2, n_kinds, 2] operations and bytes with nothing cached, and what a position adds; NaN: not known
    computes: Flags  # [n_kinds]
    starts_kernel: Flags  # [n_kinds]


def observe_operations(
    d: DeviceTimes,
    k: OperationKinds,
    devices: Ints,
    kinds: Ints,
    past: float,
    n_operations: int,
    places: Ints,
    ready_s: Floats,
    start_s: Floats,
    end_s: Floats,
) -> int:
    """Add the operations of a step if the works of all are known; 1: they are.

    `devices`, `kinds`: of the program's operations, [n_ops]; a kind is -1 where it is not known yet. `past`: positions
    that the step found cached. `places`: which operations these are, [n_operations], as their instants.
    """
    for which in range(n_operations):
        kind = kinds[places[which]]
        if kind < 0:
            return 0
        if k.works[2 * kind] != k.works[2 * kind]:
            return 0
    for device in range(d.n):
        d.number[device] = 0
        d.nominal_s[device] = 0.0
        d.busy_s[device] = 0.0
        d.waited_s[device] = 0.0
    for which in range(n_operations):
        place = places[which]
        device = devices[place]
        nominal_s = _nominal_s(d, k, kinds[place], past, device)
        if nominal_s != 0.0:  # an operation that takes no time has no information
            d.number[device] += 1
            d.nominal_s[device] += nominal_s
            d.busy_s[device] += end_s[which] - start_s[which]
            d.waited_s[device] += start_s[which] - ready_s[which]
    for device in range(d.n):
        if d.number[device] > 0:
            first = d.slowdown[device] != d.slowdown[device]
            queueing_s, slowdown = d.waited_s[device] / d.number[device], d.busy_s[device] / d.nominal_s[device]
            d.queueing_s[device] = queueing_s if first else smoothed(d, d.queueing_s[device], queueing_s, 0.0)
            d.slowdown[device] = slowdown if first else smoothed(d, d.slowdown[device], slowdown, 0.0)
            follow(d, device, slowdown)
            d.worked[device] = True
    return 1


def _nominal_s(d: DeviceTimes, k: OperationKinds, kind: int, past: float, device: int) -> float:
    """Duration of an operation without load, by the roofline."""
    if not k.computes[kind]:
        return 0.0
    flops = k.works[2 * kind] + past * k.works[2 * (k.n_kinds + kind)]
    bytes_read = k.works[2 * kind + 1] + past * k.works[2 * (k.n_kinds + kind) + 1]
    taken_s = max(flops / d.flops_per_s[device], bytes_read / d.mem_bytes_per_s[device]) + d.overhead_s[device]
    return taken_s if k.starts_kernel[kind] else taken_s - d.overhead_s[device]


def follow(d: DeviceTimes, device: int, newest: float) -> None:
    """Add an observation of a device to its level."""
    before, off = d.steady[device], 0.0
    d.near[device] = _followed(d.near[device], before, newest)
    if d.near[device] > 0.0:
        off = (newest - before) / before
    d.noise[device] = off * off
    d.steady[device] = newest if before != before else smoothed(d, before, newest, d.near[device])
    d.level[device] = d.steady[device]


def _followed(near: float, before: float, newest: float) -> float:
    """How many observations in a row have been near a level, with the newest."""
    if newest <= TURN * before and before <= TURN * newest:
        return min(near + 1.0, STEADY)
    return 0.0


def smoothed(d: DeviceTimes, before: float, newest: float, near: float) -> float:
    """Estimate with a newer observation; `near`: how many in a row have been near it."""
    weight = d.smoothing / (d.smoothing + (1.0 - d.smoothing) * (1.0 + near)) if near > 0.0 else d.smoothing
    return before + weight * (newest - before)
