"""Courses of the times of devices and links, from turn to turn: `view.history`, in the same order."""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.watch_links import LinkSums, NominalLinks, place_of, slowness
from edgeemu.policies.compiled.watch_operations import DeviceTimes
from edgeemu.policies.view.history import KEPT, TURN
from edgeemu.policies.view.link_factors import MOST_DEVICES
from edgeemu_kernels.arrays import Floats, Ints

NOWHERE = -1  # in place of the place of a time that has never turned


class CourseTables(NamedTuple):
    """Courses of what has ever turned, by ascending key, with room for more."""

    room: int  # courses
    n_rows: int  # of the table
    n_parts: int  # that a value is made of: 0 or 2
    counts: Ints  # [1] courses that have begun
    keys: Ints  # [room]
    table: Floats  # [n_rows, room] all that follow
    seen_at: Floats  # [room] the token of the last observation
    value: Floats  # [room] since then
    extreme: Floats  # [room] in the present direction; at first, the value that it started from
    rising: Floats  # [room] 1, or -1 where it falls; 0: it has never changed
    turned_at: Floats  # [room]
    tokens: Floats  # [room] since it first changed
    total: Floats  # [room] of the values of those tokens
    lasted: Floats  # [KEPT, room] tokens between turns, the newest last; infinite: none yet
    parts: Floats  # [n_parts, room]
    totals: Floats  # [n_parts, room]


class CourseForecasts(NamedTuple):
    """Places to write in: how long present states last, and what comes then, as `view.outlook` has it."""

    keys: Ints  # [room]
    lasts_tokens: Floats  # [room]
    mean: Floats  # [room]
    whole_tokens: Floats  # [room]
    parts: Floats  # [n_parts, room]


def observe_slowdowns(
    d: DeviceTimes,
    v: NominalLinks,
    e: LinkSums,
    devices: CourseTables,
    links: CourseTables,
    token: float,
    bits: float,
    of_devices: CourseForecasts,
    of_links: CourseForecasts,
    found: Ints,
) -> None:
    """Add what was measured before a token, of links for a message of `bits`, and write what to expect.

    `found`, [2]: of how many devices and links.
    """
    for device in range(d.n):
        slowdown = d.slowdown[device]
        _add(devices, device, d.first[device], slowdown if slowdown == slowdown else 1.0, token)
    for pair in range(e.counts[0]):
        if e.seen_at[pair] == e.counts[1] - 1:  # measured since the decision before
            at = _add(links, e.sources[pair] * MOST_DEVICES + e.targets[pair], 1.0, slowness(v, e, pair, bits), token)
            if at != NOWHERE:
                links.parts[at] = e.delay[pair]
                links.parts[links.room + at] = e.per_bit[pair]
    found[0] = _forecast(devices, token, of_devices)
    found[1] = _forecast(links, token, of_links)


def _add(c: CourseTables, key: int, first: float, value: float, token: float) -> int:
    """Add one value; the place of its course, or NOWHERE."""
    at = place_of(c.keys, c.counts[0], key)
    known = at < c.counts[0]
    if known:
        known = c.keys[at] == key
    if not known:
        if value <= TURN * first and TURN * value >= first:
            return NOWHERE
        _begin(c, at, key, first, token)
    _observe(c, at, value, token)
    return at


def _begin(c: CourseTables, place: int, key: int, first: float, token: float) -> None:
    """Begin a course, which has not changed yet."""
    at = c.counts[0]
    while at > place:
        c.keys[at] = c.keys[at - 1]
        for row in range(c.n_rows):
            c.table[row * c.room + at] = c.table[row * c.room + at - 1]
        at -= 1
    c.keys[place] = key
    for row in range(c.n_rows):
        c.table[row * c.room + place] = 0.0
    c.seen_at[place] = token
    c.value[place] = first
    c.extreme[place] = first
    for turn in range(KEPT):
        c.lasted[turn * c.room + place] = np.inf
    c.counts[0] += 1


def _observe(c: CourseTables, at: int, value: float, token: float) -> None:
    """Add an observation of one course."""
    changed, extreme = c.rising[at] != 0.0, c.extreme[at]
    if changed:
        since = token - c.seen_at[at]
        c.tokens[at] += since
        c.total[at] += c.value[at] * since
        for part in range(c.n_parts):
            c.totals[part * c.room + at] += c.parts[part * c.room + at] * since
    up, down = value > TURN * extreme, TURN * value < extreme
    if (up and c.rising[at] != 1.0) or (down and c.rising[at] != -1.0):
        if changed:
            for turn in range(KEPT - 1):
                c.lasted[turn * c.room + at] = c.lasted[(turn + 1) * c.room + at]
            c.lasted[(KEPT - 1) * c.room + at] = token - c.turned_at[at]
        c.extreme[at] = value
        c.rising[at] = 1.0 if up else -1.0
        c.turned_at[at] = token
    elif changed:
        c.extreme[at] = max(extreme, value) if c.rising[at] > 0.0 else min(extreme, value)
    c.seen_at[at] = token
    c.value[at] = value


def _forecast(c: CourseTables, token: float, o: CourseForecasts) -> int:
    """Write how long the present states last of which that is known; how many these are."""
    count = 0
    for at in range(c.counts[0]):
        least = np.inf
        for turn in range(KEPT):
            least = min(least, c.lasted[turn * c.room + at])
        if least < np.inf and c.tokens[at] > 0.0:
            age = c.seen_at[at] - c.turned_at[at]
            whole = least if age < least else 2.0 * age
            o.keys[count] = c.keys[at]
            o.lasts_tokens[count] = max(1.0, c.turned_at[at] + whole - token)
            o.mean[count] = c.total[at] / c.tokens[at] / c.value[at]
            o.whole_tokens[count] = whole
            for part in range(c.n_parts):
                mean = c.totals[part * c.room + at] / c.tokens[at]
                o.parts[part * c.room + count] = mean / c.parts[part * c.room + at]
            count += 1
    return count
