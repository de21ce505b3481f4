"""Reference of all scenario keys: kind, default and meaning of each, from the models of the schema.

`edgeemu schema` and the tables of docs/scenario.md are made from it. Knows the models; reads no scenario.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from edgeemu.quantity import Quantity
from edgeemu.scenario.catalog.shapes import RopeScalingFields, ShapeFields
from edgeemu.scenario.devices import DeviceSpec, PowerSpec
from edgeemu.scenario.distributions import Distribution, Range
from edgeemu.scenario.events import EventSpec
from edgeemu.scenario.faults import FaultSpec
from edgeemu.scenario.model import ModelSpec
from edgeemu.scenario.names import KindName
from edgeemu.scenario.network import DefaultLink, LinkEnergySpec, LinkOverride, NetworkSpec, StarSpec
from edgeemu.scenario.options import CostSpec, DecisionSpec, MigrationSpec, PrecisionSpec, ShardingSpec, TimeSpec
from edgeemu.scenario.placement import LayerPlacement, PlacementSpec
from edgeemu.scenario.recovery import HeartbeatSpec, RecoverySpec
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.time_varying import LinkVariationSpec, ThrottleSpec, TimeVarying, WalkSpec
from edgeemu.scenario.traces import PacketTrace
from edgeemu.scenario.validation import Shorthand
from edgeemu.scenario.workload import ArrivalsSpec, LatencyTarget, PoissonSpec, Prompt, SamplingSpec, Workload

# Headings of docs/scenario.md, each with the model whose keys its table lists.
SECTIONS: dict[str, type[BaseModel]] = {
    "Random values": Distribution,
    "low and high": Range,
    "The scenario": Scenario,
    "model": ModelSpec,
    "shape": ShapeFields,
    "rope_scaling": RopeScalingFields,
    "precision": PrecisionSpec,
    "devices": DeviceSpec,
    "power": PowerSpec,
    "throttle": ThrottleSpec,
    "network": NetworkSpec,
    "star": StarSpec,
    "links": LinkOverride,
    "packets": PacketTrace,
    "energy": LinkEnergySpec,
    "variation": LinkVariationSpec,
    "Time-varying values": TimeVarying,
    "walk": WalkSpec,
    "events": EventSpec,
    "faults": FaultSpec,
    "recovery": RecoverySpec,
    "heartbeat": HeartbeatSpec,
    "placement": PlacementSpec,
    "layers": LayerPlacement,
    "decisions": DecisionSpec,
    "migration": MigrationSpec,
    "cost": CostSpec,
    "sharding": ShardingSpec,
    "workload": Workload,
    "prompts": Prompt,
    "arrivals": ArrivalsSpec,
    "poisson": PoissonSpec,
    "latency_target": LatencyTarget,
    "sampling": SamplingSpec,
    "time": TimeSpec,
}
_PRIMITIVES = {str: "text", int: "whole number", float: "number", bool: "true, false", Path: "path"}


class Key(NamedTuple):
    """One key of a section. `kind` and `default` are texts as the tables show them, with links to sections."""

    name: str
    kind: str
    example: str  # of a quantity with its unit; "" for other kinds
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class _KindText:
    """Kind of a value, and whether a distribution or a variation over time can stand in its place."""

    text: str
    example: str = ""
    random: bool = False
    time_varying: bool = False


def keys(model: type[BaseModel]) -> Iterator[Key]:
    """The keys of one section: those of its own model, then those that it inherits."""
    own = [name for name in model.model_fields if name in model.__annotations__]
    for name in dict.fromkeys([*own, *model.model_fields]):
        field = model.model_fields[name]
        kind = _kind(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
        text = kind.text + (", random" if kind.random else "") + (", time-varying" if kind.time_varying else "")
        default = "the file's name" if (model, name) == (Scenario, "name") else default_text(field)
        yield Key(field.alias or name, text, kind.example, default, field.description or "")


def scenario_json_schema() -> dict[str, Any]:
    """A JSON Schema of scenario files, in which every key has its meaning, kind and default."""
    text = json.dumps(Scenario.model_json_schema(mode="validation"))
    for name, definition in json.loads(text)["$defs"].items():
        if " of " in definition.get("title", ""):  # a generic class: pydantic's own name for it is long
            short = definition["title"].replace(" ", "-")
            text = text.replace(f'"{name}"', f'"{short}"').replace(f'/{name}"', f'/{short}"')
    schema: dict[str, Any] = json.loads(text)
    schema["required"] = [key for key in schema["required"] if key != "name"]  # the file's name will do
    models: dict[str, type[BaseModel]] = {model.__name__: model for model in SECTIONS.values()}
    models["DefaultLink"] = DefaultLink
    for definition in (schema, *schema["$defs"].values()):
        for form in (definition, *definition.get("anyOf", ())):
            if "properties" in form:
                _describe(form["properties"], models[form["title"].partition(" of ")[0]])
    return schema


def _describe(properties: dict[str, Any], model: type[BaseModel]) -> None:
    for key in keys(model):
        kind = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", key.kind)
        example = f' (such as "{key.example}")' if key.example else ""
        properties[key.name]["description"] = (
            f"{key.meaning} Kind: {kind}{example}. Default: {key.default.replace('–', 'none')}."
        )


def table(model: type[BaseModel]) -> str:
    """Table of a section in Markdown."""
    rows = [f"| `{key.name}` | {key.kind} | {key.default} | {key.meaning} |" for key in keys(model)]
    return "\n".join(["| key | kind | default | meaning |", "| --- | --- | --- | --- |", *rows, ""])


def default_text(field: FieldInfo) -> str:
    """Default of a key: "required" if it has none, "–" for nothing, "see below" for a section."""
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value in ((), ""):
        return "–"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return str(value).lower()
    alternatives = chain.from_iterable(get_args(alternative)[1:] for alternative in get_args(field.annotation))
    metadata = chain(field.metadata, alternatives if isinstance(value, float) else ())
    quantity = next((found for found in metadata if isinstance(found, Quantity)), None)
    return quantity.format_exact(value) if quantity and not quantity.bare else str(value)


def _kind(annotation: Any) -> _KindText:
    """Kind of the values of a type: a quantity's noun, a list of words, or links to sections."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for found in reversed(arguments[1:]):
            if isinstance(found, KindName):
                return _KindText(found.text)
            if isinstance(found, Quantity):
                return _KindText(found.kind, found.example)
        return _kind(arguments[0])
    if origin in (Union, UnionType):
        return _either([_kind(argument) for argument in arguments if argument is not NoneType])
    if origin is Literal:
        return _KindText(", ".join(f"`{word}`" if isinstance(word, str) else str(word) for word in arguments))
    if origin is tuple:
        return _KindText(f"list of {_kind(arguments[0]).text}")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _model(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _KindText(", ".join(f"`{member.value}`" for member in annotation))
    return _KindText(_PRIMITIVES.get(annotation, "as the value"))


def _model(model: type[BaseModel]) -> _KindText:
    if issubclass(model, Distribution):
        return _KindText("", random=True)
    if issubclass(model, TimeVarying):
        return _KindText("", time_varying=True)
    if issubclass(model, Range):
        return _KindText("[low, high](#low-and-high)")
    known = LinkOverride if model is DefaultLink else model
    heading = next(heading for heading, listed in SECTIONS.items() if issubclass(known, listed))
    link = f"[{heading}](#{heading.lower().replace(' ', '-')})"
    return _KindText(f"{link} or its {model.text_is}" if issubclass(model, Shorthand) else link)


def _either(kinds: list[_KindText]) -> _KindText:
    texts = list(dict.fromkeys(kind.text for kind in kinds if kind.text))
    example = next((kind.example for kind in kinds if kind.example), "")
    return _KindText(
        " or ".join(texts),
        example,
        random=any(kind.random for kind in kinds),
        time_varying=any(kind.time_varying for kind in kinds),
    )
