"""Placement as a scenario writes it by hand: layers, heads and shares by device. Knows no model: numbers are checked
against one in `run.given_placement`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from edgeemu.scenario.document import Position
from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import Shorthand, Strict, at

MAX_ENTRIES = 10_000  # of `layers`; no model has as many
_SPAN = r"\d{1,6}(-\d{1,6})?"
_SPANS = re.compile(rf"{_SPAN}(, *{_SPAN})*", re.ASCII)
_SHARE = re.compile(r"(\d{1,3}(\.\d{1,9})?) ?%|0?\.\d{1,9}|\d{1,6}/0*[1-9]\d{0,5}", re.ASCII)
_EXAMPLE = "{pi-1: 0-1, pi-2: 2} or {pi-1: 40 %, pi-2: 60 %}"


def spans(text: str) -> list[range]:
    """Ranges of numbers in a text such as `0-3, 8`. Raises ValueError."""
    if not _SPANS.fullmatch(text):
        raise ValueError(f'"{text[:100]}" is neither a number nor a range such as 0-3, nor several (0-3, 8)')
    found = []
    for span in text.split(","):
        first, _, last = span.strip().partition("-")
        found.append(range(int(first), int(last or first) + 1))
        if not found[-1]:
            raise ValueError(f"{span.strip()} runs backwards; write {last}-{first}")
    return found


def number_text(numbers: Iterable[int]) -> str:
    """Text of ascending numbers, the inverse of `spans`: `0-3, 8`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def share(text: str) -> Fraction | None:
    """The fraction that `40 %`, `0.4` or `2/5` means; None: it is no share."""
    if not _SHARE.fullmatch(text):
        return None
    return Fraction(text.rstrip(" %")) / 100 if text.endswith("%") else Fraction(text)


def _part(given: Any) -> str:
    """A device's part of a layer as text: numbers, or a share. Raises ValueError."""
    items = given if isinstance(given, list) else [given]
    if not items or any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in items):
        raise ValueError("is neither numbers (2, or 0-3, or [0, 2-3]) nor a share (40 %, or 26/64)")
    text = ", ".join(str(item) for item in items)
    if share(text) is None:
        try:
            spans(text)
        except ValueError as error:
            raise ValueError(f"{error}, nor a share (40 %, or 26/64)") from None
    return text


def _holders(given: Any) -> Any:
    """Check the devices of heads, projections or feed-forwards: a name, or a part for each of several."""
    if isinstance(given, str):
        return given
    if not isinstance(given, dict) or not given:
        raise ValueError(f"give a device, or what each of several holds: {_EXAMPLE}")
    found = {}
    for device, part in given.items():
        try:
            found[device] = _part(part)
        except ValueError as error:
            raise at([device], str(error)) from None
    return found


_PART_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "array"}]}
Holders: TypeAlias = Annotated[
    str | dict[str, Annotated[str, WithJsonSchema(_PART_SCHEMA)]],
    BeforeValidator(_holders),
    KindName("device, or part of each device"),
]


class LayerPlacement(Shorthand):
    """Devices of the blocks of one layer, or of each of several equal ones."""

    text_is: ClassVar[str] = "device"

    device: str | None = Field(default=None, description="Device of all that the other keys do not place.")
    heads: Holders | None = Field(
        default=None, description="Devices of the KV groups, each group with its heads and their caches."
    )
    proj: Holders | None = Field(
        default=None, description="Device of the projection; several hold the columns of the KV groups that they name."
    )
    ffn: Holders | None = Field(
        default=None, description="Device of the feed-forward block; several hold the units of columns that they name."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [key for key in ("heads", "proj", "ffn") if getattr(self, key) is None]
        if self.device is None and missing:
            rest = "" if len(missing) == 3 else f"; or device: DEVICE for {' and '.join(missing)}"
            raise at([missing[0]], f"is on no device: give {missing[0]}: DEVICE, or {missing[0]}: {_EXAMPLE}{rest}")
        if self.device is not None and not missing:
            raise at(["device"], "holds nothing: heads, proj and ffn have devices of their own; leave it out")
        return self

    def holders(self, kind: str) -> str | Mapping[str, str]:
        """Holders of the heads, proj or ffn: a device, or the part of each."""
        found: str | Mapping[str, str] | None = getattr(self, kind)
        return found or self.device or ""


def _few(given: Any) -> Any:
    if isinstance(given, dict) and len(given) > MAX_ENTRIES:
        raise ValueError(f"has more than {MAX_ENTRIES:,} entries")
    return given


class PlacementSpec(Strict):
    """Placement of all blocks of a model, each on one device: both ends of the model, and its layers."""

    @model_validator(mode="before")
    @classmethod
    def _no_list(cls, data: Any) -> Any:
        if isinstance(data, list):
            raise ValueError("write embed: DEVICE, lm_head: DEVICE and layers: {0-11: DEVICE, …}, not a list")
        return data

    embed: str = Field(description="Device of the embedding.")
    lm_head: str = Field(
        description="Device of the final norm and the output matrix. Where a model ties it to the embedding, one "
        "device for both needs the matrix once."
    )
    layers: Annotated[
        dict[str, LayerPlacement],
        BeforeValidator(_few),
        KindName("[layers](#layers) or a device, by numbers"),
    ] = Field(
        description="Devices of the layers, by their numbers: `0-11`, `12`, `0-3, 8`. Each layer is in one entry."
    )

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        for key in self.layers:
            try:
                spans(key)
            except ValueError as error:
                raise at(["layers", key], str(error)) from None
        return self

    def devices(self) -> Iterator[tuple[Position, str]]:
        """All devices that are named, each with its position."""
        yield ("embed",), self.embed
        yield ("lm_head",), self.lm_head
        for key, layer in self.layers.items():
            if layer.device is not None:
                yield ("layers", key, "device"), layer.device
            for kind in ("heads", "proj", "ffn"):
                holders: str | Mapping[str, str] = getattr(layer, kind) or {}
                for device in [holders] if isinstance(holders, str) else holders:
                    position: Position = ("layers", key, kind)
                    yield position if isinstance(holders, str) else (*position, device), device
