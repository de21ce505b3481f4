"""Traces of a value over time, given in the scenario or in a file."""

import csv
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from edgeemu.errors import did_you_mean
from edgeemu.quantity import Quantity, UnitError
from edgeemu.scenario import mahimahi
from edgeemu.scenario.names import Kind
from edgeemu.scenario.validation import at
from edgeemu.units import BIT_RATE, DURATION, BitsPerSecond, Seconds

Points: TypeAlias = tuple[tuple[float, Any], ...]


def points_or_file(schema: dict[str, Any]) -> None:
    """Adds to the schema of a trace's points that it may be a file's name."""
    forms = schema.pop("anyOf", None) or [{key: schema.pop(key) for key in ("type", "items") if key in schema}]
    schema["anyOf"] = [{"type": "string", "description": "a CSV file of time and value"}, *forms]


def rising(points: Points) -> Points:
    if not points:
        raise ValueError("is empty")
    for n, (earlier, later) in enumerate(pairwise(points), start=1):
        if later[0] <= earlier[0]:
            raise at([n, 0], "is not later than the one before")
    return points


def read_trace(given: Any, base: Any, quantity: Quantity) -> Any:
    """The texts of a CSV file's points, each checked; what is not a file's name is returned as it is."""
    if not isinstance(given, str | Path):
        return given
    path = (Path(base or ".") / Path(given).expanduser()).absolute()
    if not path.is_file():
        beside = [str(Path(given).parent / other.name) for other in path.parent.glob("*")]
        raise ValueError(f'there is no file "{given}"{did_you_mean(str(given), beside)}')
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
    """Of a trace that never changes, one point; else with the instant at which it repeats."""
    points, end_ms = mahimahi.rates(lines, file)
    texts = [(f"{at_ms} ms", f"{rate_bps!r} bit/s") for at_ms, rate_bps in points]
    return texts if len(texts) == 1 else [*texts, (f"{end_ms} ms", REPEAT)]


def _is_bare(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


REPEAT = "repeat"  # in place of a rate, at the end of a trace: from then on it begins again

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
    BeforeValidator(lambda given, info: read_trace(given, (info.context or {}).get("base"), BIT_RATE.above_zero())),
    AfterValidator(rising),
    AfterValidator(_repeating_at_the_end),
    Field(json_schema_extra=points_or_file),
    Kind("list of [time, bit rate], or a file"),
]
