"""Traces of a value over time, given in the scenario or in a file."""

import csv
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationInfo

from edgeemu.quantity import Quantity, UnitError
from edgeemu.scenario import mahimahi
from edgeemu.scenario.files import existing, or_file
from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import at
from edgeemu.units import BIT_RATE, DURATION, BitsPerSecond, Seconds

Points: TypeAlias = tuple[tuple[float, Any], ...]


def rising(points: Points) -> Points:
    if not points:
        raise ValueError("is empty")
    for n, (earlier, later) in enumerate(pairwise(points), start=1):
        if later[0] <= earlier[0]:
            raise at([n, 0], "is not later than the one before")
    return points


def read_trace(given: Any, info: ValidationInfo, quantity: Quantity) -> Any:
    """Read and check the points of a CSV or Mahimahi file, as texts. Other values are returned unchanged."""
    if not isinstance(given, str | Path):
        return given
    path = existing(given, info)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if quantity.noun == BIT_RATE.noun and path.suffix in mahimahi.SUFFIXES:
                return _mahimahi_points(file, str(given))
            return list(_points(csv.reader(file), str(given), quantity))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ValueError(f'"{given}" cannot be read as CSV: {error}') from error


def _points(rows: Iterator[list[str]], file: str, quantity: Quantity) -> Iterator[tuple[str, str]]:
    units = ["s", ""]
    seen = -1.0
    for line, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) != 2:
            raise ValueError(f"{file}:{line}: has {len(cells)} columns; a trace has two, time and value")
        pairs = list(zip(cells, units, strict=True))
        if seen < 0 and not any(character.isdigit() for character in cells[0]):
            units = [cell.partition("[")[2].partition("]")[0] or unit for cell, unit in pairs]
            continue
        texts = [f"{cell} {unit}" if unit and _is_bare(cell) else cell for cell, unit in pairs]
        try:
            time_s = DURATION.parse(texts[0])
            quantity.parse(texts[1])
        except UnitError as error:
            raise ValueError(f"{file}:{line}: {error}") from error
        if time_s <= seen:
            raise ValueError(f"{file}:{line}: {cells[0]} is not later than the line before")
        seen = time_s
        yield texts[0], texts[1]


def _mahimahi_points(lines: Iterable[str], file: str) -> list[tuple[str, str]]:
    """Points of a Mahimahi trace: one if its rate never changes, else with the instant at which it repeats."""
    points, end_ms = mahimahi.rates(lines, file)
    texts = [(f"{at_ms} ms", f"{rate_bps!r} bit/s") for at_ms, rate_bps in points]
    return texts if len(texts) == 1 else [*texts, (f"{end_ms} ms", REPEAT)]


def _is_bare(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


REPEAT = "repeat"  # in place of the last rate: the trace starts again at that time

_RateOrRepeat = Annotated[
    Annotated[BitsPerSecond, Tag("<value>")] | Annotated[Literal["repeat"], Tag("<word>")],
    Discriminator(lambda given: "<word>" if given == REPEAT else "<value>"),
]


def _repeating_at_the_end(points: Points) -> Points:
    for n, (_, rate) in enumerate(points):
        if rate == REPEAT and (n == 0 or n < len(points) - 1):
            raise at([n, 1], "repeat is for the end of a trace that has values")
    return points


RateTrace = Annotated[
    tuple[tuple[Seconds, _RateOrRepeat], ...],
    BeforeValidator(lambda given, info: read_trace(given, info, BIT_RATE.above_zero())),
    AfterValidator(rising),
    AfterValidator(_repeating_at_the_end),
    Field(json_schema_extra=or_file("a CSV file of time and value")),
    KindName("list of [time, bit rate], or a file"),
]
