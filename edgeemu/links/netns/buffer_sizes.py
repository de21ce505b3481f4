"""Sizes of the kernel's buffers for a rate and a delay. Pure arithmetic; each rule says what it prevents."""

from math import ceil

MTU_BYTES = 1500
FRAME_BYTES = 1514
MIN_QUEUE_PACKETS = 1000  # the kernel's own
FAST_BPS = 500e6  # from here on, single packets cost more processor time than their share of the link

_BUFFERED_S = 0.25  # [D] of the rate, beyond the data in flight: what TCP sends before it notices a queue


def queue_packets(bandwidth_bps: float | None, delay_s: float) -> int:
    """Packets that a queue holds: two round trips of data in flight, so that the queue itself loses nothing.

    The kernel's 1,000 are less than bandwidth * delay of a fast link. No bandwidth: another queue limits the rate.
    """
    if bandwidth_bps is None:
        return 10 * MIN_QUEUE_PACKETS
    return max(MIN_QUEUE_PACKETS, ceil(bandwidth_bps * (4.0 * delay_s + _BUFFERED_S) / (8 * MTU_BYTES)))


def gso_max_segs(bandwidth_bps: float | None) -> int:
    """Packets that TCP may send as one (generic segmentation offload).

    htb accounts for a packet after it was sent, so one of 64 KiB would pass a slow link at once; single ones keep a
    core busy at 1 Gbit/s.
    """
    return 1 if bandwidth_bps is None or bandwidth_bps < FAST_BPS else 4


def burst_s(bandwidth_bps: float) -> float:
    """The lateness of a timer that htb makes up for: its burst, as a time at the full rate.

    An idle link lets one burst pass at once, which is why it is short where a packet takes long.
    """
    return 250e-6 if bandwidth_bps >= FAST_BPS else 100e-6


def quantum_bytes(bandwidth_bps: float) -> int:
    """Bytes that a class may send per turn: in proportion to its rate, between one frame and the kernel's limit.

    The kernel's own value (rate / r2q) would cause a warning where it is out of range.
    """
    return min(max(round(bandwidth_bps / 8 * 1e-3), FRAME_BYTES), 60_000)
