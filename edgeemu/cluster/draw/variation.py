"""From the time-varying values of a scenario to functions of time, every random process with its seed."""

from typing import Any

import msgspec

from edgeemu.cluster.keyed_random import variation_seed
from edgeemu.cluster.link_variation import Deliveries, mean_rates
from edgeemu.cluster.variation import (
    MIN_SHARE,
    Constant,
    LeftByLoad,
    Repeated,
    Trace,
    Uniform,
    Variation,
    Walk,
    falling,
    product,
    value,
)
from edgeemu.scenario.time_varying import LinkVariationSpec, ThrottleSpec, TimeVarying
from edgeemu.scenario.traces import REPEAT, PacketTrace, Points
from edgeemu.units import BIT_RATE, DURATION

Given = float | TimeVarying[float] | None


def variation_of(given: Given, seed: int, *names: str) -> Variation | None:
    """A value of a scenario as a function of time. A random process without a seed gets one from the names."""
    if given is None:
        return None
    if not isinstance(given, TimeVarying):
        return Constant(given)
    if given.trace is not None:
        return Trace(*_columns(given.trace))
    own_seed = variation_seed(seed, *names) if given.seed is None else given.seed
    assert given.every is not None  # TimeVarying has made sure
    if given.uniform is not None:
        return Uniform(given.uniform.low, given.uniform.high, given.every, own_seed)
    assert given.walk is not None
    low, high = given.walk.bounds
    return Walk(given.walk.mean, given.walk.spread, low, high, given.every, given.relaxation_s, own_seed)


def left_by_load(given: Given, seed: int, *names: str) -> Variation | None:
    """The share that a load leaves. None: all."""
    load = variation_of(given, seed, *names)
    if isinstance(load, Constant):
        return product(Constant(value(LeftByLoad(load), 0.0)))
    return None if load is None else LeftByLoad(load)


def rate_factor(given: Given, seed: int, *names: str) -> Variation | None:
    """A factor on a rate. A random one is at least `MIN_SHARE`, so that no message waits for ever."""
    made = variation_of(given, seed, *names)
    if isinstance(made, Uniform | Walk):
        return msgspec.structs.replace(made, low=max(made.low, MIN_SHARE), high=max(made.high, MIN_SHARE))
    return made


def throttled(spec: ThrottleSpec | None) -> Variation | None:
    """The share of its speed that a device keeps when it gets hot."""
    return None if spec is None or spec.to == 1.0 else falling(spec.after, spec.over, spec.to)


def trace_factor(trace: Points | PacketTrace | None, nominal_bps: float) -> Variation | None:
    """A trace of bit rates, or the mean rates of one of packets, as a factor on the nominal rate of the link."""
    if trace is None:
        return None
    if isinstance(trace, PacketTrace):
        return mean_rates(trace.packets, nominal_bps)
    times_s, rates_bps = _columns(trace)
    if rates_bps[-1] == REPEAT:
        levels = tuple(rate_bps / nominal_bps for rate_bps in rates_bps[:-1])
        return Repeated(Trace(times_s[:-1], levels), times_s[-1])
    return Trace(times_s, tuple(rate_bps / nominal_bps for rate_bps in rates_bps))


def deliveries_of(trace: Points | PacketTrace | None, factor: Variation | None) -> Deliveries | None:
    """The deliveries of a trace of packets, each with a `factor` of its bytes. None: the link has a rate."""
    return Deliveries(trace.packets, factor) if isinstance(trace, PacketTrace) else None


def is_drawn(given: Any) -> bool:
    """Whether a random process has its seed from names, and so differs between devices or links."""
    if isinstance(given, LinkVariationSpec):
        return is_drawn(given.bandwidth) or is_drawn(given.delay)
    return isinstance(given, TimeVarying) and given.is_random and given.seed is None


def with_seed(given: Any, seed: int, *names: str) -> Any:
    """A time-varying value in the form of a scenario, with the seed of `variation_of` and the points of its trace."""
    if isinstance(given, tuple):
        return [
            [DURATION.format_exact(time_s), rate if rate == REPEAT else BIT_RATE.format_exact(rate)]
            for time_s, rate in given
        ]
    if isinstance(given, PacketTrace):
        return given.model_dump(mode="json")
    if isinstance(given, LinkVariationSpec):
        written = given.model_dump(mode="json", exclude_none=True)
        own = {field: getattr(given, field) for field in written}
        return {
            field: with_seed(own[field], seed, *names, field) if isinstance(own[field], TimeVarying) else text
            for field, text in written.items()
        }
    if not isinstance(given, TimeVarying):
        return given
    written = given.model_dump(mode="json", exclude_none=True)
    if is_drawn(given):
        written["seed"] = variation_seed(seed, *names)
    return written


def _columns(points: Points) -> tuple[tuple[float, ...], tuple[Any, ...]]:
    return tuple(time_s for time_s, _ in points), tuple(level for _, level in points)
