"""History of the times of devices and links: when they turned, how long that lasted, and their means. Pure.

A *turn* is where a time that went up by more than `TURN` comes down by more, or the other way round; a slow change in
one direction is one state however long it takes, and so is what stays near its level. The first state of a run tells
nothing of how long states last, because nobody knows when it began. So what changes for the first time is expected to
stay, and what has turned is expected to turn again:

* after the least of the last `KEPT` durations between turns, which errs on the side of staying;
* a state that has outlasted that, in as long again as it has lasted. Whoever then acts once the loss since the turn has
  reached the price of the change loses at most twice what the best of acting at the turn and never acting loses
  (the rule of ski rental).

Turns of a link are those of the time that a vector x takes, because messages of one size measure only the sum of delay
and time for the bits. Their means are kept apart, as far as they are known: a link that loses only its rate does not
delay small messages.

What is not measured, such as a link that nothing uses, has no turns that are seen; that a state lasts is known up to
its last measurement.
"""

from dataclasses import dataclass
from itertools import repeat

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.link_factors import LinkFactors
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.outlook import Forecast, Outlook

TURN = 1.25  # a time that has changed by this factor from the extreme before
KEPT = 4  # durations between turns from which the next is expected
MOST_DEVICES = 2**31  # so that a pair of them is one number


@dataclass(slots=True)
class Course:
    """Course of one time, from turn to turn."""

    seen_at: int  # the token of the last observation
    value: float  # since then
    extreme: float  # in the present direction; at first, the value that it started from
    rising: bool | None = None  # None: it has never changed
    turned_at: int = 0
    lasted: tuple[int, ...] = ()  # tokens between turns, the newest last
    tokens: int = 0  # since it first changed
    total: float = 0.0  # of the values of those tokens
    parts: tuple[float, ...] = ()  # that the value is made of, and their totals
    part_totals: tuple[float, ...] = ()

    def add(self, token: int, value: float, parts: tuple[float, ...] = ()) -> None:
        """Add an observation before a token; tokens do not go down."""
        if self.rising is not None:
            since = token - self.seen_at
            self.tokens += since
            self.total += self.value * since
            if parts:
                totals = zip(self.part_totals or (0.0,) * len(parts), self.parts, strict=True)
                self.part_totals = tuple(total + part * since for total, part in totals)
        up, down = value > TURN * self.extreme, TURN * value < self.extreme
        if (up and self.rising is not True) or (down and self.rising is not False):
            if self.rising is not None:
                self.lasted = (*self.lasted, token - self.turned_at)[-KEPT:]
            self.rising, self.extreme, self.turned_at = up, value, token
        elif self.rising is not None:
            self.extreme = max(self.extreme, value) if self.rising else min(self.extreme, value)
        self.seen_at, self.value, self.parts = token, value, parts

    def forecast(self, token: int) -> Forecast | None:
        """How long the present state lasts from a token on; None: for ever, as far as is known.

        That it lasts is known up to the last observation.
        """
        if not self.lasted or not self.tokens:
            return None
        age, expected = self.seen_at - self.turned_at, min(self.lasted)
        whole = expected if age < expected else 2 * age
        mean, lasts = self.total / self.tokens / self.value, float(max(1, self.turned_at + whole - token))
        if not self.parts:
            return Forecast(lasts, mean, float(whole))
        parts = tuple(total / self.tokens / part for total, part in zip(self.part_totals, self.parts, strict=True))
        return Forecast(lasts, mean, float(whole), parts)


class _Courses:
    """The courses of many times, by device or by link. A time that has never turned costs a comparison of arrays."""

    def __init__(self, first: FloatArray | float | None = None) -> None:
        """`first`: the values before any observation; None: the first observation, which then has every key."""
        self._first = first
        self._courses: dict[int, Course] = {}

    def add(self, token: int, keys: IntArray, values: FloatArray, *parts: FloatArray) -> None:
        """Add a value of each key, [n], [n], and each of the parts that it is made of, [n]."""
        if self._first is None:
            self._first = values
        told = (values > TURN * self._first) | (TURN * values < self._first)  # [n] the first turn
        if self._courses:
            told |= np.isin(keys, list(self._courses), assume_unique=True)
        if not told.any():
            return
        first = np.broadcast_to(self._first, values.shape)[told].tolist()
        made_of = zip(*(part[told].tolist() for part in parts), strict=True) if parts else repeat(())
        for key, value, before, of in zip(keys[told].tolist(), values[told].tolist(), first, made_of, strict=False):
            self._courses.setdefault(key, Course(token, before, before)).add(token, value, of)

    def forecasts(self, token: int) -> dict[int, Forecast]:
        found = ((key, course.forecast(token)) for key, course in self._courses.items())
        return {key: forecast for key, forecast in found if forecast is not None}


class History:
    """Record of how slow decisions have seen each device, and links for a vector x."""

    def __init__(self) -> None:
        self._devices = _Courses()
        self._links = _Courses(1.0)

    def outlook(self, token: int, slowdowns: FloatArray, links: LinkFactors, slow: FloatArray) -> Outlook:
        """Add what was measured before a token, and return what to expect.

        `slowdowns` [n_devices], the factors of `links`, and how `slow` these are for a vector x [n_pairs]: multiples of
        nominal times.
        """
        self._devices.add(token, np.arange(len(slowdowns)), slowdowns)
        self._links.add(token, links.sources * MOST_DEVICES + links.targets, slow, links.delay, links.per_bit)
        known = {divmod(code, MOST_DEVICES): forecast for code, forecast in self._links.forecasts(token).items()}
        return Outlook(self._devices.forecasts(token), known)
