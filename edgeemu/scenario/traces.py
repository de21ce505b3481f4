"""Traces of a value over time, given in the scenario or in a file."""

import csv
import re
from collections.abc import Iterator
from fractions import Fraction
from io import StringIO
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    Tag,
    ValidationInfo,
    WithJsonSchema,
)

from edgeemu.quantity import Quantity, UnitError
from edgeemu.scenario import mahimahi
from edgeemu.scenario.files import base_of, lines_of, or_text, read_named_text
from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import FirstErrorOfMany, Strict, at
from edgeemu.units import BIT_RATE, DURATION, Seconds

Points: TypeAlias = tuple[tuple[float, Any], ...]

MAX_POINTS = 100_000  # of a file: more than a day of one each second; each is read exactly, and that takes time
_MAX_ROWS = 4 * MAX_POINTS  # with those that are empty or comments
_EPOCH_S = 100_000_000  # March 1973: times from here on are seconds since 1970
_EPOCH_UNITS = {10**17: "ns", 10**14: "us", 10**11: "ms"}  # bare numbers from these on are in smaller units
_BARE = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


class TimeColumn:
    """Reader of the times in a file: durations, or bare numbers in `unit`, seconds if not given.

    Times since 1970 (bare numbers of them in seconds, milliseconds, microseconds or nanoseconds) are counted from the
    first.
    """

    def __init__(self, unit: str = "") -> None:
        self._unit = unit
        self._begin_s: Fraction | None = None
        self.last_s = Fraction(-1)

    def read(self, cell: str) -> str:
        """Read a time to a text with a unit, and its exact value to `last_s`. Raises UnitError."""
        if self._begin_s is None and not self._unit:
            bare = float(cell) if _is_bare(cell) else 0.0
            units = _EPOCH_UNITS.items() if isfinite(bare) else ()
            self._unit = next((unit for least, unit in units if bare >= least), "s")
        text = f"{cell} {self._unit}" if _is_bare(cell) else cell
        exact_s = DURATION.exact(text)
        if self._begin_s is None:
            self._begin_s = exact_s if exact_s >= _EPOCH_S else Fraction(0)
        self.last_s = exact_s - self._begin_s
        return f"{float(self.last_s)!r} s" if self._begin_s else text


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
    text = read_named_text(given, base_of(info))
    if quantity.noun == BIT_RATE.noun and Path(given).suffix.lower() in mahimahi.SUFFIXES:
        return {"packets": mahimahi.read_instants(lines_of(text, str(given)), str(given))}
    rows = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        points = list(_points(rows, str(given), quantity))
    except csv.Error as error:
        raise ValueError(f"{given}:{rows.line_num}: cannot be read as CSV: {error}") from error
    if not points:
        raise ValueError(f"{given}: has no values")
    return points


def _points(rows: Any, file: str, quantity: Quantity) -> Iterator[tuple[str, str]]:
    times: TimeColumn | None = None
    unit = ""
    for read, row in enumerate(rows):
        if read > _MAX_ROWS:
            raise ValueError(f"{file}: has more than {_MAX_ROWS:,} lines")
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        place = f"{file}:{rows.line_num}"
        if len(cells) != 2:
            raise ValueError(f"{place}: has {_columns(cells)}; a trace has two, time and value{_hint(cells, quantity)}")
        if times is None:
            is_heading = not (_has_digit(cells[0]) or _is_bare(cells[0]) or _is_value(cells[1], quantity))
            time_unit, unit = (_unit_in(cell) if is_heading else "" for cell in cells)
            times = TimeColumn(time_unit)
            if is_heading:
                continue
        if read > MAX_POINTS:
            raise ValueError(f"{place}: has more than {MAX_POINTS:,} values; take fewer, each holds until the next")
        before_s = times.last_s
        value = f"{cells[1]} {unit}" if unit and _is_bare(cells[1]) else cells[1]
        try:
            time = times.read(cells[0])
            quantity.parse(value)
        except UnitError as error:
            raise ValueError(f"{place}: {error}") from error
        if times.last_s <= before_s:
            raise ValueError(f"{place}: {cells[0]} is not later than the line before")
        yield time, value


def _columns(cells: list[str]) -> str:
    return "1 column" if len(cells) == 1 else f"{len(cells)} columns"


def _hint(cells: list[str], quantity: Quantity) -> str:
    """Hint for a file of one column."""
    if len(cells) > 1:
        return ""
    if cells[0].isdigit() and quantity.noun == BIT_RATE.noun:
        return f" (a Mahimahi trace has one; its name ends in {', '.join(mahimahi.SUFFIXES)})"
    return " with a comma between them"


def _unit_in(heading: str) -> str:
    return heading.partition("[")[2].partition("]")[0].strip()


def _has_digit(cell: str) -> bool:
    return any(character.isdigit() for character in cell)


def _is_value(cell: str, quantity: Quantity) -> bool:
    """Whether a cell has a number, right or wrong, and is no heading."""
    try:
        quantity.parse(cell)
    except UnitError:
        return _is_bare(cell.partition(" ")[0])
    return True


def _is_bare(cell: str) -> bool:
    return _BARE.fullmatch(cell) is not None


class PacketTrace(Strict):
    """Packet-delivery trace, as a Mahimahi file has it."""

    packets: Annotated[
        bytes,
        PlainValidator(mahimahi.packed_instants),
        PlainSerializer(mahimahi.written_instants, return_type=str),
        WithJsonSchema({"type": "string"}),
        KindName("text of whole numbers"),
    ] = Field(
        description="Instants in milliseconds, with spaces between them, at each of which 1,500 bytes can pass. At the "
        "last one they begin again.",
    )


REPEAT = "repeat"  # in place of the last rate: the trace starts again at that time

_RateOrRepeat = Annotated[
    Annotated[float, BIT_RATE, Tag("<value>")] | Annotated[Literal["repeat"], Tag("<word>")],
    Discriminator(lambda given: "<word>" if given == REPEAT else "<value>"),
]


def _repeating_at_the_end(points: Points) -> Points:
    for n, (_, rate) in enumerate(points):
        if rate == REPEAT and (n == 0 or n < len(points) - 1):
            raise at([n, 1], "repeat is for the end of a trace that has values")
    if not any(rate != REPEAT and rate > 0 for _, rate in points):
        raise ValueError("has no rate above zero: nothing would ever arrive")
    return points


_RatePoints = Annotated[
    tuple[tuple[Seconds, _RateOrRepeat], ...],
    FirstErrorOfMany(),
    AfterValidator(rising),
    AfterValidator(_repeating_at_the_end),
]
RateTrace = Annotated[
    Annotated[_RatePoints, Tag("<points>")] | Annotated[PacketTrace, Tag("<packets>")],
    Discriminator(lambda given: "<packets>" if isinstance(given, dict | PacketTrace) else "<points>"),
    BeforeValidator(lambda given, info: read_trace(given, info, BIT_RATE)),
    Field(json_schema_extra=or_text("a CSV file of time and value, or a Mahimahi trace")),
    KindName("list of [time, bit rate], or a file"),
]
