"""The program that device processes follow at present, and what each of them knows of the others."""

from collections import defaultdict
from collections.abc import Callable, Mapping

from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in
from edgeemu.links.interface import Peer
from edgeemu.placement.program import Program
from edgeemu.run.backend import PROBE_PAYLOAD_BYTES
from edgeemu.run.plan import Plan


class InstalledProgram:
    """The program in force, its epoch, the cluster as events have made it, and the peers that each device knows.

    `address` is where a device listens.
    """

    def __init__(self, plan: Plan, address: Callable[[int], str]) -> None:
        self.cluster = plan.cluster
        self.program = plan.program
        self.epoch = 0
        self.address = address
        self._last_epoch = plan.resumed.epoch if plan.resumed else 0
        self._probes = 0  # numbered, so that each has its own random draws
        self._known: dict[int, set[int]] = defaultdict(set)  # by device

    @property
    def known_paths(self) -> list[tuple[int, int]]:
        """Sender and receiver of every path that a device has been given."""
        return [(source, target) for source, targets in self._known.items() for target in targets]

    def next_epoch(self) -> int:
        """Return a number for a program to come; an epoch that was aborted is not used again."""
        self._last_epoch += 1
        return self._last_epoch

    def install(self, program: Program, epoch: int) -> None:
        """Note that all devices follow a program."""
        self.program, self.epoch = program, epoch

    def peers(self, program: Program, device: int) -> list[Peer]:
        """Return all devices that this one sends to."""
        targets = {target for op in program.on(device) for target in op.to}
        return [self.peer(device, target) for target in sorted(targets - {device})]

    def peer(self, source: int, target: int) -> Peer:
        """Return what a device has to know of another to send to it."""
        self._known[source].add(target)
        return Peer(target, self.address(target), self.cluster.path(source, target))

    def probe(self, source: int, target: int, at_s: float) -> protocol_in.Probe:
        """Return the request to measure a link in the run."""
        self._probes += 1
        return protocol_in.Probe(self._probes, PROBE_PAYLOAD_BYTES, self.peer(source, target), at_s)

    def change(self, change: Change, at_s: float) -> Mapping[int, protocol_in.ChangeDevice]:
        """Apply an event. Return the message to each device that it concerns."""
        before, self.cluster = self.cluster, self.cluster.changed(change, at_s)
        messages = {}
        for device in range(len(before.devices)) if change.links else sorted(set(change.devices)):
            targets = [target for target in sorted(self._known[device]) if before.crosses(device, target, change)]
            mine = device in change.devices
            if mine or targets:
                speed, memory_bytes = (change.speed, change.memory_bytes) if mine else (None, None)
                peers = [self.peer(device, target) for target in targets]
                still_until_s = change.outage.until_s if mine and change.outage is not None else None
                messages[device] = protocol_in.ChangeDevice(at_s, speed, memory_bytes, peers, still_until_s)
        return messages
