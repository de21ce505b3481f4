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

from collections.abc import Sequence

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.link_factors import MOST_DEVICES, LinkFactors, codes_of
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.outlook import STAYS, Forecasts, Outlook

TURN = 1.25  # a time that has changed by this factor from the extreme before
KEPT = 4  # durations between turns from which the next is expected


# Rows of what is known of a course
_SEEN_AT = 0  # the token of the last observation
_VALUE = 1  # since then
_EXTREME = 2  # in the present direction; at first, the value that it started from
_RISING = 3  # 1, or -1 where it falls; 0: it has never changed
_TURNED_AT = 4
_TOKENS = 5  # since it first changed
_TOTAL = 6  # of the values of those tokens
_LASTED = slice(7, 7 + KEPT)  # tokens between turns, the newest last; infinite: none yet
_PARTS = 7 + KEPT  # that the value is made of, and then their totals


class _Courses:
    """The courses of many times, by device or by link, from turn to turn.

    A time that has never turned costs a comparison of arrays.
    """

    def __init__(self, first: FloatArray | float | None = None, n_parts: int = 0) -> None:
        """`first`: the values before any observation; None: the first observation, which then has every key.

        `n_parts`: of how many parts a value is made.
        """
        self._first = first
        self._high: FloatArray | float = np.inf if first is None else TURN * first  # a turn is above
        self._parts, self._totals = (slice(_PARTS + k * n_parts, _PARTS + (k + 1) * n_parts) for k in (0, 1))
        self._keys = np.empty(0, np.int64)  # of those that have ever turned, ascending
        self._known = np.empty((_PARTS + 2 * n_parts, 0))  # of each of these, by row

    def add(self, token: int, keys: IntArray, values: FloatArray, parts: Sequence[FloatArray]) -> None:
        """Add what was observed before a token: a value of each key, [n], and its parts, [n_parts, n].

        Tokens do not go down.
        """
        if self._first is None:
            self._first, self._high = values, TURN * values
        if not len(keys):
            return
        if len(self._keys) == len(keys) and np.array_equal(self._keys, keys):  # all have turned
            self._observe(token, slice(None), values, np.reshape(parts, (-1, len(values))))
            return
        new = (values > self._high) | (TURN * values < self._first)  # [n] the first turn
        known = None  # [n] whether it has ever turned; None: nothing has
        if len(self._keys):
            known = np.append(self._keys, -1)[np.searchsorted(self._keys, keys)] == keys
            new &= ~known
        if new.any():
            self._begin(token, keys[new], np.broadcast_to(self._first, values.shape)[new])
            known = new if known is None else known | new
        if known is not None and known.any():
            at = np.searchsorted(self._keys, keys[known])  # [m] of those that have ever turned
            self._observe(token, at, values[known], np.reshape(parts, (-1, len(values)))[:, known])

    def _begin(self, token: int, keys: IntArray, values: FloatArray) -> None:
        """Begin courses, which have not changed yet."""
        order = keys.argsort()
        at = np.searchsorted(self._keys, keys[order])
        begun = np.zeros((len(self._known), len(keys)))
        begun[_SEEN_AT], begun[_VALUE], begun[_EXTREME], begun[_LASTED] = token, values[order], values[order], np.inf
        self._keys = np.insert(self._keys, at, keys[order])
        self._known = np.insert(self._known, at, begun, axis=1)

    def _observe(self, token: int, at: IntArray | slice, values: FloatArray, parts: FloatArray) -> None:
        """Add an observation of some courses, or of all: [m], [m], [n_parts, m]."""
        known = self._known[:, at]
        rising, extreme, turned_at = known[_RISING].copy(), known[_EXTREME].copy(), known[_TURNED_AT].copy()
        changed = rising != 0.0
        since = np.where(changed, token - known[_SEEN_AT], 0.0)
        known[_TOKENS] += since
        known[_TOTAL] += known[_VALUE] * since
        if len(parts):
            known[self._totals] += known[self._parts] * since
        up, down = values > TURN * extreme, TURN * values < extreme
        turns = (up & (rising != 1.0)) | (down & (rising != -1.0))
        farther = np.where(rising > 0.0, np.maximum(extreme, values), np.minimum(extreme, values))
        known[_EXTREME] = np.where(turns, values, np.where(changed, farther, extreme))
        if turns.any():
            again = turns & changed
            known[_LASTED, again] = np.concatenate([known[_LASTED, again][1:], [token - turned_at[again]]])
            known[_RISING] = np.where(turns, np.where(up, 1.0, -1.0), rising)
            known[_TURNED_AT] = np.where(turns, token, turned_at)
        known[_SEEN_AT], known[_VALUE], known[self._parts] = token, values, parts
        if not isinstance(at, slice):  # else it is no copy
            self._known[:, at] = known

    def forecasts(self, token: int) -> tuple[IntArray, Forecasts]:
        """Keys of which is known how long their present states last from a token on, and that.

        That a state lasts is known up to the last observation.
        """
        if not len(self._keys):
            return self._keys, Forecasts()
        some = np.isfinite(self._known[_LASTED]).any(0) & (self._known[_TOKENS] > 0)
        known = self._known[:, some]
        least, turned_at, tokens = known[_LASTED].min(0), known[_TURNED_AT], known[_TOKENS]
        age = known[_SEEN_AT] - turned_at
        whole = np.where(age < least, least, 2 * age)
        mean, parts = known[_TOTAL] / tokens / known[_VALUE], known[self._totals] / tokens / known[self._parts]
        return self._keys[some], Forecasts(np.maximum(1.0, turned_at + whole - token), mean, whole, parts)


class History:
    """Record of how slow decisions have seen each device, and links for a vector x."""

    def __init__(self) -> None:
        self._devices = _Courses()
        self._links = _Courses(1.0, n_parts=2)  # its delay, and its time per bit
        self._everyone = np.empty(0, np.int64)  # [n_devices]
        self._pairs = LinkFactors(*np.empty((2, 0), np.int64), *np.empty((2, 0)))  # that were measured last
        self._codes = np.empty(0, np.int64)  # [n_pairs] of these

    def outlook(self, token: int, slowdowns: FloatArray, links: LinkFactors, slow: FloatArray) -> Outlook:
        """Add what was measured before a token, and return what to expect.

        `slowdowns` [n_devices], the factors of `links`, and how `slow` these are for a vector x [n_pairs]: multiples of
        nominal times.
        """
        if len(self._everyone) != len(slowdowns):
            self._everyone = np.arange(len(slowdowns))
        self._devices.add(token, self._everyone, slowdowns, ())
        if links.sources is not self._pairs.sources:
            self._pairs, self._codes = links, codes_of(links.sources, links.targets)
        self._links.add(token, self._codes, slow, (links.delay, links.per_bit))
        (devices, of_devices), (known, of_links) = self._devices.forecasts(token), self._links.forecasts(token)
        if not len(known):
            return Outlook(devices, of_devices) if len(devices) else STAYS
        return Outlook(devices, of_devices, *np.divmod(known, MOST_DEVICES), of_links)
