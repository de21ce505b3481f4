"""Energy of a run, by device: waiting, computing, and sending. Pure arithmetic."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.policies.view.step_energy import missing_links
from edgeemu.report.facts import DeviceFacts, RadioEnergy

SentBytes = Mapping[tuple[int, int], int]  # by sender and receiver, as indexes of devices


class DeviceEnergy(NamedTuple):
    """Energy of one device; None: a figure is missing. `busy_j` is on top of `idle_j`, `radio_j` on top of both."""

    idle_j: float | None
    busy_j: float | None
    radio_j: float | None


@dataclass(frozen=True, slots=True)
class EnergyAccount:
    """Energy of a run. `total_j` is None where anything is unknown, and `missing` says what is."""

    devices: tuple[DeviceEnergy, ...]
    total_j: float | None
    missing: str


def radio_energy(cluster: Cluster, sent: SentBytes) -> RadioEnergy:
    """Compute what the messages of a run cost all devices on their paths."""
    spent_j: dict[int, list[float]] = defaultdict(list)
    unknown: set[int] = set()  # devices that sent or received over a link of unknown energy
    unknown_paths = []
    for (source, target), size in sorted(sent.items()):
        if cluster.j_per_bit(source, target) is None:
            unknown_paths.append((source, target))
        for index, j_per_bit in cluster.path(source, target).energies:
            if j_per_bit is None:
                unknown.add(index)
            else:
                spent_j[index].append(8.0 * size * j_per_bit)
    by_device_j = [None if index in unknown else fsum(spent_j[index]) for index in range(len(cluster.devices))]
    return RadioEnergy(by_device_j, missing_links(cluster, unknown_paths))


def account(
    devices: Sequence[DeviceFacts],
    span_s: float,
    busy_s: Mapping[str, float],
    radio: RadioEnergy | None,
    missing_power: str,
) -> EnergyAccount:
    """Compute the energy of a run that lasted `span_s`; `busy_s` is the time that each device computed, by name.

    `radio` is None where nobody knows what the links carried.
    """
    spent = []
    for index, device in enumerate(devices):
        idle_w, busy_w = device.idle_w, device.busy_w
        spent.append(
            DeviceEnergy(
                idle_j=None if idle_w is None else idle_w * span_s,
                busy_j=None if idle_w is None or busy_w is None else (busy_w - idle_w) * busy_s.get(device.name, 0.0),
                radio_j=None if radio is None else radio.by_device_j[index],
            )
        )
    missing = "; ".join(filter(None, (missing_power, radio.missing if radio else "")))
    if radio is None:
        missing = missing or "the run did not end: what its links carried is not known"
    parts = [part for device_energy in spent for part in device_energy]
    known = [part for part in parts if part is not None]
    return EnergyAccount(tuple(spent), fsum(known) if len(known) == len(parts) else None, missing)
