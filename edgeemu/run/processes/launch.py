"""Settings of a launch of device processes, and what was measured before the first step."""

from dataclasses import dataclass, field

from edgeemu.device import protocol_out
from edgeemu.host.fleet import DEVICE_ENTRY
from edgeemu.host.memory_caps import ALL_MEANS
from edgeemu.links.self_test import LinkTest


@dataclass(frozen=True, slots=True)
class Launch:
    """How devices are started: by which entry, and by which means their memory is capped, the best first."""

    entry: str = DEVICE_ENTRY
    cap_means: tuple[str, ...] = ALL_MEANS


DEFAULT_LAUNCH = Launch()


@dataclass(slots=True)
class Measured:
    """What a run has measured so far, beside the rows that it records."""

    ready_in_s: float = 0.0  # from the first fork to the last device's hello
    loaded_in_s: float = 0.0  # weights, on all devices
    reordered: dict[str, int] = field(default_factory=dict)  # messages out of the order of departure
    baseline_bytes: dict[str, int] = field(default_factory=dict)  # resident, before any weights
    peak_bytes: dict[str, int] = field(default_factory=dict)  # of the ledger
    weaker: list[str] = field(default_factory=list)  # what this host did not let us do as well as we can
    group_peak_bytes: dict[str, int | None] = field(default_factory=dict)  # of the control groups
    last_words: list[protocol_out.Bye] = field(default_factory=list)
    sent_bytes: dict[tuple[int, int], int] | None = None  # by sender and receiver, when the run has ended
    link_tests: list[LinkTest] = field(default_factory=list)
