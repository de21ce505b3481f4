"""Packet-delivery traces of Mahimahi, converted to rates over time. Pure: from lines of text to points.

A line is an instant in whole milliseconds at which the link can deliver a packet of 1,500 bytes; repeated instants
are several packets. After the last instant the trace begins again. Source: Netravali et al., "Mahimahi: Accurate
Record-and-Replay for HTTP", USENIX ATC 2015, and mm-link(1).
"""

from collections import Counter
from collections.abc import Iterable

PACKET_BITS = 8 * 1500
BIN_MS = 100  # [D] interval of one rate: 100 packets on a link of 12 Mbit/s
OUTAGE_BPS = 1e3  # [D] rate of an interval without packets: a rate is never zero
SUFFIXES = (".up", ".down", ".mahimahi")  # file names of traces: as Mahimahi distributes them, and a plain one


def rates(lines: Iterable[str], file: str) -> tuple[list[tuple[int, float]], int]:
    """Convert a trace to points of (milliseconds, bits per second), and the milliseconds after which they repeat.

    Raises ValueError, with file and line, if the lines are not such a trace.
    """
    packets: Counter[int] = Counter()
    last_ms = 0
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f'{file}:{number}: "{text}" is not a whole number of milliseconds')
        at_ms = int(text)
        if at_ms < last_ms:
            raise ValueError(f"{file}:{number}: {at_ms} is earlier than the line before")
        last_ms = at_ms
        packets[max(0, at_ms - 1) // BIN_MS] += 1  # an instant at the end of a bin belongs to it
    if not last_ms:
        raise ValueError(f"{file}: has no instant after 0")
    points: list[tuple[int, float]] = []
    for first_ms in range(0, last_ms, BIN_MS):
        length_s = min(BIN_MS, last_ms - first_ms) / 1e3
        rate_bps = max(packets[first_ms // BIN_MS] * PACKET_BITS / length_s, OUTAGE_BPS)
        if not points or points[-1][1] != rate_bps:
            points.append((first_ms, rate_bps))
    return points, last_ms
