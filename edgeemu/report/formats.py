"""Formats of numbers in tables."""

from collections.abc import Sequence
from typing import NamedTuple

from edgeemu.units import SIZE


class Table(NamedTuple):
    """A table. Columns whose heading starts with ">" are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def size(size_bytes: float) -> str:
    return SIZE.format_human(size_bytes)


def ms_text(value: float | None) -> str:
    return "–" if value is None else f"{number_text(value, 1)} ms"


def number_text(value: float, decimals: int) -> str:
    """Format with so many decimals; a number below one with three significant digits."""
    return f"{value:.3g}" if 0 < value < 1 else f"{value:.{decimals}f}"


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: `1 device`, `2 devices`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
