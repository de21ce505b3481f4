"""Energy of a finished run, by device and for the links."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.policies.view.step_energy import missing_links, missing_power

Bytes = Mapping[tuple[int, int], int]  # that one device sent to another, by their indexes


class DeviceEnergy(NamedTuple):
    """What a device drew; None where a figure is missing. `busy_j` is on top of `idle_j`, `radio_j` on top of both."""

    idle_j: float | None
    busy_j: float | None
    radio_j: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """What a run drew. `total_j` is None where anything is not known, and `missing` says what."""

    devices: tuple[DeviceEnergy, ...]
    total_j: float | None
    missing: str

    def summary(self, names: Sequence[str], tokens: int, budget_j: float | None) -> dict[str, Any]:
        """`energy_j` and `energy` of summary.json."""
        per_token_j = self.total_j / tokens if self.total_j is not None and tokens else None
        by_device = {name: spent._asdict() for name, spent in zip(names, self.devices, strict=True)}
        return {
            "energy_j": self.total_j,
            "energy": {
                "per_token_j": per_token_j,
                "budget_j": budget_j,
                "missing": self.missing or None,
                "by_device": by_device,
            },
        }


def account(cluster: Cluster, span_s: float, busy_s: Mapping[int, Iterable[float]], sent: Bytes | None) -> Account:
    """What a run drew that lasted `span_s`. `busy_s` are a device's execution times, in whatever order.

    `sent` is None where nobody can say what the links carried.
    """
    tolls_j: dict[int, list[float]] = defaultdict(list)
    untold: set[int] = set()  # devices that sent or received what has no figure
    unknown_ways = []
    for (source, target), size in sorted((sent or {}).items()):
        if cluster.j_per_bit(source, target) is None:
            unknown_ways.append((source, target))
        for index, j_per_bit in cluster.path(source, target).energies:
            if j_per_bit is None:
                untold.add(index)
            else:
                tolls_j[index].append(8.0 * size * j_per_bit)
    devices = []
    for device in cluster.devices:
        idle_w, busy_w, index = device.idle_w, device.busy_w, device.index
        devices.append(
            DeviceEnergy(
                idle_j=None if idle_w is None else idle_w * span_s,
                busy_j=None if idle_w is None or busy_w is None else (busy_w - idle_w) * fsum(busy_s.get(index, ())),
                radio_j=None if sent is None or index in untold else fsum(tolls_j[index]),
            )
        )
    missing = "; ".join(filter(None, (missing_power(cluster.devices), missing_links(cluster, unknown_ways))))
    if sent is None:
        missing = missing or "the run did not end: what its links carried is not known"
    parts = [part for spent in devices for part in spent]
    known = [part for part in parts if part is not None]
    return Account(tuple(devices), fsum(known) if len(known) == len(parts) else None, missing)
