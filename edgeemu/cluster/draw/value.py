"""Sampling of one value: a number or a distribution."""

from edgeemu.cluster.keyed_random import draw_lognormal, draw_uniform, uniform
from edgeemu.scenario.distributions import Distribution


def draw_value(given: float | Distribution[float], seed: int, *names: str) -> float:
    """A value as given, or sampled with the seed and these names as its key."""
    if not isinstance(given, Distribution):
        return given
    u = uniform(seed, *names)
    if given.lognormal is not None:
        return draw_lognormal(u, given.lognormal.low, given.lognormal.high)
    assert given.uniform is not None  # Distribution has made sure
    return draw_uniform(u, given.uniform.low, given.uniform.high)
