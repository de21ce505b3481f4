"""Distributions that random values are sampled from."""

from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeAlias, TypeVar, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from edgeemu.quantity import Quantity
from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import Strict, at, exactly_one_of

ValueT = TypeVar("ValueT")

_SEED_LIMIT = 2**63

Seed = Annotated[int, Field(strict=True, ge=0, lt=_SEED_LIMIT), KindName("seed")]


class OfQuantity(Strict):
    """Generic model that is named after its quantity."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Name of the model in the JSON schema."""
        quantity = _quantity(params[0])
        return f"{cls.__name__} of {quantity.noun if quantity else params[0]}"

    @classmethod
    def quantity(cls) -> Quantity:
        """Quantity of the model's values."""
        found = _quantity(cls.__pydantic_generic_metadata__["args"][0])
        assert found is not None
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name: a model that a type parameter has made is no attribute of its module."""
        generic = type(self).__pydantic_generic_metadata__["origin"]
        return _unpickled, (generic, type(self).__name__, dict(self))


def _unpickled(generic: type[OfQuantity], name: str, fields: dict[str, Any]) -> OfQuantity:
    kind = next(kind for kind in generic.__subclasses__() if kind.__name__ == name)
    return kind.model_construct(**fields)


def _quantity(annotated: Any) -> Quantity | None:
    return next((arg for arg in get_args(annotated) if isinstance(arg, Quantity)), None)


class Range(OfQuantity, Generic[ValueT]):
    """Range from `low` to `high`, both included."""

    low: ValueT = Field(description="Lower end of the range.")
    high: ValueT = Field(description="Upper end of the range; not less than `low`.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:  # type: ignore[operator]  # every ValueT is a number
            raise at(["high"], "is less than low")
        return self


class Distribution(OfQuantity, Generic[ValueT]):
    """Distribution of random values: exactly one of `lognormal` and `uniform`."""

    lognormal: Range[ValueT] | None = Field(
        default=None,
        description="Log-normal distribution with median √(low × high): `low` and `high` are two standard deviations of"
        " the logarithm from it, and values outside are sampled again.",
    )
    uniform: Range[ValueT] | None = Field(default=None, description="Uniform distribution from `low` to `high`.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        exactly_one_of(self, "lognormal", "uniform")
        if self.lognormal is not None and self.lognormal.low == 0:
            raise at(["lognormal", "low"], "must be more than zero")
        return self


def _form(value: Any) -> str:
    """Tag of the member of a `MaybeRandom` union that a value belongs to."""
    return "<random>" if isinstance(value, dict | Distribution) else "<value>"


def _form_or_word(value: Any) -> str:
    """Tag of the member of a `MaybeRandomOrUnlimited` union that a value belongs to."""
    return "<word>" if value == "unlimited" else _form(value)


if TYPE_CHECKING:
    MaybeRandom: TypeAlias = ValueT | Distribution[ValueT]
    MaybeRandomOrUnlimited: TypeAlias = ValueT | Distribution[ValueT] | Literal["unlimited"]
else:
    # Not an alias with a type variable: pydantic's generic classes lose theirs inside one.
    class MaybeRandom:
        """Type of a value or a distribution: `MaybeRandom[Bytes]` is a size or a distribution of sizes."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            drawn = Annotated[Distribution[quantity], Tag("<random>")]
            return Annotated[value | drawn, Discriminator(_form)]

    class MaybeRandomOrUnlimited:
        """Type of a value, a distribution, or the word `unlimited`."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            drawn = Annotated[Distribution[quantity], Tag("<random>")]
            word = Annotated[Literal["unlimited"], Tag("<word>")]
            return Annotated[value | drawn | word, Discriminator(_form_or_word)]
