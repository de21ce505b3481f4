"""Quantities with units: parsing, printing, and a suggestion for a text that is not one. Knows no particular unit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, localcontext
from fractions import Fraction as Rational
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgeemu.errors import RequestError, nearest

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"
_MAX_LENGTH = 100  # of a text that is one quantity: longer ones have no meaning, and exact arithmetic would take long
_TEXT = re.compile(rf"\s*({_NUMBER})\s*(.*?)\s*", re.ASCII)


class UnitError(RequestError, ValueError):
    """Raised for a text that is not the quantity asked for. A `ValueError` too, which pydantic handles."""


@dataclass(frozen=True, eq=False)  # hashed by identity: `Annotated` needs that
class Quantity:
    """Kind of physical value: its noun, its units (factor to the base unit) and its bounds.

    `units` maps each unit that is printed to its factor, smallest first, the base unit (factor 1) among them;
    `aliases` maps other spellings to those. `whole` values are integers. A bare number is accepted where it
    is zero, or where `bare` says that it can only mean one thing.
    """

    noun: str
    units: Mapping[str, Rational]
    aliases: Mapping[str, str]
    example: str
    whole: bool = False
    bare: bool = False
    minimum: float = 0.0
    positive: bool = False
    below: float = math.inf  # values must be less than this …
    why_below: str = ""  # what is wrong with this value
    mistaken: Mapping[str, Rational] = field(default_factory=dict)  # units taken for these, with what they are really
    maximum: float = math.inf  # … and at most this

    @property
    def kind(self) -> str:
        """Noun without its article."""
        return self.noun.partition(" ")[2]

    def parse(self, value: object) -> float | int:
        """Parse a text to a value in base units. Raises `UnitError`, which says what was probably meant."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._refusal(value)
        number, unit = self._split(value)
        factor = self._factor(value, number, unit)
        exact = Rational(number) * factor
        result = self._rounded(value, exact, factor)
        self._check_bounds(value, result)
        return result

    def exact(self, text: str) -> Rational:
        """Parse a text to its exact value in base units, at least zero. Raises `UnitError`."""
        number, unit = self._split(text)
        exact = Rational(number) * self._factor(text, number, unit)
        if exact < 0:
            raise UnitError(f"{_shown(text)} is negative; {self.noun} cannot be")
        if math.isinf(_nearest_float(exact)):
            raise UnitError(f"{_shown(text)} is too large")
        return exact

    def format_exact(self, value: float) -> str:
        """Format a value as the shortest text, in the best unit, that `parse` reads back to the same bits."""
        if self.bare:
            return repr(value)
        handy = [unit for unit, factor in self._divisors.items() if 1 <= value / factor < self._too_many]
        texts = [text for unit in handy if (text := self._in_unit(value, unit)) is not None]
        if not texts:
            return f"{value!r} {self.base}".replace(".0 ", " ")
        return min(texts, key=self._awkwardness) if len(texts) > 1 else texts[0]

    def format_human(self, value: float, digits: int = 3) -> str:
        """Format a value with about `digits` significant digits, in the largest unit that gives at least 1."""
        if self.bare:
            return f"{100 * value:.{digits}g} %"
        shown = {u: factor for u, factor in self.units.items() if (u in _BINARY if self.whole else "iB" not in u)}
        smallest = min(shown, key=shown.__getitem__)
        unit = max((u for u in shown if shown[u] <= abs(value)), key=shown.__getitem__, default=smallest)
        if value == 0 or not math.isfinite(value):
            unit = self.base
        scaled = value / float(self.units[unit])
        if scaled.is_integer() and scaled < 1e6:
            return f"{int(scaled)} {unit}"
        before_point = len(str(int(scaled))) if abs(scaled) < 1e6 else 0
        number = f"{scaled:.{max(0, digits - before_point)}f}" if before_point else f"{scaled:.{digits}g}"
        return f"{number} {unit}"

    def above_zero(self) -> Quantity:
        """Quantity with the same units that refuses zero."""
        return replace(self, positive=True)

    def _split(self, value: str | int | float) -> tuple[str, str]:
        if isinstance(value, str):
            if len(value) > _MAX_LENGTH:
                raise UnitError(f"{_shown(value)} is not {self.noun} (too long)")
            match = _TEXT.fullmatch(value)
            if match is None:
                raise self._refusal(value)
            return match[1], match[2]
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refusal(value)
        return repr(value), ""

    def _factor(self, value: object, number: str, unit: str) -> Rational:
        name = self.aliases.get(unit, unit)
        if name in self.units:
            return self.units[name]
        if unit == "" and (self.bare or Rational(number) == 0):
            return Rational(1)
        if unit == "":
            raise self._refusal(value, "no unit; ")
        meant = self._meant(number, unit)
        if meant is None:
            raise self._refusal(value)
        raise UnitError(f'{_shown(value)} is not {self.noun} (did you mean "{meant}"?)')

    def _refusal(self, value: object, why: str = "") -> UnitError:
        return UnitError(f'{_shown(value)} is not {self.noun} ({why}write e.g. "{self.example}")')

    def _meant(self, number: str, unit: str) -> str | None:
        """Text that was probably meant: bytes for bits or bits for bytes, a stray or missing `/s`, another case."""
        known = [*self.units, *self.aliases]
        for guess in (unit, unit.removesuffix("/s"), f"{unit}/s", unit.removesuffix("ps") + "/s", f"{unit}B"):
            if guess in self.mistaken:
                exact = Rational(number) * self.mistaken[guess]
                return self.format_exact(round(exact) if self.whole else _nearest_float(exact))
            for same in (str.__eq__, lambda a, b: a.casefold() == b.casefold()):
                found = next((name for name in known if same(name, guess)), None)
                if found is not None:
                    return f"{number} {self.aliases.get(found, found)}"
        found = nearest(unit, known) if len(unit) > 2 else None
        return f"{number} {self.aliases.get(found, found)}" if found is not None else None

    def _rounded(self, value: object, exact: Rational, factor: Rational) -> float | int:
        if self.whole:
            if exact.denominator != 1 and factor == 1:
                raise UnitError(f"{_shown(value)} is not a whole number of bytes")
            if exact >= 2**63:
                raise UnitError(f"{_shown(value)} is too large")
            return round(exact)
        result = _nearest_float(exact)
        if math.isinf(result):
            raise UnitError(f"{_shown(value)} is too large")
        return result

    def _check_bounds(self, value: object, result: float) -> None:
        if result < self.minimum:
            raise UnitError(f"{_shown(value)} is negative; {self.noun} cannot be")
        if self.positive and result == 0:
            raise UnitError(f"{_shown(value)} must be more than zero")
        if result >= self.below or result > self.maximum:
            bound = f"less than {self.below:g}" if self.below < math.inf else f"at most {self.maximum:g}"
            percent = (
                isinstance(value, int | float)
                and value < 1e3
                and value / 100 < self.below
                and value / 100 <= self.maximum
            )
            meant = f' (did you mean "{value:g} %"?)' if percent else ""
            why = f": {self.why_below}" if self.why_below and result == self.below else ""
            raise UnitError(f"{_shown(value)} must be {bound}{meant or why}")

    @cached_property
    def base(self) -> str:
        """Unit whose factor is 1."""
        return next(unit for unit, factor in self.units.items() if factor == 1)

    @cached_property
    def _divisors(self) -> dict[str, Rational | float]:
        """Factors to divide by: a fraction divides a float by its own nearest float, only slower."""
        return {unit: factor if self.whole else float(factor) for unit, factor in self.units.items()}

    @cached_property
    def _powers(self) -> dict[str, int | None]:
        return {unit: None if self.whole else _power_of_ten(factor) for unit, factor in self.units.items()}

    @property
    def _too_many(self) -> int:
        return 1024 if self.whole else 1000

    def _in_unit(self, value: float, unit: str) -> str | None:
        """Number of `value` in `unit`, with the fewest digits that read back exactly; None where 18 do not."""
        factor = self.units[unit]
        if (power := self._powers[unit]) is not None:
            return f"{_plain(Decimal(repr(float(value))).scaleb(-power))} {unit}"  # a double's shortest digits, moved
        scaled = Rational(value) / factor
        for digits in (3, 15, 16, 17, 18):  # 15 recover any decimal that a double can hold
            number = _decimal(scaled, digits)
            back = Rational(number) * factor
            if (round(back) if self.whole else _nearest_float(back)) == value:
                return f"{number} {unit}"
        return None

    def _awkwardness(self, text: str) -> tuple[int, int]:
        digits = text.split()[0].replace(".", "").strip("0")
        return len(digits), len(text)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(self._serialise, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        units = "|".join(re.escape(name) for name in (*self.units, *self.aliases))
        text = {
            "type": "string",
            "pattern": rf"^\s*{_NUMBER}\s*({units}){'?' if self.bare else ''}\s*$",
            "examples": [self.example],
        }
        if self.bare:
            bounds: dict[str, Any] = {"type": "number", "minimum": 0}
            bounds |= {"maximum": self.maximum} if self.maximum < math.inf else {}
            bounds |= {"exclusiveMaximum": self.below} if self.below < math.inf else {}
            return {"anyOf": [bounds, text]}
        return text if self.positive else {"anyOf": [text, {"const": 0}]}

    def _serialise(self, value: float) -> str | float:
        return value if self.bare else self.format_exact(value)


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None:
        return "nothing"
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{value}"' if len(value) <= _MAX_LENGTH else f'"{value[:40]}…"'


def _nearest_float(exact: Rational) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf


def _decimal(exact: Rational, digits: int) -> str:
    """Decimal text of `exact` with so many significant digits, without trailing zeros; plain notation if short."""
    with localcontext(prec=digits):
        return _plain(Decimal(exact.numerator) / Decimal(exact.denominator))


def _plain(number: Decimal) -> str:
    """Text of a number without trailing zeros; plain notation if short."""
    number = number.normalize()
    if number and not -7 <= number.adjusted() <= 18:
        return f"{number:e}"
    return f"{number:f}"


def _power_of_ten(factor: Rational) -> int | None:
    """Exponent of a factor that is a power of ten; None: it is none."""
    one, digits = sorted((factor.numerator, factor.denominator))
    power = len(str(digits)) - 1
    if one != 1 or digits != 10**power:
        return None
    return power if factor.denominator == 1 else -power


_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
