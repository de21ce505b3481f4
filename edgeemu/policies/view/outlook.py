"""Expectations of devices and links: how long their present states last, and what comes after. Pure.

A decision for the next steps must not take the state of an instant for that of all of them. For every device or link
that has gone up and down, `view.history` learns how long its states lasted and what they were in the mean; the view
brings it, and `expected` makes of it the cluster as it is in the mean over some steps to come.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Pair = tuple[int, int]  # source, target


class Forecast(NamedTuple):
    """One time, of a device's operations or of a link's messages: how long it stays, and its mean after that.

    `mean` is a multiple of the present time, and `whole_tokens` how long the present state lasts in all. A link has in
    `parts` the means of its delay and of its time per bit, which need not change alike.
    """

    lasts_tokens: float
    mean: float
    whole_tokens: float
    parts: tuple[float, ...] = ()

    def comes_back_within(self, tokens: float) -> bool:
        """Whether there is time for a change and back, so that the mean of all states says something."""
        return 2.0 * self.whole_tokens <= tokens

    def factor(self, tokens: float) -> float:
        """By how many times the mean over the next steps is the present; 1 if a change has time for its own answer."""
        return self._over(tokens, self.mean)

    def part_factors(self, tokens: float) -> tuple[float, float]:
        """The factors of a link's delay and of its time per bit."""
        delay, per_bit = self.parts
        return self._over(tokens, delay), self._over(tokens, per_bit)

    def _over(self, tokens: float, mean: float) -> float:
        if not self.comes_back_within(tokens):
            return 1.0
        present = min(1.0, self.lasts_tokens / tokens)
        return present + (1.0 - present) * mean


@dataclass(frozen=True, slots=True)
class Outlook:
    """Forecasts of the devices and links that have been seen to change back; all others stay as they are."""

    devices: Mapping[int, Forecast] = field(default_factory=dict)
    links: Mapping[Pair, Forecast] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.devices or self.links)

    def lasts_tokens(self) -> set[float]:
        """How long the present states last: each length once."""
        return {forecast.lasts_tokens for forecast in (*self.devices.values(), *self.links.values())}

    def comes_back_within(self, tokens: float) -> bool:
        """Whether any state ends, and the next one too, within some steps."""
        every = (*self.devices.values(), *self.links.values())
        return any(forecast.comes_back_within(tokens) for forecast in every)

    def link_factors(self, tokens: float) -> dict[Pair, tuple[float, float]]:
        """Mean delay, and mean time per bit, over the next steps: multiples of the present ones."""
        return {pair: forecast.part_factors(tokens) for pair, forecast in self.links.items()}

    def without(self, pairs: Collection[Pair]) -> "Outlook":
        """Return the outlook without what is known of some links."""
        return Outlook(self.devices, {pair: known for pair, known in self.links.items() if pair not in pairs})
