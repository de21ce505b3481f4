"""Facts of a run that are in none of its tables: what it was asked, what its host allowed, and how it ended.

A run writes them to `facts.json` when it starts, again when its devices are ready, and when it ends: a run that was
killed can be reported with what was known by then.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from edgeemu.errors import RequestError
from edgeemu.host.clock_watch import ClockJump
from edgeemu.host.load import HostLoad
from edgeemu.host.stopped import Standstill
from edgeemu.links.self_test import LinkTest
from edgeemu.report.basis import Basis

VERSION = 4  # of the record tables and of this file: raised when a reader of the old ones would misread the new ones
_MAX_BYTES = 2**62
Bytes = Annotated[int, msgspec.Meta(ge=0, lt=_MAX_BYTES)]
Rate = Annotated[float, msgspec.Meta(gt=0)]
Ended = Literal["done", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device as the plan has it. Watts are None where the scenario gives none, rates of one relative to this host."""

    name: str
    cap_bytes: Annotated[int, msgspec.Meta(gt=0, lt=_MAX_BYTES)]
    idle_w: float | None
    busy_w: float | None
    reserved_bytes: Bytes = 0  # that its system keeps beside
    flops_per_s: Rate | None = None  # at most, and without other load
    mem_bytes_per_s: Rate | None = None


@dataclass(frozen=True, slots=True)
class RadioEnergy:
    """Energy of all that devices sent, relayed and received; None for a device with a link of unknown energy."""

    by_device_j: list[float | None]  # in the order of the devices
    missing: str  # the links of unknown energy, and what to do; empty where there are none


@dataclass(frozen=True, slots=True)
class ResumedFrom:
    """The run that a run went on from, and when on the timeline."""

    run: str  # name of its directory
    at_s: Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """Beats that every device sends, and that are answered."""

    interval_s: Annotated[float, msgspec.Meta(gt=0)]
    size_bytes: Bytes  # of a beat, and of its answer


@dataclass(slots=True)
class RunFacts:
    """All facts of a run. Dictionaries are by device name."""

    # From the plan:
    scenario: str
    policy: str
    model: str
    devices: list[DeviceFacts]
    mode: Literal["realtime", "virtual", "simulated"]
    objective: str
    concurrency: int
    cost: str
    links: str  # what carries messages
    energy_budget_j: float | None
    missing_power: str  # devices of unknown power, and what to do; empty where there are none
    placed_in_s: float  # how long the first placement took the policy
    has_events: bool  # whether the cluster changes on the way
    relative_devices: list[str]  # given as a fraction of this host
    decisions_measured: bool  # whether the policy's own time is on the timeline
    decided_on: str | None  # the device to whose speed that time is scaled
    basis: Basis | None = None  # of the figures; None in records of before it was told
    heartbeat: Heartbeats | None = None  # None: no device is missed
    resumed: list[ResumedFrom] = field(default_factory=list)  # the last is the run that this one went on from
    version: int = VERSION
    # When the devices are ready:
    dilation: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    ready_s: float = 0.0
    loaded_s: float = 0.0
    limitations: list[str] = field(default_factory=list)
    baseline_bytes: dict[str, Bytes] = field(default_factory=dict)
    link_tests: list[LinkTest] = field(default_factory=list)
    # At the end:
    ended: Ended = "unfinished"  # unfinished: the run was killed, or goes on
    peak_bytes: dict[str, Bytes] | None = None  # of the memory ledgers; None: see the table of devices
    weights_bytes: dict[str, Bytes] = field(default_factory=dict)
    resident_bytes: dict[str, Bytes] = field(default_factory=dict)
    group_peak_bytes: dict[str, Bytes | None] = field(default_factory=dict)
    reordered: int | None = None  # None: see the table of devices
    host_load: HostLoad | None = None  # while the timeline ran
    standstills: list[Standstill] = field(default_factory=list)  # of devices that were stopped from outside for a while
    clock_jumps: list[ClockJump] = field(default_factory=list)  # of the host, while a paced timeline ran
    radio: RadioEnergy | None = None  # None: what the links carried is not known
    predicted: dict[str, float | None] | None = None


class _Version(msgspec.Struct):
    """The part of facts.json that every version has."""

    version: int


def decode_facts(text: bytes, where: str) -> RunFacts:
    """Read facts from JSON; `where` names the file in messages.

    Raises:
        RequestError: they are damaged, or of another version.
    """
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version != VERSION:
            raise RequestError(
                f"{where}: records of version {version}, and this edgeemu reads version {VERSION}; "
                "report them with the version of edgeemu that is named in meta.json"
            )
        facts = msgspec.json.decode(text, type=RunFacts)
    except (ValueError, RecursionError) as error:  # msgspec's own, and text that is not UTF-8
        raise RequestError(f"{where}: not the facts of a run: {error}") from error
    if facts.radio is not None and len(facts.radio.by_device_j) != len(facts.devices):
        raise RequestError(f"{where}: not the facts of a run: radio.by_device_j is not one value for each device")
    return facts
