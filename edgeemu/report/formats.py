"""Formats of numbers in tables."""

from collections.abc import Sequence
from typing import NamedTuple

from edgeemu.units import BIT_RATE, SIZE


class Table(NamedTuple):
    """A table. Columns whose heading starts with ">" are aligned to the right.

    `may_go`: columns that a terminal without room for all leaves out, the first of them first. Without, and after
    these, it leaves out those on the right; never the first column, which says of what a row is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    may_go: Sequence[str] = ()  # headings, without ">"


def size(size_bytes: float) -> str:
    return SIZE.format_human(size_bytes)


def bit_rate(bits_per_s: float) -> str:
    return BIT_RATE.format_human(bits_per_s)


def ms_text(value: float | None) -> str:
    return "–" if value is None else f"{number_text(value, 1)} ms"


def number_text(value: float, decimals: int) -> str:
    """Format with so many decimals; a number below one with three significant digits."""
    return f"{value:.3g}" if 0 < value < 1 else f"{value:.{decimals}f}"


def percent_text(share: float, decimals: int = 0, *, signed: bool = False) -> str:
    """Format a share: `12 %`; signed: `+12 %`."""
    return f"{100 * share:{'+' if signed else ''}.{decimals}f} %"


def share_text(value: float | None) -> str:
    """Format a share in percent that may be unknown; one below a tenth with a decimal."""
    return "–" if value is None else percent_text(value, 0 if value >= 0.1 else 1)


def path_text(source: str, target: str) -> str:
    """Name a path by its ends: `laptop → nano`."""
    return f"{source} → {target}"


def duration_text(seconds: float) -> str:
    """Format a duration that is not known well: `40 s`, `7 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def left_text(left_s: float | None) -> str:
    """Say how long something still takes; empty: it is not known."""
    return "" if left_s is None else f"about {duration_text(left_s)} left"


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 device`, `2 devices`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
