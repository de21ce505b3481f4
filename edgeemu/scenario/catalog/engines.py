"""Engines: what software runs on the devices, and what it costs beside the devices' own figures.

The data are in `engines.yaml`; every figure there has its source and a label. Knows the catalog; nothing of scenarios.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from edgeemu.scenario.catalog import Sourced, find, read_entries
from edgeemu.scenario.options import Collectives, NumberFormatName, Partials
from edgeemu.scenario.validation import Strict
from edgeemu.units import PositiveFraction, Seconds

ValueT = TypeVar("ValueT")

_COSTS = ("overhead", "remote_overhead", "message_overhead", "byte_overhead", "message_latency")
IDEAL = "ideal"  # no software at all: what is not given in a scenario is as it was before there were engines


class Choice(Strict, Generic[ValueT]):
    """Choice of an engine, with its source."""

    value: ValueT
    source: str = Field(min_length=10)


class EnginePrecision(Strict):
    """Number formats that an engine uses where a scenario gives none."""

    weights: NumberFormatName
    cache: NumberFormatName
    messages: NumberFormatName


class EngineSharding(Strict):
    """How an engine combines partial results where a scenario does not say. `collectives`: None: as its policy does."""

    collectives: Collectives | None = None
    partials: Partials = "float32"


class EngineEntry(Strict):
    """Engine: how it divides a model, its formats, what an operation and a message cost, and what rates it reaches."""

    name: str
    title: str
    policy: Choice[str]
    precision: Choice[EnginePrecision]
    sharding: Choice[EngineSharding]
    operation_overhead: Sourced[Seconds]
    message_overhead: Sourced[Seconds]
    byte_overhead: Sourced[Seconds]
    message_latency: Sourced[Seconds]
    remote_overhead: Sourced[Seconds] | None = None
    bandwidth_share: Sourced[PositiveFraction]
    compute_share: Sourced[PositiveFraction]
    one_sequence_per_node: bool = False  # whether it runs at least as many sequences at once as there are devices
    fitted_first: Literal["overhead", "remote_overhead", "message_overhead", "message_latency"] = "overhead"
    where_the_cost_of_a_message_lies: str = Field(min_length=10)

    @property
    def fitted(self) -> list[str]:
        """Keys of devices with what this software costs beside rates, in the order in which a calibration tries them.

        Few measurements cannot tell all of them apart: first comes what the engine says matters most.
        """
        message = "message_latency" if self.message_latency.value else "message_overhead"
        return list(dict.fromkeys([self.fitted_first, message, "overhead"]))

    def device_figure(self, field: str) -> float:
        """Figure that a device has under this engine if neither its scenario nor its profile says one; else 0."""
        if field not in _COSTS:
            return 0.0
        figure: Sourced[float] | None = getattr(self, "operation_overhead" if field == "overhead" else field)
        return figure.value if figure is not None else 0.0

    def share(self, field: str) -> float:
        """Share of a catalog profile's figure that is reached; 1 for figures that no engine changes."""
        shares = {"gflops": self.compute_share, "mem_bandwidth": self.bandwidth_share}
        return shares[field].value if field in shares else 1.0

    def fill(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A scenario's data with this engine's policy, formats and collectives where it has none of its own."""
        filled = dict(data)
        if filled.get("policy") is None and filled.get("placement") is None:
            filled["policy"] = self.policy.value
        for key, own in (
            ("precision", self.precision.value.model_dump()),
            ("sharding", self.sharding.value.model_dump(exclude_none=True)),
        ):
            given = filled.get(key)
            if given is None or isinstance(given, dict):
                filled[key] = own | (given or {})
        return filled


@cache
def engine_entries() -> Mapping[str, EngineEntry]:
    return read_entries("engines.yaml", EngineEntry)


def engine_entry(name: str) -> EngineEntry:
    """Engine with this name. Raises `RequestError` with the nearest name."""
    return find("engine", name, engine_entries())
