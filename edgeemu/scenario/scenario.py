"""Scenario: all sections together, and the checks of one section against another. Samples nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.scenario.catalog.engines import IDEAL, EnginePrecision, engine_entries, engine_entry
from edgeemu.scenario.devices import MAX_DEVICES, DeviceSpec
from edgeemu.scenario.distributions import Seed
from edgeemu.scenario.document import Document, Position, field_name, position_of
from edgeemu.scenario.events import EventSpec
from edgeemu.scenario.files import absolute, base_of, or_file
from edgeemu.scenario.model import ModelSpec
from edgeemu.scenario.names import KindName, Name
from edgeemu.scenario.network import LinkOverride, NetworkSpec
from edgeemu.scenario.options import (
    CostSpec,
    DecisionSpec,
    Knowledge,
    MigrationSpec,
    Objective,
    PrecisionSpec,
    ShardingSpec,
    TimeSpec,
)
from edgeemu.scenario.placement import PlacementSpec
from edgeemu.scenario.validation import FirstErrorOfMany, Strict, at
from edgeemu.scenario.workload import Workload
from edgeemu.topologies import LINK_RULES, End
from edgeemu.units import Joules


class Scenario(Strict):
    """Complete scenario. Two scenarios are equal if they have equal content, wherever they were read."""

    name: Name = Field(description="Name of the run in its directory and tables.")
    description: str = Field(default="", description="Text for readers.")
    seed: Seed = Field(
        default=0, description="Seed of all random values: devices, links, jitter, loss and random prompts."
    )
    model: ModelSpec = Field(description="Model whose tokens are generated.")
    engine: str = Field(
        default=IDEAL,
        description="Software on the devices (`edgeemu engines`): what an operation and a message cost, what rates are "
        "reached, and the policy, formats and collectives where none are given here. `ideal` costs nothing.",
    )
    precision: PrecisionSpec = Field(
        default=PrecisionSpec(),
        description="Number formats of weights, caches and messages; what is not given is the engine's.",
    )
    devices: Annotated[tuple[DeviceSpec, ...], Field(min_length=1), FirstErrorOfMany()] = Field(
        description="Devices of the cluster: at least one, at most 10,000 with counts."
    )
    source: Name | None = Field(
        default=None,
        description="Device where prompts arrive; the first device if none is named. Systems with a source or starter "
        "device keep the embedding there.",
    )
    network: NetworkSpec = Field(
        default=NetworkSpec(), description="Links between the devices. A single device needs none."
    )
    events: Annotated[tuple[EventSpec, ...], FirstErrorOfMany()] = Field(
        default=(), description="Changes of devices and links at given instants or tokens."
    )
    policy: str = Field(
        default="lookahead",
        min_length=1,
        description="Policy that places blocks: a name that `edgeemu policies` lists, that of an installed package, or "
        "FILE.py:NAME, which needs `--trust`. `--policy` overrides it. With a `placement`, the default is `given`, "
        "else the engine's.",
    )
    placement: Annotated[
        PlacementSpec | None,
        Field(json_schema_extra=or_file("YAML file with `placement:`, as `edgeemu plan --yaml` prints it.")),
        KindName("[placement](#placement) or a file"),
    ] = Field(default=None, description="Placement by hand, which the policy `given` keeps for the whole run.")
    objective: Objective = Field(
        default="latency",
        description="Optimization goal of policies that support it, and sort key of `edgeemu compare`.",
    )
    energy_budget: Joules | None = Field(
        default=None, description="Energy per token of all devices together. A placement that needs more is rejected."
    )
    knowledge: Knowledge = Field(
        default="measured",
        description="Information that a policy gets: `measured` by the devices, or the true state of the instant "
        "(`oracle`).",
    )
    decisions: DecisionSpec = Field(default=DecisionSpec(), description="When the policy is asked again.")
    migration: MigrationSpec = Field(default=MigrationSpec(), description="How blocks move between devices.")
    cost: CostSpec = Field(default=CostSpec(), description="Costs of blocks and messages.")
    sharding: ShardingSpec = Field(
        default=ShardingSpec(), description="How devices that share a layer combine their partial results."
    )
    workload: Workload = Field(description="Prompts and the generation of their sequences.")
    time: TimeSpec = Field(default=TimeSpec(), description="Relation of the wall clock to emulated time.")

    _document: Document | None = PrivateAttr(None)
    _formats_of_engine: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _given_by_default(cls, data: Any) -> Any:
        """Let the policy be `given` where there is a placement and no policy is named; else ask the engine."""
        if not isinstance(data, dict):
            return data
        if data.get("placement") is not None and "policy" not in data:
            data = {**data, "policy": "given"}
        engine = data.get("engine", IDEAL)
        known = isinstance(engine, str) and engine != IDEAL and engine in engine_entries()
        return engine_entry(engine).fill(data) if known else data

    @field_validator("engine")
    @classmethod
    def _in_catalog(cls, engine: str) -> str:
        return engine_entry(engine).name

    @field_validator("policy")
    @classmethod
    def _absolute(cls, policy: str, info: ValidationInfo) -> str:
        """Make the file of a policy absolute. It need not be there: another policy can be asked."""
        path, suffix, attribute = policy.rpartition(".py")
        return (
            f"{absolute(path + suffix, base_of(info))}{attribute}" if suffix and attribute[:1] in ("", ":") else policy
        )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for position, message in self._contradictions():
            raise at(list(position), message)
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scenario):
            return NotImplemented
        return all(getattr(self, key) == getattr(other, key) for key in type(self).model_fields)

    def __getstate__(self) -> dict[Any, Any]:
        """Pickle the content, and what is known from the text that it was read from, which stays behind."""
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_document": None}
        return state | {"__pydantic_private__": private}

    def read_from(self, document: Document) -> Self:
        """Note the text that the scenario was read from, and what only that tells; return it."""
        self._document = document
        given = document.data.get("precision") or {}
        chosen = {key: str(getattr(self.precision, key)) for key in EnginePrecision.model_fields if key not in given}
        self._formats_of_engine = {key: name for key, name in chosen.items() if name != "f32"}
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with some fields replaced, without validation; what was computed from the fields is computed again."""
        copied = super().model_copy(update=update, deep=deep)
        for name, member in vars(Scenario).items():
            if isinstance(member, cached_property):
                copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def device_names(self) -> tuple[str, ...]:
        """Names of all devices, counts expanded, in order."""
        return tuple(name for device in self.devices for name in device.device_names)

    @property
    def formats_of_engine(self) -> dict[str, str]:
        """Number formats other than float32 that the engine chose where the scenario gives none, by `precision` key."""
        return self._formats_of_engine

    @property
    def source_index(self) -> int:
        """Index of the device where prompts arrive."""
        return 0 if self.source is None else self.device_names.index(self.source)

    def members(self, name: str) -> range:
        """Indexes of the devices with this name: one, or several with a count; none if there is no such name."""
        return self._members.get(name, range(0))

    def ends(self, name: str) -> Sequence[End]:
        """The ends of links that a name stands for: the access point, or the devices of `members`."""
        return (None,) if name == self.network.access_point else self.members(name)

    def is_set(self, field: str) -> bool:
        """Whether a field was set on the command line (`--set`), and not by the file."""
        return self._document is not None and position_of(field) in self._document.overrides

    def error(self, field: str, message: str) -> RequestError:
        """Error about a field of this scenario (`devices[2].memory`), with its file and line."""
        return self.error_at(position_of(field), message)

    def error_at(self, position: Position, message: str) -> RequestError:
        """Error about the value at a position of this scenario, with its file and line."""
        if self._document is None:
            return RequestError(message, field=field_name(position))
        return self._document.error(position, message)

    @cached_property
    def _members(self) -> dict[str, range]:
        found: dict[str, range] = {}
        first = 0
        for device in self.devices:
            found[device.name] = range(first, first + device.count)
            first += device.count
        return {name: range(n, n + 1) for n, name in enumerate(self.device_names)} | found

    def _contradictions(self) -> Iterator[tuple[Position, str]]:
        """Contradictions between sections, each with the position of its field."""
        n_devices = sum(device.count for device in self.devices)
        if n_devices > MAX_DEVICES:
            yield ("devices",), f"{n_devices} devices; at most {MAX_DEVICES} are supported"
            return
        named = Counter(self.device_names) + Counter(spec.name for spec in self.devices if spec.count > 1)
        for n, device in enumerate(self.devices):
            twice = next((name for name in [device.name, *device.device_names] if named[name] > 1), None)
            if twice is not None:
                yield ("devices", n, "name"), f'there are two devices named "{twice}"'
        if self.network.default is None and n_devices > 1:
            yield ("network", "default"), "is missing (the link between any two devices)"
        if self.network.access_point in named:
            position = ("network", "star", "access_point")
            yield position, f'"{self.network.access_point}" is a device too; give the access point a name'
        if self.source is not None and self.source not in self.device_names:
            yield ("source",), self._no_device(self.source)
        for n, link in enumerate(self.network.links):
            yield from self._link_contradictions(("network", "links", n), link)
        yield from self._wired_contradictions()
        if self.decisions.on is not None and self.decisions.on not in self.device_names:
            yield ("decisions", "on"), self._no_device(self.decisions.on)
        if self.decisions.on is not None and self.decisions.time != "measured":
            yield ("decisions", "on"), "scales what is measured: give time: measured, or leave it out"
        if self.decisions.threshold and self.knowledge == "oracle":
            yield ("decisions", "threshold"), "is for what is measured; an oracle is asked always (knowledge: measured)"
        for n, event in enumerate(self.events):
            yield from self._event_contradictions(("events", n), event)
        if self.precision.weights == "file" and (self.model.is_seeded or self.model.directory is not None):
            yield ("precision", "weights"), "file is for a model from a GGUF file (model: {gguf: FILE})"
        if self.precision.hold == "expanded" and self.precision.weights == "f32":
            yield ("precision", "hold"), "is for weights in another format; f32 has nothing to expand"
        if self.cost.formulas == "literal" and self.precision != PrecisionSpec():
            yield ("precision",), "is for physical costs; literal ones have value_bytes"
        if self.placement is not None:
            yield from self._placement_contradictions(self.placement)

    def _placement_contradictions(self, placement: PlacementSpec) -> Iterator[tuple[Position, str]]:
        for position, name in placement.devices():
            found = [self.device_names[i] for i in self.members(name)]
            if len(found) > 1:
                yield ("placement", *position), f'"{name}" is {len(found)} devices; name one, {found[0]} to {found[-1]}'
            elif not found:
                yield ("placement", *position), self._no_device(name)

    def _link_contradictions(self, position: Position, link: LinkOverride) -> Iterator[tuple[Position, str]]:
        keys: tuple[Position, Position] = (("between", 0), ("between", 1)) if link.between else (("from",), ("to",))
        yield from self._ends_contradictions(position, keys, link.ends)

    def _event_contradictions(self, position: Position, event: EventSpec) -> Iterator[tuple[Position, str]]:
        if event.device is not None and not self.members(event.device):
            yield (*position, "device"), self._no_device(event.device)
        tokens = self.workload.prompts[0].max_tokens or self.workload.max_tokens
        if event.at_token is not None and event.at_token >= tokens:
            yield (
                (*position, "at_token"),
                f"{event.at_token} never comes: the first sequence has {tokens} tokens, 0 to {tokens - 1}",
            )
        if event.link is not None:
            yield from self._ends_contradictions(position, (("link", 0), ("link", 1)), (event.link[0], event.link[1]))

    def _ends_contradictions(
        self, position: Position, keys: tuple[Position, Position], ends: tuple[str, str]
    ) -> Iterator[tuple[Position, str]]:
        point = self.network.access_point
        for key, end in zip(keys, ends, strict=True):
            if not self.members(end) and end != point:
                yield (*position, *key), self._no_device(end)
                return
        (a, b), rule = ends, LINK_RULES[self.network.topology]
        if not any(rule.joined(i, j) for i in self.ends(a) for j in self.ends(b)):
            yield position, rule.refusal.format(a=a, b=b, access_point=point)

    def _wired_contradictions(self) -> Iterator[tuple[Position, str]]:
        star = self.network.star
        for n, name in enumerate(star.wired if star else ()):
            position: Position = ("network", "star", "wired", n)
            if not self.members(name):
                yield position, self._no_device(name)
                return
            with_link = {i for link in self.network.links for end in link.ends for i in self.members(end)}
            without = [i for i in self.members(name) if i not in with_link]
            if without and star:
                ends = f"{self.device_names[without[0]]}, {star.access_point}"
                yield position, f"a wired device needs a link: add links: [{{between: [{ends}], type: ethernet-1g}}]"

    def _no_device(self, name: str) -> str:
        point = self.network.access_point
        known = [*self._members, *([point] if point else [])]
        return f'there is no device "{name}"{did_you_mean(name, known)}'
