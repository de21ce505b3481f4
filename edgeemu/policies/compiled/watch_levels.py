"""Readings of all devices, and how far their levels are to be believed: `view.levels`, in the same order."""

from edgeemu.policies.compiled.watch_operations import DeviceTimes, follow, smoothed
from edgeemu.policies.view.levels import FREE, KNOWN, TURN
from edgeemu_kernels.arrays import Floats


def observe_states(d: DeviceTimes, availability: Floats, idle: Floats) -> None:
    """Add the readings of all devices at an instant: [n].

    `availability`, above 0: counts if nothing was executed since the last. `idle`: slowdowns with nothing else there.
    """
    for device in range(d.n):
        if not d.worked[device]:
            before, newest = d.slowdown[device], idle[device] / availability[device]
            d.slowdown[device] = newest if before != before else smoothed(d, before, newest, 0.0)
            follow(d, device, newest)
        d.worked[device] = False


def settle(d: DeviceTimes, variance: Floats) -> None:
    """Find out how far levels are to be believed. `variance`, [1]: of one observation, relative."""
    noise, count, total = 0.0, 0, 0.0
    for device in range(d.n):
        noise += d.noise[device]
        d.level[device] = d.steady[device]
    variance[0] += (noise / d.n - variance[0]) / KNOWN
    middle = _middle(d)
    for device in range(d.n):
        if _is_alike(d, device, middle):
            count += 1
            total += d.steady[device]
    if variance[0] == 0.0 or d.smoothing == 1.0 or count <= FREE:
        return
    mean, spread, weights = total / count, 0.0, 0.0
    for device in range(d.n):
        if _is_alike(d, device, middle):
            away = d.steady[device] - mean
            spread += away * away
            weights += d.smoothing / (d.smoothing + (1.0 - d.smoothing) * (1.0 + d.near[device]))
    error = variance[0] * (mean * mean) * weights / count
    kept = 1.0 - (count - FREE) * error / spread if spread > (count - FREE) * error else 0.0
    for device in range(d.n):
        if _is_alike(d, device, middle):
            d.level[device] = mean + kept * (d.steady[device] - mean)


def _is_alike(d: DeviceTimes, device: int, middle: float) -> bool:
    """Whether a device is near its level, and that near the middle of all."""
    level = d.steady[device]
    return d.near[device] > 0.0 and level <= TURN * middle and middle <= TURN * level


def _middle(d: DeviceTimes) -> float:
    """Level of which half of all are less."""
    place = d.n >> 1
    for device in range(d.n):
        level, less, alike = d.steady[device], 0, 0
        for other in range(d.n):
            less += d.steady[other] < level
            alike += d.steady[other] == level
        if less <= place and place < less + alike:
            return level
    return 1.0
