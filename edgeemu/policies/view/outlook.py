"""What is expected of devices and links: how long their present states last, and what comes after. Pure.

A decision for the next steps must not take the state of an instant for that of all of them. For every device or link
that has gone up and down, `view.history` learns how long its states lasted and what they were in the mean; the view
brings it, and `expected` makes of it the cluster as it is in the mean over some steps to come.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

Pair = tuple[int, int]  # source, target


class Forecast(NamedTuple):
    """One time (of a device's operations, of a link's delay or bits): how long it stays, and its mean after that.

    `mean` is a multiple of the present time.
    """

    lasts_tokens: float
    mean: float

    def factor(self, tokens: float) -> float:
        """By how many times the mean over the next steps is the present."""
        present = min(1.0, self.lasts_tokens / tokens)
        return present + (1.0 - present) * self.mean


STEADY = Forecast(inf, 1.0)


@dataclass(frozen=True, slots=True)
class Outlook:
    """Forecasts of the devices and links that have been seen to change back; all others stay as they are."""

    devices: Mapping[int, Forecast] = field(default_factory=dict)
    delays: Mapping[Pair, Forecast] = field(default_factory=dict)
    rates: Mapping[Pair, Forecast] = field(default_factory=dict)  # of the time that a bit takes

    def __bool__(self) -> bool:
        return bool(self.devices or self.delays or self.rates)

    def lasts_tokens(self) -> set[float]:
        """How long the present states last: each length once."""
        every = (*self.devices.values(), *self.delays.values(), *self.rates.values())
        return {forecast.lasts_tokens for forecast in every}

    def link_factors(self, tokens: float) -> dict[Pair, tuple[float, float]]:
        """Mean delay, and mean time per bit, over the next steps: multiples of the present ones."""
        return {
            pair: (self.delays.get(pair, STEADY).factor(tokens), self.rates.get(pair, STEADY).factor(tokens))
            for pair in self.delays.keys() | self.rates.keys()
        }

    def without(self, pairs: Collection[Pair]) -> "Outlook":
        """The same without what is known of some links."""
        delays, rates = ({p: f for p, f in of.items() if p not in pairs} for of in (self.delays, self.rates))
        return Outlook(self.devices, delays, rates)
