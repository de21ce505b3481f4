"""Variation of a link over time: a factor on its rate, its delay, and instants at which it delivers packets. Pure."""

from bisect import bisect_left, bisect_right
from collections import Counter
from functools import lru_cache
from math import ceil, inf

import msgspec

from edgeemu.cluster.variation import STANDSTILL, Faulted, Repeated, Trace, Variation, value, without_faults

DELIVERY_BITS = 8 * 1500  # what can pass at an instant of a Mahimahi trace
SLOT_S = 1e-6  # [D] duration of one delivery; those of one millisecond (at most 900) follow each other
BIN_MS = 100  # [D] interval of a mean rate: 100 packets on a link of 12 Mbit/s
OUTAGE_BPS = 1e3  # [D] rate of an interval without packets: for those who need a rate, it is never zero


class Deliveries(msgspec.Struct, frozen=True):
    """Instants at which a link delivers up to 1,500 bytes, over and over (Mahimahi, USENIX ATC 2015).

    `instants_ms`: unsigned 32-bit integers in this machine's order, in whole milliseconds, rising; at the last one,
    which is not 0, they begin again. `share` is a factor on the 1,500 bytes. Numbered over all repetitions, instant n
    is a slot of `SLOT_S` in which its bytes pass evenly. So the instant at which a pipe becomes free also says what is
    left of a slot: the next message gets that if it waits already, and an idle link loses it, as Mahimahi counts.
    """

    instants_ms: bytes
    share: Variation | None = None

    def passed_s(self, begin_s: float, bits: float) -> float:
        """When the last bit of a message has passed, if it is at the head of the queue from `begin_s` on."""
        slot = self._slot_after(begin_s)
        now_s, left = max(begin_s, self._start_s(slot)), bits
        while True:
            level, until_s = (1.0, inf) if self.share is None else self.share.piece(now_s)
            each = DELIVERY_BITS * max(level, STANDSTILL)
            first = each * max(0.0, 1.0 - (now_s - self._start_s(slot)) / SLOT_S)
            more = max(0, ceil((left - first) / each - 5e-4))  # less than a byte is noise of rounding
            end = inf if until_s == inf else self._slot_from(until_s)
            if slot + more < end:
                if not more:
                    return now_s + SLOT_S * min(left, first) / each
                return self._start_s(slot + more) + SLOT_S * min(1.0, (left - first) / each - (more - 1))
            left -= first + each * (int(end) - slot - 1)
            slot = int(end)
            now_s = self._start_s(slot)

    def _slot_after(self, t_s: float) -> int:
        """The first slot that is not over at an instant."""
        return self._slot_from(t_s, SLOT_S)

    def _slot_from(self, t_s: float, later_s: float = 0.0) -> int:
        """The first slot that begins, or `later_s` after its beginning is, later than an instant or then."""
        n = len(self.instants_ms) // 4
        first = n * max(0, int(1e3 * t_s // memoryview(self.instants_ms).cast("I")[-1]) - 1)
        slots = range(first, first + 3 * n)
        find = bisect_right if later_s else bisect_left
        return first + find(slots, t_s, key=lambda slot: self._start_s(slot) + later_s)

    def _start_s(self, slot: int) -> float:
        instants_ms = memoryview(self.instants_ms).cast("I")
        repetition, n = divmod(slot, len(instants_ms))
        at_ms = instants_ms[n]
        before = n - bisect_left(instants_ms, at_ms, 0, n)  # in the same millisecond
        if not at_ms and repetition:  # which is also the last one of the repetition before
            before += len(instants_ms) - bisect_left(instants_ms, instants_ms[-1])
        return (repetition * instants_ms[-1] + at_ms) / 1e3 + before * SLOT_S


class LinkVariation(msgspec.Struct, frozen=True):
    """Variation of a link: a factor on its bandwidth, its delay where events set it, and an added delay.

    With `deliveries` messages pass at their instants; `rate` then is their mean in intervals, for whoever needs a rate.
    Faults: nothing passes while the `rate` is 0; `arriving` is the share of packets that are not lost by them, and `up`
    is 0 while all is lost and will be sent again.
    """

    rate: Variation | None = None
    delay_s: Trace | None = None
    added_delay_s: Variation | None = None
    deliveries: Deliveries | None = None
    arriving: Variation | None = None
    up: Variation | None = None

    def delay_at(self, t_s: float, nominal_s: float) -> float:
        """The total delay at an instant, of a link with nominal delay `nominal_s`."""
        delay_s = nominal_s if self.delay_s is None else value(self.delay_s, t_s)
        return delay_s if self.added_delay_s is None else delay_s + value(self.added_delay_s, t_s)

    def is_down_at(self, t_s: float) -> bool:
        """Whether a fault lets nothing pass at an instant."""
        return isinstance(self.rate, Faulted) and not self.rate.factor_at(t_s)

    def lost_s(self, begin_s: float, end_s: float) -> tuple[float, float] | None:
        """The last time for which all was lost, between two instants: its beginning and its end. None: none ended."""
        if self.up is None:
            return None
        found, since_s, now_s = None, None, begin_s
        while now_s < end_s:
            level, until_s = self.up.piece(now_s)
            if level:
                since_s = None
            else:
                since_s = now_s if since_s is None else since_s
                found = (since_s, until_s) if until_s <= end_s else found
            now_s = until_s
        return found

    def without_outages(self) -> "LinkVariation":
        """The variation as it is without outages."""
        deliveries = self.deliveries
        if deliveries is not None:
            deliveries = Deliveries(deliveries.instants_ms, without_faults(deliveries.share))
        return msgspec.structs.replace(self, rate=without_faults(self.rate), deliveries=deliveries, up=None)

    def averaged(self) -> "LinkVariation":
        """The variation with rates in place of deliveries, as a queue with a rate can follow it."""
        return msgspec.structs.replace(self, deliveries=None)


@lru_cache(maxsize=16)  # links of one cluster share a trace
def mean_rates(instants_ms: bytes, nominal_bps: float) -> Variation:
    """The mean rates of deliveries in intervals of `BIN_MS`, as factors on a nominal rate."""
    packets = Counter((max(1, at_ms) - 1) // BIN_MS for at_ms in memoryview(instants_ms).cast("I"))  # ends belong to it
    last_ms = memoryview(instants_ms).cast("I")[-1]
    times_s: list[float] = []
    shares: list[float] = []

    def add(first_ms: int, rate_bps: float) -> None:
        if not shares or shares[-1] != rate_bps / nominal_bps:
            times_s.append(first_ms / 1e3)
            shares.append(rate_bps / nominal_bps)

    following_ms = 0
    for number, found in packets.items():  # in the order of time
        first_ms = number * BIN_MS
        if first_ms > following_ms:
            add(following_ms, OUTAGE_BPS)
        following_ms = min(first_ms + BIN_MS, last_ms)
        add(first_ms, max(found * DELIVERY_BITS / ((following_ms - first_ms) / 1e3), OUTAGE_BPS))
    trace = Trace(tuple(times_s), tuple(shares))
    return trace if len(shares) == 1 else Repeated(trace, last_ms / 1e3)
