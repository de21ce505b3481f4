"""Scenario: all sections together. Samples nothing."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from edgeemu.errors import RequestError
from edgeemu.scenario.catalog.engines import IDEAL, EnginePrecision, engine_entries, engine_entry
from edgeemu.scenario.contradictions import contradictions
from edgeemu.scenario.devices import DeviceSpec
from edgeemu.scenario.distributions import Seed
from edgeemu.scenario.document import Document, Position, field_name, position_of
from edgeemu.scenario.events import EventSpec
from edgeemu.scenario.fault_contradictions import fault_contradictions
from edgeemu.scenario.faults import FaultSpec
from edgeemu.scenario.files import absolute, base_of, or_text
from edgeemu.scenario.model import ModelSpec
from edgeemu.scenario.names import KindName, Name
from edgeemu.scenario.network import NetworkSpec
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
from edgeemu.scenario.recovery import RecoverySpec, with_recovery
from edgeemu.scenario.validation import FirstErrorOfMany, Strict, at
from edgeemu.scenario.workload import Workload
from edgeemu.topologies import End
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
    faults: Annotated[tuple[FaultSpec, ...], FirstErrorOfMany()] = Field(
        default=(), description="Failures of devices and links, at given instants or tokens or at random."
    )
    recovery: RecoverySpec = Field(
        default=RecoverySpec(),
        description="What a run does when devices are lost. `reprefill` where there are `faults`, else `none`.",
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
        Field(json_schema_extra=or_text("YAML file with `placement:`, as `edgeemu plan --yaml` prints it.")),
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
        """Choose what is not given: the policy by the placement and the engine, and recovery by the faults."""
        if not isinstance(data, dict):
            return data
        if data.get("placement") is not None and "policy" not in data:
            data = {**data, "policy": "given"}
        data = with_recovery(data)
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
        for position, message in chain(contradictions(self), fault_contradictions(self)):
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

    @property
    def names(self) -> tuple[str, ...]:
        """Names that an end of a link can have: those of devices, those that stand for several, the access point's."""
        point = self.network.access_point
        return (*self._members, *([point] if point else []))

    def members(self, name: str) -> range:
        """Indexes of the devices with this name: one, or several with a count; none if there is no such name."""
        return self._members.get(name, range(0))

    def ends(self, name: str) -> Sequence[End]:
        """The ends of links that a name stands for: the access point, or the devices of `members`."""
        return (None,) if name == self.network.access_point else self.members(name)

    def end_name(self, end: End) -> str:
        """Return the name of an end of links."""
        return self.network.access_point or "" if end is None else self.device_names[end]

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
