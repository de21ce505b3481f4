"""Packet-delivery traces of Mahimahi. Pure: from texts to instants and back.

A line is an instant in whole milliseconds at which the link can deliver a packet of 1,500 bytes; repeated instants
are several packets. After the last instant the trace begins again. Source: Netravali et al., "Mahimahi: Accurate
Record-and-Replay for HTTP", USENIX ATC 2015, and mm-link(1).
"""

from array import array
from collections.abc import Iterable
from typing import Any

SUFFIXES = (".up", ".down", ".pps", ".mahimahi")  # file names: as Mahimahi distributes them, and a plain one
MAX_PACKETS = 2_000_000  # of a trace: 40 minutes at 10 Mbit/s
MAX_PER_MS = 900  # packets in one millisecond, 10.8 Gbit/s: `cluster.link_variation` gives each a microsecond
_EPOCH_MS = 100_000_000_000  # March 1973: instants from here on are times of day, in milliseconds since 1970
_EPOCH_S = range(1_000_000_000, 4_000_000_000)  # 2001 to 2096 in seconds, which no trace in milliseconds begins with
_LIMIT_MS = 2**32
_Placed = tuple[str, str]  # the place of a text, and the text


def read_instants(given: Iterable[_Placed], file: str) -> bytes:
    """Convert the texts of a trace to unsigned 32-bit integers, in this machine's order.

    Instants since 1970 are counted from the first. Raises ValueError, with the place, if they are not such a trace.
    """
    instants_ms = array("I")
    begin_ms: int | None = None
    last_ms = same = at_zero = 0
    for place, text in given:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ValueError(f'{place}: "{text[:40]}" is not a whole number of milliseconds')
        if begin_ms is None:
            if int(text) in _EPOCH_S:
                raise ValueError(f"{place}: {text} looks like seconds since 1970; the instants are milliseconds")
            begin_ms = int(text) if int(text) >= _EPOCH_MS else 0
        at_ms = int(text) - begin_ms
        if instants_ms and at_ms < last_ms:
            raise ValueError(f"{place}: {text} is earlier than the one before")
        if at_ms >= _LIMIT_MS:
            raise ValueError(f"{place}: {text} is more than 49 days after the beginning of the trace")
        same = same + 1 if at_ms == last_ms else 1
        at_zero += not at_ms
        last_ms = at_ms
        instants_ms.append(at_ms)
        if len(instants_ms) > MAX_PACKETS:
            raise ValueError(f"{place}: has more than {MAX_PACKETS:,} packets")
        if same + at_zero * (at_ms > 0) > MAX_PER_MS:
            raise ValueError(f"{place}: has more than {MAX_PER_MS} packets in one millisecond")
    if not last_ms:
        raise ValueError(f"{file}: has no instant after {'the first' if begin_ms else 0}")
    return instants_ms.tobytes()


def packed_instants(given: Any) -> bytes:
    """Convert instants in a text, separated by spaces, to `read_instants`'s form; in which they are returned unchanged.

    Raises ValueError.
    """
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str):
        raise ValueError('is not text (write the instants with spaces between them, e.g. "5 10 10 25")')
    return read_instants(((f"packet {n}", text) for n, text in enumerate(given.split(), start=1)), "the trace")


def written_instants(packed: bytes) -> str:
    """Write instants as a text, the inverse of `packed_instants`."""
    return " ".join(map(str, memoryview(packed).cast("I")))
