"""Variation over time: shares, factors and delays as functions of emulated time. Pure: no clock, no state, no scenario.

All are piecewise constant, so that an integral over time is a sum, and exact. Random processes are functions of their
seed and of time alone: the order of asking does not matter. Device processes import this file, and receive their
variations as messages (msgspec).
"""

from bisect import bisect_right
from functools import lru_cache
from math import ceil, exp, inf, log, nextafter, sqrt
from statistics import NormalDist

import msgspec

from edgeemu.cluster.keyed_random import block as random_block

MIN_SHARE = 0.01  # [D] the least that a load leaves: schedulers give every process something
STANDSTILL = 1e-6  # lower shares count as this one, so that all work ends
MAX_PIECES = 100_000  # pieces of a share that one piece of work is followed through: then it would take too long
_NORMAL = NormalDist()
_BLOCK = 128  # steps of a walk that are computed together
_FORGOTTEN = 1e-6  # a walk starts so early that this share of its start is left at the first step of a block


class Constant(msgspec.Struct, frozen=True, tag=True):
    """A value that does not change."""

    level: float

    def piece(self, t_s: float) -> tuple[float, float]:  # noqa: ARG002
        """The value at an instant, and the end of its piece (later than the instant)."""
        return self.level, inf


class Trace(msgspec.Struct, frozen=True, tag=True):
    """The value `levels[i]` from `times_s[i]` on. The first holds before its time too, and the last for ever."""

    times_s: tuple[float, ...]
    levels: tuple[float, ...]

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        index = max(1, bisect_right(self.times_s, t_s))
        return self.levels[index - 1], self.times_s[index] if index < len(self.times_s) else inf


class Repeated(msgspec.Struct, frozen=True, tag=True):
    """A trace that begins again every `period_s`, from time 0 on. Its points after the period are never reached."""

    trace: Trace
    period_s: float

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        begin_s = _step(t_s, self.period_s) * self.period_s
        level, until_s = self.trace.piece(t_s - begin_s)
        end_s = begin_s + self.period_s
        until_s = min(begin_s + until_s, end_s)
        if until_s > t_s:
            return level, until_s
        # The difference above was rounded up to where the piece ends, and this back: the next one has begun
        later_s = nextafter(t_s - begin_s, inf)
        level, until_s = self.trace.piece(later_s)
        return level, max(min(begin_s + until_s, end_s), nextafter(t_s, inf))


class Uniform(msgspec.Struct, frozen=True, tag=True):
    """A random value every `every_s`, uniform from `low` to `high`."""

    low: float
    high: float
    every_s: float
    seed: int

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        step = _step(t_s, self.every_s)
        u = _uniforms(self.seed, step // 8)[step % 8]
        return self.low + u * (self.high - self.low), (step + 1) * self.every_s


class Walk(msgspec.Struct, frozen=True, tag=True):
    """A random walk with reversion to its mean: an Ornstein-Uhlenbeck process, sampled every `every_s`.

    Without bounds it is normal with standard deviation `spread`, and a deviation decays to 1/e in `relaxation_s`. At
    the bounds it is cut off (before the next step is taken). Source: Uhlenbeck and Ornstein, Phys. Rev. 36 (1930).
    """

    mean: float
    spread: float
    low: float
    high: float
    every_s: float
    relaxation_s: float
    seed: int

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        step = _step(t_s, self.every_s)
        decay = exp(-self.every_s / self.relaxation_s)
        levels = _walk_block(self.seed, self.mean, self.spread, self.low, self.high, decay, step // _BLOCK)
        return levels[step % _BLOCK], (step + 1) * self.every_s


class LeftByLoad(msgspec.Struct, frozen=True, tag=True):
    """The share that a load leaves: 1 - load, and at least `MIN_SHARE`."""

    load: "Variation"

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        level, until_s = self.load.piece(t_s)
        return max(1.0 - level, MIN_SHARE), until_s


class Product(msgspec.Struct, frozen=True, tag=True):
    """The product of several variations."""

    parts: tuple["Variation", ...]

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        level, until_s = 1.0, inf
        for part in self.parts:
            factor, end_s = part.piece(t_s)
            level *= factor
            until_s = min(until_s, end_s)
        return level, until_s


class Scaled(msgspec.Struct, frozen=True, tag=True):
    """A variation times a factor that events set: `factors[i]` from `times_s[i]` on, and 1 before the first."""

    base: "Variation"
    times_s: tuple[float, ...]
    factors: tuple[float, ...]

    def piece(self, t_s: float) -> tuple[float, float]:
        """As `Constant.piece`."""
        level, until_s = self.base.piece(t_s)
        index = bisect_right(self.times_s, t_s)
        if index:
            level *= self.factors[index - 1]
        return level, min(until_s, self.times_s[index]) if index < len(self.times_s) else until_s

    def factor_at(self, t_s: float) -> float:
        """The factor at an instant."""
        index = bisect_right(self.times_s, t_s)
        return self.factors[index - 1] if index else 1.0


class Faulted(Scaled, frozen=True, tag=True):
    """A variation times a factor that faults set in intervals: 0 in outages. Events scale the base."""


Variation = Constant | Trace | Repeated | Uniform | Walk | LeftByLoad | Product | Scaled | Faulted


def value(variation: Variation | None, t_s: float) -> float:
    """The value at an instant. No variation (None), here and below, is a constant 1."""
    return 1.0 if variation is None else variation.piece(t_s)[0]


def share_at(share: Variation | None, t_s: float) -> float:
    """The value at an instant, at least `STANDSTILL`."""
    return 1.0 if share is None else max(share.piece(t_s)[0], STANDSTILL)


def finish(share: Variation | None, start_s: float, nominal_s: float) -> float:
    """The end of work that begins at `start_s` and takes `nominal_s` at full speed, with a `share` of that speed.

    The integral of the share from start to end is `nominal_s`. A share below `STANDSTILL` counts as that, but nothing
    is done in a piece of zero that ends. After `MAX_PIECES`, what is left is done at the mean share until then.
    """
    if share is None:
        return start_s + nominal_s
    now_s, left_s = start_s, nominal_s
    for _ in range(MAX_PIECES):
        level, until_s = share.piece(now_s)
        if level == 0.0 and until_s < inf and left_s:
            now_s = until_s
            continue
        level = max(level, STANDSTILL)
        end_s = now_s + left_s / level
        if end_s <= until_s:
            return end_s
        left_s = max(0.0, left_s - (until_s - now_s) * level)
        now_s = until_s
    return now_s + left_s / max((nominal_s - left_s) / (now_s - start_s), STANDSTILL)


def done_s(share: Variation | None, start_s: float, end_s: float) -> float:
    """The work that is done between two instants, in seconds at full speed: the inverse of `finish`."""
    if share is None:
        return end_s - start_s
    now_s, sum_s = start_s, 0.0
    while now_s < end_s:
        level, piece_end_s = share.piece(now_s)
        until_s = min(piece_end_s, end_s)
        if level > 0.0 or piece_end_s == inf:
            sum_s += (until_s - now_s) * max(level, STANDSTILL)
        now_s = until_s
    return sum_s


def product(*parts: Variation | None) -> Variation | None:
    """The product of variations, simplified: without constants of 1, and with other constants as one factor."""
    given = [part for part in parts if part is not None]
    constant = 1.0
    for part in given:
        constant *= part.level if isinstance(part, Constant) else 1.0
    varying: list[Variation] = [part for part in given if not isinstance(part, Constant)]
    if constant != 1.0:
        varying.append(Constant(constant))
    if len(varying) < 2:
        return varying[0] if varying else None
    return Product(tuple(varying))


def scaled(variation: Variation | None, at_s: float, factor: float) -> Scaled:
    """The variation times `factor` from `at_s` until a later event. The factor of earlier events is replaced."""
    if isinstance(variation, Faulted):
        return msgspec.structs.replace(variation, base=scaled(variation.base, at_s, factor))
    if not isinstance(variation, Scaled):
        return Scaled(variation or Constant(1.0), (at_s,), (factor,))
    times_s, factors = _with_point(variation.times_s, variation.factors, at_s, factor)
    return Scaled(variation.base, times_s, factors)


def faulted(variation: Variation | None, begin_s: float, end_s: float, factor: float = 0.0) -> Faulted:
    """The variation times `factor` between two instants, in addition to the factors of other intervals."""
    if not isinstance(variation, Faulted):
        variation = Faulted(variation or Constant(1.0), (), ())
    before = variation.factor_at
    times_s = sorted({*variation.times_s, begin_s, end_s} - {inf})
    factors = (before(t_s) * (factor if begin_s <= t_s < end_s else 1.0) for t_s in times_s)
    return Faulted(variation.base, tuple(times_s), tuple(factors))


def without_faults(variation: Variation | None) -> Variation | None:
    """The variation as it is without faults."""
    return variation.base if isinstance(variation, Faulted) else variation


def with_level(trace: Trace | None, at_s: float, level: float, before: float) -> Trace:
    """The trace with another level from `at_s` until its next point. Without a trace, the level is `before` earlier."""
    if trace is None:
        return Trace((0.0,), (level,)) if at_s <= 0.0 else Trace((0.0, at_s), (before, level))
    return Trace(*_with_point(trace.times_s, trace.levels, at_s, level))


def falling(after_s: float, over_s: float, to: float, steps: int = 20) -> Trace:
    """A trace of 1 until `after_s`, then falling to `to` over `over_s`: a straight line, in `steps` steps."""
    if not over_s:
        return with_level(None, after_s, to, 1.0)
    times_s = [0.0, *(after_s + over_s * (n / steps) for n in range(steps + 1))]
    levels = [1.0, *(1.0 - (1.0 - to) * (n + 0.5) / steps for n in range(steps)), to]
    return Trace(tuple(times_s), tuple(levels)) if after_s else Trace(tuple(times_s[1:]), tuple(levels[1:]))


def _with_point(
    times_s: tuple[float, ...], levels: tuple[float, ...], at_s: float, level: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    index = bisect_right(times_s, at_s)
    kept = index - 1 if index and times_s[index - 1] == at_s else index
    return (*times_s[:kept], at_s, *times_s[index:]), (*levels[:kept], level, *levels[index:])


def _step(t_s: float, every_s: float) -> int:
    """The step of an instant: step * every_s <= t_s < (step + 1) * every_s, as these products are rounded."""
    step = int(t_s // every_s)
    if (step + 1) * every_s <= t_s:
        return step + 1
    return step - 1 if step * every_s > t_s else step


@lru_cache(maxsize=4096)
def _uniforms(seed: int, index: int) -> tuple[float, ...]:
    """Eight numbers in (0, 1): those of the steps 8 * index to 8 * index + 7."""
    return tuple((word + 0.5) / 2**53 for word in random_block(seed, index))


@lru_cache(maxsize=4096)
def _walk_block(
    seed: int, mean: float, spread: float, low: float, high: float, decay: float, block: int
) -> tuple[float, ...]:
    """The values of one block of a walk, which starts so long before it that the start does not matter.

    Two walks with equal random numbers converge at least as fast as without bounds, so adjacent blocks agree.
    """
    first, end = block * _BLOCK, (block + 1) * _BLOCK
    begin = (first - ceil(log(_FORGOTTEN) / log(decay))) // 8 * 8
    draws = (_NORMAL.inv_cdf(u) for index in range(begin // 8, end // 8) for u in _uniforms(seed, index))
    push = spread * sqrt(1.0 - decay * decay)
    level, levels = mean, []
    for draw in draws:
        level = min(max(mean + decay * (level - mean) + push * draw, low), high)
        levels.append(level)
    return tuple(levels[first - begin :])
