"""Measurements from a CSV file: one row each, in tokens per second or time per token.

Columns: `model`, `weights`, `nodes`, `value` and `unit` are required, `link` too where there are several nodes. Others
that are read if they are there: `device`, `metric` (prefill, or decoding for everything else), `context`, `sequences`,
`bits_per_weight`, `compute_ms`. The rest is kept for choosing rows by it.
"""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.run.calibrate.left_out import LeftOut
from edgeemu.run.calibrate.measurement import (
    CONTEXT,
    HeldAs,
    Measurement,
    Phase,
    link_named,
    model_named,
    weight_format,
)
from edgeemu.scenario.files import read_text

REQUIRED = ("model", "weights", "nodes", "value", "unit")
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "s/token": 1.0, "ms/token": 1e-3}
RATES = ("tok/s", "tokens/s", "t/s", "/s")

ValueT = TypeVar("ValueT")


class Defaults(NamedTuple):
    """Facts from options of the command, for measurements whose file does not have them."""

    model: str | None = None
    weights: str | None = None
    nodes: int = 1  # of JSON files
    link: str | None = None


class Row(NamedTuple):
    """Row of a file: its place, and the text of each column that is not empty."""

    where: str
    texts: Mapping[str, str]

    def error(self, column: str, message: str) -> RequestError:
        return RequestError(message, file=self.where, field=column)

    def read(self, column: str, read: Callable[[str], ValueT]) -> ValueT:
        """Read a column that must be there. Raises `RequestError` with file, row and column."""
        if column not in self.texts:
            raise self.error(column, "is missing")
        try:
            return read(self.texts[column])
        except (RequestError, ValueError) as error:
            raise self.error(column, str(error)) from None


def read_rows(path: Path, left_out: LeftOut) -> Iterator[Row]:
    """Read the rows of a CSV file. Raises `RequestError`: no such file, no header, or a required column is missing."""
    try:
        text = read_text(path, str(path))
    except OSError as error:
        raise RequestError((error.strerror or str(error)).lower(), file=str(path)) from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    for name in REQUIRED:
        if name not in columns:
            hint = did_you_mean(name, columns) or f" (required: {', '.join(REQUIRED)})"
            raise RequestError(f'there is no column "{name}"{hint}', file=str(path), line=1)

    def read(fields: Mapping[str | None, str]) -> Row:
        where = f"{path}:{reader.line_num}"
        if None in fields:
            raise RequestError("has more fields than the header", file=where)
        return Row(where, {name: value.strip() for name, value in fields.items() if name and value and value.strip()})

    return (row for row in left_out.usable(reader, read) if row.texts)


def chosen(rows: Sequence[Row], conditions: Mapping[str, Sequence[str]], shown: str = "") -> list[Row]:
    """Rows that have one of the given values in each of these columns. Raises `RequestError` if there is none."""
    left = list(rows)
    for column, values in conditions.items():
        seen = {row.texts[column] for row in left if column in row.texts}
        unknown = next((value for value in values if value not in seen), None)
        if unknown is not None:
            hint = did_you_mean(unknown, seen) or f" (there is: {', '.join(sorted(seen)) or 'nothing'})"
            raise RequestError(f'no row has {column} "{unknown}"{hint}', file=shown or None)
        left = [row for row in left if row.texts.get(column) in values]
    return left


def measurement(row: Row, defaults: Defaults) -> Measurement:
    """Measurement of a row. Raises `RequestError` with file, row, column and reason."""
    nodes = row.read("nodes", _count)
    bits = row.read("bits_per_weight", _positive) if "bits_per_weight" in row.texts else None
    value = row.read("value", _positive)
    link = None
    if nodes > 1:
        if defaults.link is None and "link" not in row.texts:
            raise row.error("link", f"is missing: {nodes} nodes are joined by something")
        link = link_named(defaults.link) if defaults.link else row.read("link", link_named)
    is_prefill = row.texts.get("metric", "").lower() in ("prefill", "pp", "prompt")
    phase: Phase = "prefill" if is_prefill else "decode"
    context = row.read("context", _count) if "context" in row.texts else CONTEXT
    taken_s = row.read("unit", lambda unit: _seconds(value, unit))
    return Measurement(
        where=row.where,
        model=model_named(defaults.model) if defaults.model else row.read("model", model_named),
        weights=_weights(row, bits, defaults),
        nodes=nodes,
        link=link,
        taken_s=taken_s * context if is_prefill else taken_s,
        phase=phase,
        context=context,
        sequences=row.read("sequences", _count) if "sequences" in row.texts else 1,
        compute_s=row.read("compute_ms", _positive) / 1e3 if "compute_ms" in row.texts else None,
        device=row.texts.get("device", ""),
    )


def _weights(row: Row, bits: float | None, defaults: Defaults) -> HeldAs:
    if defaults.weights is not None:
        return weight_format(defaults.weights)
    return row.read("weights", lambda text: weight_format(text, bits))


def _seconds(value: float, unit: str) -> float:
    """Seconds per token of a value in its unit."""
    if unit in SECONDS:
        return value * SECONDS[unit]
    if unit in RATES:
        return 1.0 / value
    raise ValueError(f'"{unit}" is not a unit of time or rate{did_you_mean(unit, [*SECONDS, *RATES])}')


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a number') from None
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{text} is not more than 0")
    return number


def _count(text: str) -> int:
    number = _positive(text)
    if number != int(number):
        raise ValueError(f'"{text}" is not a whole number')
    return int(number)
