"""Levels of noisy measurements: how much the newest counts, and how far those of many devices are to be believed. Pure.

A device whose load goes up and down all the time has a level around which its measurements lie. While they do, each
counts less than the one before, as in a mean; what is `TURN` times off begins a new level, and counts by `smoothing`.

Of many devices with noise some seem fast at every instant, and who moves to these moves for nothing, again and again.
So levels that are near the middle of all are drawn towards their mean, by as much as noise alone would set them apart
(James and Stein 1961, the positive part, towards the mean): all the way where devices differ by no more than that, and
not at all where they differ by much more, or where there is no noise.
"""

import numpy as np

from edgeemu.placement.arrays import FloatArray

TURN = 1.25  # a time that has changed by this factor
STEADY = 14.0  # observations near a level after which further ones count alike
KNOWN = 8.0  # decisions after which a measure of the noise counts little
FREE = 3  # of the levels that are drawn together: with so many nothing is gained


def followed(near: FloatArray, before: FloatArray, newest: FloatArray) -> FloatArray:
    """How many observations in a row have been near their levels, with the newest: [n]."""
    is_near = (newest <= TURN * before) & (before <= TURN * newest)
    return np.where(is_near, np.minimum(near + 1.0, STEADY), 0.0)


def weights(smoothing: float, near: FloatArray) -> FloatArray:
    """Weight of the newest observation: [n]. `near`: how many in a row were near, with it."""
    return np.where(near > 0.0, smoothing / (smoothing + (1.0 - smoothing) * (1.0 + near)), smoothing)


def squared_noise(near: FloatArray, before: FloatArray, newest: FloatArray) -> FloatArray:
    """Squares of relative distances of observations that are near their levels, and 0 for others: [n]."""
    off = np.where(near > 0.0, (newest - before) / before, 0.0)
    return off * off


def middle(levels: FloatArray) -> float:
    """Level of which half of all are less."""
    return float(np.partition(levels, len(levels) // 2)[len(levels) // 2])


def believed(levels: FloatArray, near: FloatArray, variance: float, smoothing: float) -> FloatArray:
    """Levels as far as they are to be believed, [n]: whatever was measured last, where that alone counts.

    `variance`: of one observation, relative.
    """
    at_middle = middle(levels)
    alike = (near > 0.0) & (levels <= TURN * at_middle) & (at_middle <= TURN * levels)
    count = int(np.count_nonzero(alike))
    if variance == 0.0 or smoothing == 1.0 or count <= FREE:
        return levels.copy()
    some = levels[alike]  # [count]
    mean = some.cumsum()[-1] / count  # in the order of machine code
    away = some - mean
    spread = (away * away).cumsum()[-1]
    error = variance * (mean * mean) * weights(smoothing, near[alike]).cumsum()[-1] / count
    kept = 1.0 - (count - FREE) * error / spread if spread > (count - FREE) * error else 0.0
    found = levels.copy()
    found[alike] = mean + kept * away
    return found
