"""Courses of the times of devices and links, from turn to turn: `view.history`, in the same order."""

from typing import NamedTuple

import numpy as np

from edgeemu.policies.compiled.watch_links import LinkSums, NominalLinks, place_of, slowness
from edgeemu.policies.compiled.watch_operations import DeviceTimes
from edgeemu.policies.view.history import ALIKE, KEPT, OUTLASTED, are_many
from edgeemu.policies.view.levels import TURN
from edgeemu.policies.view.link_factors import MOST_DEVICES
from edgeemu_kernels.arrays import Floats, Ints

NOWHERE = -1  # in place of the place of a time that has never turned
BEGUN, TURNS = range(2)  # among the counts of courses


class CourseTables(NamedTuple):
    """Courses of what has ever turned, by ascending key, with room for more."""

    room: int  # courses
    n_rows: int  # of the table
    n_parts: int  # that a value is made of: 0 or 2
    counts: Ints  # [2] courses that have begun, and turns since the first observation
    keys: Ints  # [room]
    table: Floats  # [n_rows, room] all that follow
    seen_at: Floats  # [room] the token of the last observation
    seen_s: Floats  # [room] its instant
    value: Floats  # [room] since then
    extreme: Floats  # [room] in the present direction; at first, the value that it started from
    rising: Floats  # [room] 1, or -1 where it falls; 0: it has never changed
    turned_s: Floats  # [room]
    tokens: Floats  # [room] since it first changed
    total: Floats  # [room] of the values of those tokens
    lasted: Floats  # [KEPT, room] seconds between turns, the newest last; infinite: none yet
    parts: Floats  # [n_parts, room]
    totals: Floats  # [n_parts, room]


class AllDeviceTimes(NamedTuple):
    """Times of all devices, whether they have changed or not."""

    began: Floats  # [2] the instant of the first observation, and the time of a token then
    seen_s: Floats  # [1] the instant of the last
    values: Floats  # [n] that were observed last
    work_s: Floats  # [n] that each could do, without load


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
    all_: AllDeviceTimes,
    devices: CourseTables,
    links: CourseTables,
    token: float,
    at_s: float,
    step_s: float,
    bits: float,
    of_devices: CourseForecasts,
    of_links: CourseForecasts,
    found: Ints,
) -> None:
    """Add what was measured before a decision, of links for a message of `bits`, and write what to expect.

    `found`, [3]: of how many devices and links, and whether all devices are expected to change.
    """
    for device in range(d.n):
        slowdown = d.slowdown[device]
        if slowdown != slowdown:  # not measured yet
            slowdown = 1.0
        all_.work_s[device] += (at_s - all_.seen_s[0]) / all_.values[device]
        all_.values[device] = slowdown
        _add(devices, device, d.first[device], slowdown, token, at_s)
    all_.seen_s[0] = at_s
    for pair in range(e.counts[0]):
        if e.seen_at[pair] == e.counts[1] - 1:  # measured since the decision before
            key, value = e.sources[pair] * MOST_DEVICES + e.targets[pair], slowness(v, e, pair, bits)
            at = _add(links, key, 1.0, value, token, at_s)
            if at != NOWHERE:
                links.parts[at] = e.delay[pair]
                links.parts[links.room + at] = e.per_bit[pair]
    found[2] = 1 if are_many(devices.counts[BEGUN], d.n) else 0
    if found[2] == 1:
        found[0] = _forecast_all(all_, d.n, devices, at_s, step_s, of_devices)
    else:
        found[0] = _forecast(devices, at_s, step_s, of_devices)
    found[1] = _forecast(links, at_s, step_s, of_links)


def _add(c: CourseTables, key: int, first: float, value: float, token: float, at_s: float) -> int:
    """Add one value; the place of its course, or NOWHERE."""
    at = place_of(c.keys, c.counts[BEGUN], key)
    known = at < c.counts[BEGUN]
    if known:
        known = c.keys[at] == key
    if not known:
        if value <= TURN * first and TURN * value >= first:
            return NOWHERE
        _begin(c, at, key, first, token, at_s)
    _observe(c, at, value, token, at_s)
    return at


def _begin(c: CourseTables, place: int, key: int, first: float, token: float, at_s: float) -> None:
    """Begin a course, which has not changed yet."""
    at = c.counts[BEGUN]
    while at > place:
        c.keys[at] = c.keys[at - 1]
        for row in range(c.n_rows):
            c.table[row * c.room + at] = c.table[row * c.room + at - 1]
        at -= 1
    c.keys[place] = key
    for row in range(c.n_rows):
        c.table[row * c.room + place] = 0.0
    c.seen_at[place] = token
    c.seen_s[place] = at_s
    c.value[place] = first
    c.extreme[place] = first
    for turn in range(KEPT):
        c.lasted[turn * c.room + place] = np.inf
    c.counts[BEGUN] += 1


def _observe(c: CourseTables, at: int, value: float, token: float, at_s: float) -> None:
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
            c.lasted[(KEPT - 1) * c.room + at] = at_s - c.turned_s[at]
        c.extreme[at] = value
        c.rising[at] = 1.0 if up else -1.0
        c.turned_s[at] = at_s
        c.counts[TURNS] += 1
    elif changed:
        c.extreme[at] = max(extreme, value) if c.rising[at] > 0.0 else min(extreme, value)
    c.seen_at[at] = token
    c.seen_s[at] = at_s
    c.value[at] = value


def _forecast(c: CourseTables, at_s: float, step_s: float, o: CourseForecasts) -> int:
    """Write how long the present states last of which that is known; how many these are."""
    count = 0
    for at in range(c.counts[BEGUN]):
        least_s = np.inf
        for turn in range(KEPT):
            least_s = min(least_s, c.lasted[turn * c.room + at])
        if least_s < np.inf and c.tokens[at] > 0.0:
            age_s = c.seen_s[at] - c.turned_s[at]
            whole_s = least_s if age_s < least_s else 2.0 * age_s
            o.keys[count] = c.keys[at]
            o.lasts_tokens[count] = max(1.0, (c.turned_s[at] + whole_s - at_s) / step_s)
            o.mean[count] = c.total[at] / c.tokens[at] / c.value[at]
            o.whole_tokens[count] = whole_s / step_s
            for part in range(c.n_parts):
                mean = c.totals[part * c.room + at] / c.tokens[at]
                o.parts[part * c.room + count] = mean / c.parts[part * c.room + at]
            count += 1
    return count


def _forecast_all(all_: AllDeviceTimes, n: int, c: CourseTables, at_s: float, step_s: float, o: CourseForecasts) -> int:
    """Write how long the present states of all devices last, of what all did; how many these are."""
    began_s, speed = all_.began[0], 0.0
    state_s = max(step_s, n * (at_s - began_s) / (1 + c.counts[TURNS]))
    known_s, alike_s = at_s - began_s + all_.began[1], ALIKE * state_s
    for device in range(n):
        speed += all_.work_s[device]
    speed = speed / (n * known_s)
    at = 0
    for device in range(n):
        turned_s, longest_s = began_s, state_s
        if at < c.counts[BEGUN] and c.keys[at] == device:
            turned_s = c.turned_s[at] if c.rising[at] != 0.0 else began_s
            for turn in range(KEPT):
                lasted_s = c.lasted[turn * c.room + at]
                longest_s = max(longest_s, lasted_s if lasted_s < np.inf else 0.0)
            at += 1
        age_s = at_s - turned_s
        whole_s = 2.0 * age_s if age_s > OUTLASTED * longest_s else age_s + state_s
        o.keys[device] = device
        o.lasts_tokens[device] = max(1.0, (whole_s - age_s) / step_s)
        o.mean[device] = (known_s + alike_s) / (all_.work_s[device] + alike_s * speed) / all_.values[device]
        o.whole_tokens[device] = whole_s / step_s
    return n
