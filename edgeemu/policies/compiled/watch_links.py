"""Estimates of links from the messages that they carried: `view.link_estimates`, in the same order."""

from typing import NamedTuple

from edgeemu.policies.view.link_estimates import LEAST, RIDGE
from edgeemu_kernels.arrays import Floats, Ints

_NEW = -2  # in place of decisions before the last measurement: a pair has had none


class NominalLinks(NamedTuple):
    """Links between all devices as the scenario has them."""

    n: int
    s_per_bit: Floats  # [n, n]
    delay_s: Floats  # [n, n]


class LinkSums(NamedTuple):
    """Pairs of devices that were measured, ascending, with room for more, and places to write in for a step."""

    room: int  # pairs
    counts: Ints  # [2] pairs that were measured, decisions so far
    codes: Ints  # [room] source * n + target
    sources: Ints  # [room]
    targets: Ints  # [room]
    seen_at: Ints  # [room] decisions before the last measurement
    sums: Floats  # [5, room] of: delay's part squared, of both parts' product, bits' part squared, of each and took
    powers: Floats  # [n_decisions] weight of what was known before, by decisions since
    delay: Floats  # [room] multiples of the nominal ones
    per_bit: Floats  # [room]
    number: Ints  # [room] messages of the step
    places: Ints  # [room] of its messages' pairs; -1: they have no information
    weight: Floats  # [room] of the step


def observe_messages(v: NominalLinks, e: LinkSums, n_messages: int, columns: Floats) -> None:
    """Add the times of a step's messages: source, target, size, number and sum of times, [5, n_messages]."""
    new = 1
    while new > 0:  # those that are found move where one is inserted
        new = _find(v, e, n_messages, columns)
    for at in range(e.counts[0]):
        e.number[at] = 0
    for message in range(n_messages):
        if e.places[message] >= 0:
            e.number[e.places[message]] += 1
    for at in range(e.counts[0]):
        if e.number[at] > 0:
            kept = 0.0 if e.seen_at[at] == _NEW else e.powers[max(1, e.counts[1] - e.seen_at[at])]
            e.weight[at] = (1.0 - kept) / e.number[at]
            e.seen_at[at] = e.counts[1]
            for row in range(5):
                e.sums[row * e.room + at] *= kept
    sizes, numbers, sums_s = columns[2 * n_messages :], columns[3 * n_messages :], columns[4 * n_messages :]
    for message in range(n_messages):
        if e.places[message] >= 0:
            _add(v, e, e.places[message], sizes[message], sums_s[message] / numbers[message])
    _fit(e)


def _find(v: NominalLinks, e: LinkSums, n_messages: int, columns: Floats) -> int:
    """Find the pairs of messages that take time: others have no information. How many are new."""
    known, targets, sizes = e.counts[0], columns[n_messages:], columns[2 * n_messages :]
    for message in range(n_messages):
        source, target = int(columns[message]), int(targets[message])
        code, at = source * v.n + target, e.places[message]
        e.places[message] = -1
        if sizes[message] > 0.0 or v.delay_s[code] > 0.0:
            if at < 0 or at >= e.counts[0] or e.codes[at] != code:  # most steps have the messages of the one before
                at = place_of(e.codes, e.counts[0], code)
            if at == e.counts[0] or e.codes[at] != code:
                _insert(e, at, code, source, target)
            e.places[message] = at
    return e.counts[0] - known


def _add(v: NominalLinks, e: LinkSums, at: int, size_bytes: float, took_s: float) -> None:
    """Add messages to the sums of their pair."""
    way = e.codes[at]
    bits_s = 8.0 * size_bytes * v.s_per_bit[way]
    sheet_s = bits_s + v.delay_s[way]
    took, delay_part = took_s / sheet_s, 1.0 - bits_s / sheet_s
    bits_part = 1.0 - delay_part
    by_delay, by_bits = e.weight[at] * delay_part, e.weight[at] * bits_part
    e.sums[at] += by_delay * delay_part
    e.sums[e.room + at] += by_delay * bits_part
    e.sums[2 * e.room + at] += by_bits * bits_part
    e.sums[3 * e.room + at] += by_delay * took
    e.sums[4 * e.room + at] += by_bits * took


def _insert(e: LinkSums, place: int, code: int, source: int, target: int) -> None:
    """Add a pair that was not measured before."""
    at = e.counts[0]
    while at > place:
        e.codes[at] = e.codes[at - 1]
        e.sources[at] = e.sources[at - 1]
        e.targets[at] = e.targets[at - 1]
        e.seen_at[at] = e.seen_at[at - 1]
        for row in range(5):
            e.sums[row * e.room + at] = e.sums[row * e.room + at - 1]
        at -= 1
    e.codes[place] = code
    e.sources[place] = source
    e.targets[place] = target
    e.seen_at[place] = _NEW
    for row in range(5):
        e.sums[row * e.room + place] = 0.0
    e.counts[0] += 1


def _fit(e: LinkSums) -> None:
    """Compute the delay, and the time per bit, of all pairs, as multiples of the nominal ones."""
    for at in range(e.counts[0]):
        a, c, both = e.sums[at] + RIDGE, e.sums[2 * e.room + at] + RIDGE, e.sums[e.room + at]
        x, y = e.sums[3 * e.room + at] + RIDGE, e.sums[4 * e.room + at] + RIDGE
        det = a * c - both * both
        e.delay[at] = max(LEAST, (c * x - both * y) / det)
        e.per_bit[at] = max(LEAST, (a * y - both * x) / det)


def slowness(v: NominalLinks, e: LinkSums, at: int, bits: float) -> float:
    """Compute how many times as long as nominally a message takes on a link."""
    way = e.sources[at] * v.n + e.targets[at]
    delay_s, bits_s = v.delay_s[way], bits * v.s_per_bit[way]
    total_s, now_s = delay_s + bits_s, e.delay[at] * delay_s + e.per_bit[at] * bits_s
    return now_s / total_s if total_s > 0.0 else 1.0


def place_of(codes: Ints, count: int, code: int) -> int:
    """Where a code is among those that ascend, or would be."""
    begin, end = 0, count
    while begin < end:
        middle = (begin + end) >> 1
        if codes[middle] < code:
            begin = middle + 1
        else:
            end = middle
    return begin
