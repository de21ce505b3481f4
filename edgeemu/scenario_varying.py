"""How a scenario writes what changes over time: a value, a trace, a random course. Reads CSV files; draws nothing.

A file of a trace has two columns, time and value, and may have a line of headings. A number without a unit is in the
unit that the heading has in brackets, `time [ms],rate [Mbit/s]`, else in seconds, and where that has a meaning
(fractions) as it stands. Times rise; each value holds until the next. Bandwidths may come from a trace of Mahimahi's.
"""

import csv
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edgeemu import mahimahi
from edgeemu.errors import did_you_mean
from edgeemu.strict import Strict, at
from edgeemu.units import BIT_RATE, DURATION, BitsPerSecond, Fraction, PositiveFraction, Quantity, Seconds, UnitError

ValueT = TypeVar("ValueT")

MIN_EVERY_S = 1e-3  # a course that changes faster than this costs more time than the work it slows down
MAX_RELAXATION = 100  # steps
_SEED_LIMIT = 2**63

Points: TypeAlias = tuple[tuple[float, Any], ...]

Seed = Annotated[int, Field(strict=True, ge=0, lt=_SEED_LIMIT)]


class OfQuantity(Strict):
    """A generic model, named after its quantity."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """What the JSON schema calls the model, after its quantity: not after all that a `Quantity` says."""
        quantity = _quantity(params[0])
        return f"{cls.__name__} of {quantity.noun if quantity else params[0]}"

    @classmethod
    def quantity(cls) -> Quantity:
        """What it is a model of."""
        found = _quantity(cls.__pydantic_generic_metadata__["args"][0])
        assert found is not None
        return found


def _quantity(annotated: Any) -> Quantity | None:
    return next((arg for arg in get_args(annotated) if isinstance(arg, Quantity)), None)


class Range(OfQuantity, Generic[ValueT]):
    """From `low` to `high`, both included."""

    low: ValueT
    high: ValueT

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:  # type: ignore[operator]  # every ValueT is a number
            raise at(["high"], "is less than low")
        return self


class WalkSpec(OfQuantity, Generic[ValueT]):
    """A random walk round `mean`; see `edgeemu.variation.Walk`. It keeps within three spreads unless bounds are given.

    `relaxation` is how long it takes to come back from a deviation (to 1/e of it): ten steps if not given.
    """

    mean: ValueT
    spread: ValueT
    low: ValueT | None = None
    high: ValueT | None = None
    relaxation: Seconds | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.bounds
        if not low <= self.mean:  # type: ignore[operator]
            raise at(["low"], "is more than the mean")
        if not self.mean <= high:  # type: ignore[operator]
            raise at(["high"], "is less than the mean")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the walk is cut off."""
        mean, spread, low, high = (getattr(self, key) for key in ("mean", "spread", "low", "high"))
        lowest = max(0.0, mean - 3 * spread) if low is None else low
        highest = min(self.quantity().maximum, mean + 3 * spread) if high is None else high
        return lowest, highest


def _or_file(schema: dict[str, Any]) -> None:
    """Adds to the schema of a trace's points that it may be a file's name."""
    forms = schema.pop("anyOf", None) or [{key: schema.pop(key) for key in ("type", "items") if key in schema}]
    schema["anyOf"] = [{"type": "string", "description": "a CSV file of time and value"}, *forms]


class Course(OfQuantity, Generic[ValueT]):
    """Values that change over time: exactly one of `trace`, `uniform` and `walk`.

    The random ones are drawn anew `every` so often; without a `seed`, from the scenario's seed and the names.
    """

    trace: tuple[tuple[Seconds, ValueT], ...] | None = Field(None, json_schema_extra=_or_file)
    uniform: Range[ValueT] | None = None
    walk: WalkSpec[ValueT] | None = None
    every: Seconds | None = None
    seed: Seed | None = None

    @field_validator("trace", mode="before")
    @classmethod
    def _read(cls, given: Any, info: ValidationInfo) -> Any:
        """The points of a file, whose path is relative to the scenario's own directory."""
        return _read_trace(given, (info.context or {}).get("base"), cls.quantity())

    @field_validator("trace")
    @classmethod
    def _check(cls, points: Points | None) -> Points | None:
        return points if points is None else _rising(points)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [key for key in ("trace", "uniform", "walk") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of trace, uniform and walk")
        if self.trace is not None:
            for key in ("every", "seed"):
                if getattr(self, key) is not None:
                    raise at([key], "is for uniform and walk; a trace has its own times")
            return self
        if self.every is None:
            raise at(["every"], "is missing (how often the value is drawn anew)")
        if self.every < MIN_EVERY_S:
            raise at(["every"], f"is less than {DURATION.format_human(MIN_EVERY_S)}")
        relaxation_s = self.walk.relaxation if self.walk else None
        if relaxation_s is not None and not 0 < relaxation_s <= MAX_RELAXATION * self.every:
            raise at(["walk", "relaxation"], f"must be more than zero, and at most {MAX_RELAXATION} times every")
        return self

    @property
    def is_random(self) -> bool:
        return self.trace is None

    @property
    def relaxation_s(self) -> float:
        """Of a walk."""
        assert self.walk is not None
        assert self.every is not None
        return 10 * self.every if self.walk.relaxation is None else self.walk.relaxation


def _form(value: Any) -> str:
    """Which member of a `Varying` union a value belongs to."""
    return "<course>" if isinstance(value, dict | Course) else "<value>"


if TYPE_CHECKING:
    Varying: TypeAlias = ValueT | Course[ValueT]
else:
    # As `scenario_models.Drawn`.
    class Varying:
        """`Varying[Fraction]`: a fraction, or one that changes over time."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            return Annotated[value | Annotated[Course[quantity], Tag("<course>")], Discriminator(_form)]


class ThrottleSpec(Strict):
    """A device that gets hot: after so long it slows down to a share of its speed, over a while, and stays there.

    [D] No source gives one curve for all devices; a straight line is the simplest that has the two figures that
    reviews of devices do give, when throttling sets in and what remains.
    """

    after: Seconds
    to: PositiveFraction
    over: Seconds = 0.0


class LinkVariationSpec(Strict):
    """How a link varies: a factor on its bandwidth (random ones are 1 % at least), and delay added to its own."""

    bandwidth: Varying[Fraction] | None = None
    delay: Varying[Seconds] | None = None


def _rising(points: Points) -> Points:
    if not points:
        raise ValueError("is empty")
    for n, (earlier, later) in enumerate(pairwise(points), start=1):
        if later[0] <= earlier[0]:
            raise at([n, 0], "is not later than the one before")
    return points


def _read_trace(given: Any, base: Any, quantity: Quantity) -> Any:
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
    BeforeValidator(lambda given, info: _read_trace(given, (info.context or {}).get("base"), BIT_RATE.above_zero())),
    AfterValidator(_rising),
    AfterValidator(_repeating_at_the_end),
    Field(json_schema_extra=_or_file),
]
