"""Expectations of devices and links: how long their present states last, and what comes after. Pure.

A decision for the next steps must not take the state of an instant for that of all of them. For every device or link
that has gone up and down, `view.history` learns how long its states lasted and what they were in the mean; the view
brings it, and `expected` makes of it the cluster as it is in the mean over some steps to come. Where many devices go up
and down, all of them are expected to.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.link_factors import LinkFactors, codes_of, find

Pair = tuple[int, int]  # source, target
_Floats = NDArray[np.float64]
_NO_INDEXES, _NO_NUMBERS = np.empty(0, np.int64), np.empty(0)
NO_FACTORS = LinkFactors(_NO_INDEXES, _NO_INDEXES, _NO_NUMBERS, _NO_NUMBERS)


class Forecasts(NamedTuple):
    """Forecasts of times, of devices' operations or of links' messages: how long they stay, and their means after that.

    `mean` is a multiple of the present time, and `whole_tokens` how long the present state lasts in all. Links have in
    `parts` the means of their delay and of their time per bit, which need not change alike.
    """

    lasts_tokens: _Floats = _NO_NUMBERS  # [n]
    mean: _Floats = _NO_NUMBERS  # [n]
    whole_tokens: _Floats = _NO_NUMBERS  # [n]
    parts: _Floats = _NO_NUMBERS.reshape(2, 0)  # [n_parts, n]

    def factors(self, tokens: float) -> _Floats:
        """Means over the next steps as multiples of the present: [n]."""
        return self._over(tokens, self.mean)

    def part_factors(self, tokens: float) -> _Floats:
        """The factors of links' delays and of their times per bit: [2, n]."""
        return self._over(tokens, self.parts)

    def _over(self, tokens: float, means: _Floats) -> _Floats:
        present = np.minimum(1.0, self.lasts_tokens / tokens)
        return present + (1.0 - present) * means


class Outlook(NamedTuple):
    """Forecasts of the devices and links that have been seen to change back; all others stay as they are.

    `unsteady`: so many devices change that all are expected to.
    """

    devices: IntArray = _NO_INDEXES  # [n]
    of_devices: Forecasts = Forecasts()
    sources: IntArray = _NO_INDEXES  # [n_pairs] of links
    targets: IntArray = _NO_INDEXES  # [n_pairs]
    of_links: Forecasts = Forecasts()
    unsteady: bool = False

    def __bool__(self) -> bool:
        return bool(len(self.devices) or len(self.sources))

    def lasts_tokens(self) -> set[float]:
        """Tokens that the present states last: each number once."""
        return {*self.of_devices.lasts_tokens.tolist(), *self.of_links.lasts_tokens.tolist()}

    def comes_back_within(self, tokens: float) -> bool:
        """Whether any state ends, and the next one too, within some steps."""
        whole_tokens = self.of_devices.whole_tokens.tolist() + self.of_links.whole_tokens.tolist()
        return any(2.0 * whole <= tokens for whole in whole_tokens)

    def slowdowns(self, tokens: float, n_devices: int) -> _Floats:
        """By how many times each device takes longer in the mean over the next steps than now: [n_devices]."""
        factors = self.of_devices.factors(tokens)
        if len(factors) == n_devices:
            return factors
        slowdowns = np.ones(n_devices)
        slowdowns[self.devices] = factors
        return slowdowns

    def link_factors(self, tokens: float) -> LinkFactors:
        """Mean delay, and mean time per bit, over the next steps: multiples of the present ones."""
        if not len(self.sources):
            return NO_FACTORS
        return LinkFactors(self.sources, self.targets, *self.of_links.part_factors(tokens))

    def slower_links(self, worse: float) -> IntArray:
        """Codes of the links that are expected to take at least so many times as long, ascending: [n]."""
        if not len(self.sources):
            return _NO_INDEXES
        slower = self.of_links.mean >= worse
        return np.sort(codes_of(self.sources[slower], self.targets[slower]))

    def without(self, links: IntArray) -> Self:
        """Return the outlook without what is known of some links, by their codes, which ascend: [n]."""
        left = ~find(codes_of(self.sources, self.targets), links)[1]  # [n_pairs]
        of_links = Forecasts(*(each[..., left] for each in self.of_links))
        return self._replace(sources=self.sources[left], targets=self.targets[left], of_links=of_links)


STAYS = Outlook()  # nothing has been seen to change back
