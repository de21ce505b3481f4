"""How a scenario writes what changes over time: a value, a trace, a random course. Reads CSV files; draws nothing.

A file of a trace has two columns, time and value, and may have a line of headings. A number without a unit is in the
unit that the heading has in brackets, `time [ms],rate [Mbit/s]`, else in seconds, and where that has a meaning
(fractions) as it stands. Times rise; each value holds until the next. Bandwidths may come from a trace of Mahimahi's.
"""

from typing import TYPE_CHECKING, Annotated, Any, Generic, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from edgeemu.scenario.distributions import OfQuantity, Range, Seed, ValueT
from edgeemu.scenario.files import or_file
from edgeemu.scenario.names import Kind
from edgeemu.scenario.traces import Points, read_trace, rising
from edgeemu.scenario.validation import Strict, at, exactly_one_of
from edgeemu.units import DURATION, Fraction, PositiveFraction, Seconds

MIN_EVERY_S = 1e-3  # a course that changes faster than this costs more time than the work it slows down
MAX_RELAXATION = 100  # steps


class WalkSpec(OfQuantity, Generic[ValueT]):
    """A random walk round `mean`; see `cluster.variation.Walk`. It keeps within three spreads unless bounds are given.

    `relaxation` is how long it takes to come back from a deviation (to 1/e of it): ten steps if not given.
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
        """Where the walk is cut off."""
        mean, spread, low, high = (getattr(self, key) for key in ("mean", "spread", "low", "high"))
        lowest = max(0.0, mean - 3 * spread) if low is None else low
        highest = min(self.quantity().maximum, mean + 3 * spread) if high is None else high
        return lowest, highest


class TimeVarying(OfQuantity, Generic[ValueT]):
    """Values that change over time: exactly one of `trace`, `uniform` and `walk`.

    The random ones are drawn anew `every` so often; without a `seed`, from the scenario's seed and the names.
    """

    trace: Annotated[tuple[tuple[Seconds, ValueT], ...], Kind("list of [time, value], or a CSV file")] | None = Field(
        default=None,
        json_schema_extra=or_file("a CSV file of time and value"),
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
        """The points of a file, whose path is relative to the scenario's own directory."""
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
    return "<time-varying>" if isinstance(value, dict | TimeVarying) else "<value>"


if TYPE_CHECKING:
    Varying: TypeAlias = ValueT | TimeVarying[ValueT]
else:
    # As `scenario_models.Drawn`.
    class Varying:
        """`Varying[Fraction]`: a fraction, or one that changes over time."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            return Annotated[value | Annotated[TimeVarying[quantity], Tag("<time-varying>")], Discriminator(_form)]


class ThrottleSpec(Strict):
    """A device that gets hot: after so long it slows down to a share of its speed, over a while, and stays there.

    [D] No source gives one curve for all devices; a straight line is the simplest that has the two figures that
    reviews of devices do give, when throttling sets in and what remains.
    """

    after: Seconds = Field(description="Time of the run at which the device begins to slow down.")
    to: PositiveFraction = Field(description="Fraction of its speed that remains in the end.")
    over: Seconds = Field(default=0.0, description="Duration of the slowdown, which is linear.")


class LinkVariationSpec(Strict):
    """How a link varies: a factor on its bandwidth (random ones are 1 % at least), and delay added to its own."""

    bandwidth: Varying[Fraction] | None = Field(
        default=None, description="Factor on the link's bandwidth; random values are at least 1 %."
    )
    delay: Varying[Seconds] | None = Field(default=None, description="Delay added to the link's own.")
