"""History of the times of devices and links: when they turned, how long that lasted, and their means. Pure.

A *turn* is where a time that went up by more than `TURN` comes down by more, or the other way round; a slow change in
one direction is one state however long it takes, and so is what stays near its level. The first state of a run tells
nothing of how long states last, because nobody knows when it began. So what changes for the first time is expected to
stay, and what has turned is expected to turn again:

* after the least of the last `KEPT` durations between turns, which errs on the side of staying;
* a state that has outlasted that, in as long again as it has lasted. Whoever then acts once the loss since the turn has
  reached the price of the change loses at most twice what the best of acting at the turn and never acting loses
  (the rule of ski rental).

A cluster is *unsteady* where a third of its devices, and `MANY` at least, have changed, also from their nominal speeds
to those that were seen first. Then what one of them does says little, and who chooses the fastest of many chooses luck.
So all devices are expected to change, and what is expected is made of what all did: a state of any device lasts as long
from now on as states do in the mean (time observed, by changes of all devices), until it has lasted `OUTLASTED` times
as long as ever; and the mean of a device counts with that of all, of `ALIKE` states. It is that of speeds over time:
while a device that a token waits for is slow, few tokens come.

Durations are seconds, because what slows devices down knows no tokens.

Turns of a link are those of the time that a vector x takes, because messages of one size measure only the sum of delay
and time for the bits. Their means are kept apart, as far as they are known: a link that loses only its rate does not
delay small messages.

What is not measured, such as a link that nothing uses, has no turns that are seen; that a state lasts is known up to
its last measurement.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.levels import TURN
from edgeemu.policies.view.link_factors import MOST_DEVICES, LinkFactors, codes_of
from edgeemu.policies.view.outlook import STAYS, Forecasts, Outlook

KEPT = 4  # durations between turns from which the next is expected
MANY = 3  # devices that have changed, at least, where a cluster is unsteady
SHARE = 3  # and one of so many
ALIKE = 8  # states of all devices that count as much as a device's own
LEAST_STEP_S = 1e-9  # where a token takes no time
OUTLASTED = 8  # times the longest state of a device, or those of all: then it has changed its ways

# Rows of what is known of a course
_SEEN_AT = 0  # the token of the last observation
_SEEN_S = 1  # its instant
_VALUE = 2  # since then
_EXTREME = 3  # in the present direction; at first, the value that it started from
_RISING = 4  # 1, or -1 where it falls; 0: it has never changed
_TURNED_S = 5
_TOKENS = 6  # since it first changed
_TOTAL = 7  # of the values of those tokens
_LASTED = slice(8, 8 + KEPT)  # seconds between turns, the newest last; infinite: none yet
_PARTS = 8 + KEPT  # that the value is made of, and then their totals


class DecisionTime(NamedTuple):
    """Token before which something is decided, its instant, and the time that a token takes at present."""

    token: int
    at_s: float
    step_s: float

    def later(self, tokens: int, at_s: float, *, paused: bool) -> Self:
        """Return the time of a decision some tokens later, or none, at an instant.

        `paused`: something else took time since. Then, and without a token, one is expected to take as long as before,
        if that is known.
        """
        paused |= not tokens
        took_s = max(LEAST_STEP_S, (at_s - self.at_s) / max(tokens, 1))
        return self._replace(
            token=self.token + tokens, at_s=at_s, step_s=self.step_s if paused and self.step_s else took_s
        )


class _Courses:
    """The courses of many times, by device or by link, from turn to turn.

    A time that has never turned costs a comparison of arrays.
    """

    def __init__(self, first: FloatArray | float, n_parts: int = 0) -> None:
        """`first`: the values before any observation. `n_parts`: of how many parts a value is made."""
        self._first = first
        self._high: FloatArray | float = TURN * first  # a turn is above
        self._parts, self._totals = (slice(_PARTS + k * n_parts, _PARTS + (k + 1) * n_parts) for k in (0, 1))
        self.keys = np.empty(0, np.int64)  # of those that have ever changed, ascending
        self._known = np.empty((_PARTS + 2 * n_parts, 0))  # of each of these, by row

    def add(self, now: DecisionTime, keys: IntArray, values: FloatArray, parts: Sequence[FloatArray]) -> int:
        """Add what was observed: a value of each key, [n], and its parts, [n_parts, n]; how many have turned.

        Times do not go back.
        """
        if not len(keys):
            return 0
        if len(self.keys) == len(keys) and np.array_equal(self.keys, keys):  # all have changed
            return self._observe(now, slice(None), values, np.reshape(parts, (-1, len(values))))
        new = (values > self._high) | (TURN * values < self._first)  # [n] the first turn
        known = None  # [n] whether it has ever changed; None: nothing has
        if len(self.keys):
            known = np.append(self.keys, -1)[np.searchsorted(self.keys, keys)] == keys
            new &= ~known
        if new.any():
            self._begin(now, keys[new], np.broadcast_to(self._first, values.shape)[new])
            known = new if known is None else known | new
        if known is None or not known.any():
            return 0
        at = np.searchsorted(self.keys, keys[known])  # [m] of those that have ever changed
        return self._observe(now, at, values[known], np.reshape(parts, (-1, len(values)))[:, known])

    def _begin(self, now: DecisionTime, keys: IntArray, values: FloatArray) -> None:
        """Begin courses, which have not changed yet."""
        order = keys.argsort()
        at = np.searchsorted(self.keys, keys[order])
        begun = np.zeros((len(self._known), len(keys)))
        begun[_SEEN_AT], begun[_SEEN_S], begun[_LASTED] = now.token, now.at_s, np.inf
        begun[_VALUE] = begun[_EXTREME] = values[order]
        self.keys = np.insert(self.keys, at, keys[order])
        self._known = np.insert(self._known, at, begun, axis=1)

    def _observe(self, now: DecisionTime, at: IntArray | slice, values: FloatArray, parts: FloatArray) -> int:
        """Add an observation of some courses, or of all: [m], [m], [n_parts, m]; how many have turned."""
        known = self._known[:, at]
        rising, extreme, turned_s = known[_RISING].copy(), known[_EXTREME].copy(), known[_TURNED_S].copy()
        changed = rising != 0.0
        since = np.where(changed, now.token - known[_SEEN_AT], 0.0)
        known[_TOKENS] += since
        known[_TOTAL] += known[_VALUE] * since
        if len(parts):
            known[self._totals] += known[self._parts] * since
        up, down = values > TURN * extreme, TURN * values < extreme
        turns = (up & (rising != 1.0)) | (down & (rising != -1.0))
        farther = np.where(rising > 0.0, np.maximum(extreme, values), np.minimum(extreme, values))
        known[_EXTREME] = np.where(turns, values, np.where(changed, farther, extreme))
        count = int(np.count_nonzero(turns))
        if count:
            again = turns & changed
            known[_LASTED, again] = np.concatenate([known[_LASTED, again][1:], [now.at_s - turned_s[again]]])
            known[_RISING] = np.where(turns, np.where(up, 1.0, -1.0), rising)
            known[_TURNED_S] = np.where(turns, now.at_s, turned_s)
        known[_SEEN_AT], known[_SEEN_S], known[_VALUE], known[self._parts] = now.token, now.at_s, values, parts
        if not isinstance(at, slice):  # else it is no copy
            self._known[:, at] = known
        return count

    def forecasts(self, now: DecisionTime) -> tuple[IntArray, Forecasts]:
        """Keys of which is known how long their present states last from now on, and that.

        That a state lasts is known up to the last observation.
        """
        if not len(self.keys):
            return self.keys, Forecasts()
        some = np.isfinite(self._known[_LASTED]).any(0) & (self._known[_TOKENS] > 0)
        known = self._known[:, some]
        least_s, turned_s, tokens = known[_LASTED].min(0), known[_TURNED_S], known[_TOKENS]
        age_s = known[_SEEN_S] - turned_s
        whole_s = np.where(age_s < least_s, least_s, 2 * age_s)
        lasts_tokens = np.maximum(1.0, (turned_s + whole_s - now.at_s) / now.step_s)
        mean, parts = known[_TOTAL] / tokens / known[_VALUE], known[self._totals] / tokens / known[self._parts]
        return self.keys[some], Forecasts(lasts_tokens, mean, whole_s / now.step_s, parts)


class _AllCourses(_Courses):
    """The courses of all devices, which are all observed at each decision, and what they did together."""

    def __init__(self, now: DecisionTime, values: FloatArray) -> None:
        """`values`: the first that were observed, [n]."""
        super().__init__(first_values(values))
        self._began = self._seen = now
        self._everyone = np.arange(len(values))
        self._values = values
        self._work_s = now.step_s / (self._first + np.zeros(len(values)))  # [n] that each could do, without load
        self._turns = 0  # of all devices
        super().add(now, self._everyone, values, ())

    def add_all(self, now: DecisionTime, values: FloatArray) -> None:
        """Add values of all devices, [n]."""
        self._work_s += (now.at_s - self._seen.at_s) / self._values
        self._seen, self._values = now, values
        self._turns += self.add(now, self._everyone, values, ())

    @property
    def unsteady(self) -> bool:
        """Whether so many devices have changed that all are expected to."""
        return are_many(len(self.keys), len(self._values))

    def forecasts(self, now: DecisionTime) -> tuple[IntArray, Forecasts]:
        if not self.unsteady:
            return super().forecasts(now)
        n, began, changed = len(self._values), self._began, self._known[_RISING] != 0.0
        state_s = max(now.step_s, n * (now.at_s - began.at_s) / (1 + self._turns))
        turned_s, longest_s = np.full(n, began.at_s), np.full(n, state_s)
        turned_s[self.keys[changed]] = self._known[_TURNED_S, changed]
        lasted_s = self._known[_LASTED]  # [KEPT, n_keys]
        longest_s[self.keys] = np.maximum(state_s, np.where(np.isfinite(lasted_s), lasted_s, 0.0).max(0))
        age_s = now.at_s - turned_s
        whole_s = np.where(age_s > OUTLASTED * longest_s, 2 * age_s, age_s + state_s)
        known_s, alike_s = now.at_s - began.at_s + began.step_s, ALIKE * state_s
        speed = float(self._work_s.cumsum()[-1]) / (n * known_s)  # of all, in the order of machine code
        mean = (known_s + alike_s) / (self._work_s + alike_s * speed) / self._values
        lasts_tokens = np.maximum(1.0, (whole_s - age_s) / now.step_s)
        return self._everyone, Forecasts(lasts_tokens, mean, whole_s / now.step_s, np.empty((0, n)))


def first_values(seen: FloatArray) -> FloatArray:
    """Values of devices before any observation, [n]: those that are seen first, or 1 where many are others than that.

    `seen`: multiples of nominal times.
    """
    others = (seen > TURN) | (TURN * seen < 1.0)
    return np.ones(len(seen)) if are_many(int(np.count_nonzero(others)), len(seen)) else seen


def are_many(changed: int, n_devices: int) -> bool:
    """Whether so many of all devices have changed that the cluster is unsteady."""
    return changed >= MANY and SHARE * changed >= n_devices


class History:
    """Record of how slow decisions have seen each device, and links for a vector x."""

    def __init__(self) -> None:
        self._devices: _AllCourses | None = None
        self._links = _Courses(1.0, n_parts=2)  # its delay, and its time per bit
        self._pairs = LinkFactors(*np.empty((2, 0), np.int64), *np.empty((2, 0)))  # that were measured last
        self._codes = np.empty(0, np.int64)  # [n_pairs] of these

    def outlook(self, now: DecisionTime, slowdowns: FloatArray, links: LinkFactors, slow: FloatArray) -> Outlook:
        """Add what was measured before a decision, and return what to expect.

        `slowdowns` [n_devices], the factors of `links`, and how `slow` these are for a vector x [n_pairs]: multiples of
        nominal times.
        """
        if self._devices is None:
            self._devices = _AllCourses(now, slowdowns)
        else:
            self._devices.add_all(now, slowdowns)
        if links.sources is not self._pairs.sources:
            self._pairs, self._codes = links, codes_of(links.sources, links.targets)
        self._links.add(now, self._codes, slow, (links.delay, links.per_bit))
        (devices, of_devices), (known, of_links) = self._devices.forecasts(now), self._links.forecasts(now)
        unsteady = self._devices.unsteady
        if not len(known):
            return Outlook(devices, of_devices, unsteady=unsteady) if len(devices) else STAYS
        return Outlook(devices, of_devices, *np.divmod(known, MOST_DEVICES), of_links, unsteady)
