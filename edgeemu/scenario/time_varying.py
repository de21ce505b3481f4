"""Values that vary over time: a trace, a uniform distribution or a random walk. Reads CSV files; samples nothing.

A trace file has two columns, time and value, and optionally a line of headings. A number without a unit has the unit
in brackets of its heading, `time [ms],rate [Mbit/s]`; without one, times are in seconds and only fractions accepted.
Times increase; each value holds until the next. Bandwidths can come from a Mahimahi trace.
"""

from typing import TYPE_CHECKING, Annotated, Any, Generic, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from edgeemu.scenario.distributions import OfQuantity, Range, Seed, ValueT
from edgeemu.scenario.files import or_text
from edgeemu.scenario.names import KindName
from edgeemu.scenario.traces import Points, read_trace, rising
from edgeemu.scenario.validation import FirstErrorOfMany, Strict, at, exactly_one_of
from edgeemu.units import DURATION, Fraction, PositiveFraction, Seconds

MIN_EVERY_S = 1e-3  # faster changes would cost more time than the work that they slow down
MAX_RELAXATION = 100  # steps
_TIMES_AND_VALUES = KindName("list of [time, value], or a CSV file")


class WalkSpec(OfQuantity, Generic[ValueT]):
    """Random walk around `mean` (`cluster.variation.Walk`), within three spreads unless bounds are given.

    `relaxation` is the time after which a deviation has fallen to 1/e: ten steps if not given.
    """

    mean: ValueT = Field(description="Mean of the random walk.")
    spread: ValueT = Field(description="Standard deviation of the random walk.")
    low: ValueT | None = Field(default=None, description="Lower bound; three spreads below the mean if not given.")
    high: ValueT | None = Field(
        default=None, description="Upper bound; three spreads above the mean if not given, at most 1 for fractions."
    )
    relaxation: Seconds | None = Field(
        default=None, description="Time after which a deviation has fallen to 1/e; ten steps if not given."
    )

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
        """Bounds of the walk."""
        mean, spread, low, high = (getattr(self, key) for key in ("mean", "spread", "low", "high"))
        lowest = max(0.0, mean - 3 * spread) if low is None else low
        highest = min(self.quantity().maximum, mean + 3 * spread) if high is None else high
        return lowest, highest


class TimeVarying(OfQuantity, Generic[ValueT]):
    """Time-varying value: exactly one of `trace`, `uniform` and `walk`.

    Random values are sampled again after each `every`. Their default seed derives from the scenario's and the names.
    """

    trace: Annotated[tuple[tuple[Seconds, ValueT], ...], FirstErrorOfMany(), _TIMES_AND_VALUES] | None = Field(
        default=None,
        json_schema_extra=or_text("a CSV file of time and value"),
        description="Values over time: a list of [time, value], or a CSV file. Each value holds until the next time.",
    )
    uniform: Range[ValueT] | None = Field(
        default=None, description="Uniform distribution, sampled again at every step."
    )
    walk: WalkSpec[ValueT] | None = Field(default=None, description="Random walk around a mean.")
    every: Seconds | None = Field(default=None, description="Step of `uniform` and `walk`; at least 1 ms.")
    seed: Seed | None = Field(
        default=None,
        description="Seed of `uniform` and `walk`; derived from the scenario's seed and the names if not given.",
    )

    @field_validator("trace", mode="before")
    @classmethod
    def _read(cls, given: Any, info: ValidationInfo) -> Any:
        """Read the points of a file, whose path is relative to the scenario's directory."""
        return read_trace(given, info, cls.quantity())

    @field_validator("trace")
    @classmethod
    def _check(cls, points: Points | None) -> Points | None:
        return points if points is None else rising(points)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        exactly_one_of(self, "trace", "uniform", "walk")
        if self.trace is not None:
            for key in ("every", "seed"):
                if getattr(self, key) is not None:
                    raise at([key], "is for uniform and walk; a trace has its own times")
            return self
        if self.every is None:
            raise at(["every"], "is missing (the step after which the value is sampled again)")
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
        """Relaxation time of the walk: as given, else ten steps."""
        assert self.walk is not None
        assert self.every is not None
        return 10 * self.every if self.walk.relaxation is None else self.walk.relaxation


def _form(value: Any) -> str:
    """Tag of the member of a `MaybeTimeVarying` union that a value belongs to."""
    return "<time-varying>" if isinstance(value, dict | TimeVarying) else "<value>"


if TYPE_CHECKING:
    MaybeTimeVarying: TypeAlias = ValueT | TimeVarying[ValueT]
else:
    # As `distributions.MaybeRandom`.
    class MaybeTimeVarying:
        """Type of a constant or a time-varying value: `MaybeTimeVarying[Fraction]`."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            return Annotated[value | Annotated[TimeVarying[quantity], Tag("<time-varying>")], Discriminator(_form)]


class ThrottleSpec(Strict):
    """Thermal throttling: from some time on the device slows down linearly to a fraction of its speed, and stays there.

    [D] No source gives one curve for all devices; a straight line is the simplest that has the two figures that
    reviews of devices do give, when throttling sets in and what remains.
    """

    after: Seconds = Field(description="Time of the run at which the device begins to slow down.")
    to: PositiveFraction = Field(description="Fraction of its speed that remains in the end.")
    over: Seconds = Field(default=0.0, description="Duration of the slowdown, which is linear.")


class LinkVariationSpec(Strict):
    """Variation of a link over time: a factor on its bandwidth (at least 1 % if random), and additional delay."""

    bandwidth: MaybeTimeVarying[Fraction] | None = Field(
        default=None, description="Factor on the link's bandwidth; random values are at least 1 %."
    )
    delay: MaybeTimeVarying[Seconds] | None = Field(default=None, description="Delay added to the link's own.")
