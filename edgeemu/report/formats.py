"""Formats of numbers in tables."""

from collections.abc import Sequence
from typing import NamedTuple

from edgeemu.units import SIZE


class Table(NamedTuple):
    """Headings that start with ">" are of columns that are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def size(size_bytes: float) -> str:
    return SIZE.format_human(size_bytes)


def ms_text(value: float | None) -> str:
    return "–" if value is None else f"{number_text(value, 1)} ms"


def number_text(value: float, decimals: int) -> str:
    """So many decimals, or of a number below one as many as show three digits."""
    return f"{value:.3g}" if 0 < value < 1 else f"{value:.{decimals}f}"


def counted(number: int, noun: str) -> str:
    """`1 device`, `2 devices`"""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
