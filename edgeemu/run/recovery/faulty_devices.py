"""Faults of a run as they come to its devices and links: who fails, who stands still, who is cut off, who is back.

What is done about devices that are lost is in `recovery`.
"""

from collections.abc import Collection
from typing import Protocol

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.faults import FaultKind, change_by
from edgeemu.cluster.links import Change
from edgeemu.errors import RunError
from edgeemu.report.rows import LOST, FaultRow
from edgeemu.run.backend import Backend, Loss
from edgeemu.run.decider import Decider
from edgeemu.run.plan import Plan
from edgeemu.run.recovery.fault_clock import FaultClock, Happening, Moment, Occurrence, lost
from edgeemu.run.recovery.survivors import together
from edgeemu.timeline.scheduler import Due

_LINKS_DOWN = (FaultKind.DOWN, FaultKind.STALL, FaultKind.PARTITION)


class _Changing(Protocol):
    """Devices of a backend as faults change them."""

    @property
    def cluster(self) -> Cluster: ...
    async def change(self, change: Change, at_s: float) -> None: ...
    async def end_device(self, device: int, at_s: float) -> None: ...
    async def stop_device(self, device: int, at_s: float, until_s: float) -> None: ...
    async def continue_device(self, device: int) -> None: ...
    async def restart_device(self, device: int, at_s: float) -> None: ...
    def take_losses(self) -> list[Loss]: ...


class _Unmoved:
    """Devices to which nothing happens but changes of their speed and their links, which are functions of time."""

    def __init__(self, devices: _Changing) -> None:
        self._devices = devices

    @property
    def cluster(self) -> Cluster:
        return self._devices.cluster

    async def change(self, change: Change, at_s: float) -> None:
        await self._devices.change(change, at_s)

    async def end_device(self, device: int, at_s: float) -> None: ...
    async def stop_device(self, device: int, at_s: float, until_s: float) -> None: ...
    async def continue_device(self, device: int) -> None: ...
    async def restart_device(self, device: int, at_s: float) -> None: ...
    def take_losses(self) -> list[Loss]:
        return []


class FaultyDevices:
    """Devices of a run that fail, and links between them. `gone` are those that are not there.

    `emptied` are those that have lost what they held, also if they are back, until nothing of it is needed any more.
    """

    def __init__(self, plan: Plan, devices: Backend, decider: Decider) -> None:
        rules = plan.rules.recovery
        self.gone = set(plan.cluster.faults.absent)
        self.emptied: set[int] = set()
        self.lines: list[str] = []  # to be told the user
        self.rows: list[FaultRow] = []
        self._cluster, self._source = plan.cluster, plan.scenario.source_index
        self._devices: _Changing = devices
        self._decider = decider
        self._survives = rules.caches != "none"
        self._clock = FaultClock(plan.cluster.faults, rules.interval_s, rules.misses)
        self._silent: dict[int, Occurrence] = {}  # devices that stand still, and nobody has noticed
        self._down: list[Occurrence] = []  # links
        self._cut_off: dict[int, Occurrence] = {}  # devices that were given up because of links
        self._losses: list[Loss] = []
        self._taken_away = 0  # how often a device was

    @property
    def next_s(self) -> float | None:
        """Instant of the next thing to happen; None: nothing will."""
        return self._clock.next_s

    @property
    def all_answer(self) -> bool:
        """Whether no device stands still."""
        return not self._silent

    async def at_token(self, due: Due) -> None:
        """Have the faults begin that the scenario has at a token of the first sequence."""
        if due.step.sequence == 0:
            for fault in self._cluster.faults.at(due.step.step):
                self._clock.add(fault, due.at_s)
        await self.announce()

    async def clear(self, devices: Collection[int], at_s: float) -> set[int]:
        """Have devices begin anew, without what they hold; not those that stand still. Return which did."""
        cleared = set(devices) - self._silent.keys()
        for device in sorted(cleared):
            await self._devices.end_device(device, at_s)
            await self._devices.restart_device(device, at_s)
        if cleared:
            self.emptied |= cleared
            names = ", ".join(map(self.name, sorted(cleared)))
            self.lines.append(
                f"at {at_s:.3g} s {names} dropped what they held: there was no room for what was lost beside it"
            )
        return cleared

    def note_losses(self) -> float | None:
        """Note devices that were lost without a fault. Return when the last was noticed; None: there is none."""
        self._losses += self._devices.take_losses()
        return max((loss.at_s for loss in self._losses), default=None)

    def name(self, device: int) -> str:
        """Return the name of a device."""
        return self._cluster.devices[device].name

    async def happen(self, at_s: float) -> Occurrence | None:
        """Have happen what happens up to an instant. Return what has taken a device away, the first such."""
        before, first = set(self.emptied), None
        self.note_losses()
        losses, self._losses = self._losses, []
        for loss in losses:
            self._take_away(loss.device)
            first = first or lost(loss.device, loss.at_s, loss.why)
            self._note(loss.at_s, self.name(loss.device), LOST, Moment.NOTICED)
            self.lines.append(f"{self.name(loss.device)} is lost: {loss.why}")
        while (next_s := self._clock.next_s) is not None and next_s <= at_s:
            for happening in self._clock.take(next_s):
                taken_away = self._taken_away
                await self._one(happening)
                if self._taken_away > taken_away and first is None:
                    first = happening.occurrence
        await self.announce()
        self._decider.gone = frozenset(self.gone)
        if first is not None and not self._survives:
            names = ", ".join(self.name(device) for device in sorted(self.emptied - before))
            what = f"{first.fault.kind} at {first.began_s:g} s"
            raise RunError(f"{names}: {what}, and the scenario has no recovery (recovery: reprefill)")
        return first

    async def catch_up(self, at_s: float) -> None:
        """Have devices be as all faults up to an instant have left them, where none has happened to them yet."""
        devices, absent = self._devices, set(self.gone)
        self._devices = _Unmoved(devices)
        while (next_s := self._clock.next_s) is not None and next_s <= at_s:
            await self.happen(next_s)
        self._devices, self.lines = devices, []
        for device in sorted(absent - self.gone):
            await devices.restart_device(device, at_s)
        for device in sorted(self.gone - absent):
            await devices.end_device(device, at_s)
        for device, occurrence in self._silent.items():
            await devices.stop_device(device, occurrence.began_s, occurrence.until_s)
        self.emptied = self.gone | absent

    async def _one(self, happening: Happening) -> None:
        at_s, _, moment, occurrence = happening
        device, fault = occurrence.device, occurrence.fault
        if fault.kind is not FaultKind.JOIN and moment is not Moment.NOTICED:
            self._note(at_s, fault.name if device is None else self.name(device), str(fault.kind), moment)
        if device is None:
            await self._links(at_s, moment, occurrence)
        elif moment is Moment.BEGINS:
            await self._device_fails(at_s, device, occurrence)
        elif moment is Moment.NOTICED:
            if device in self._silent:
                await self._give_up(at_s, device)
            self._note(at_s, self.name(device), str(fault.kind), moment)
        else:
            await self._device_back(at_s, device, occurrence)

    async def _device_fails(self, at_s: float, device: int, occurrence: Occurrence) -> None:
        if device in self.gone:
            return
        if occurrence.fault.kind.ends_process:
            await self._give_up(at_s, device)
        elif occurrence.fault.kind is FaultKind.HANG and device not in self._silent:
            self._silent[device] = occurrence
            await self._devices.stop_device(device, at_s, occurrence.until_s)

    async def _device_back(self, at_s: float, device: int, occurrence: Occurrence) -> None:
        if device in self._silent:
            if self._silent[device] is occurrence:
                del self._silent[device]
                await self._devices.continue_device(device)
                if self._clock.misses_beat(occurrence.began_s, at_s):
                    self._decider.note_standstill(device, occurrence.began_s, at_s)
        elif device in self.gone and device not in self._cut_off:
            await self._join(at_s, device)

    async def _give_up(self, at_s: float, device: int) -> None:
        """Have a device be gone: one that stands still must not go on with what it had."""
        self._take_away(device)
        await self._devices.end_device(device, at_s)

    def _take_away(self, device: int) -> None:
        self._silent.pop(device, None)
        self.gone.add(device)
        self.emptied.add(device)
        self._taken_away += 1

    async def _join(self, at_s: float, device: int) -> None:
        self.gone.discard(device)
        await self._devices.restart_device(device, at_s)
        self._note(at_s, self.name(device), str(FaultKind.JOIN), Moment.BEGINS)
        self.lines.append(f"{self.name(device)} has joined, at {at_s:.3g} s")
        self._decider.joined = True

    async def _links(self, at_s: float, moment: Moment, occurrence: Occurrence) -> None:
        if occurrence.fault.kind not in _LINKS_DOWN:
            return
        if moment is Moment.BEGINS:
            self._down.append(occurrence)
        elif moment is Moment.NOTICED:
            self._note(at_s, occurrence.fault.name, str(occurrence.fault.kind), moment)
            alive = set(range(len(self._cluster.devices))) - self.gone
            for device in sorted(alive - together(alive, self._source, self._reaches)):
                self._cut_off[device] = occurrence
                await self._give_up(at_s, device)
        else:
            self._down.remove(occurrence)
            for device in [device for device, cause in self._cut_off.items() if cause is occurrence]:
                del self._cut_off[device]
                await self._join(at_s, device)

    def _reaches(self, source: int, target: int) -> bool:
        crosses = self._devices.cluster.crosses
        return not any(crosses(source, target, Change(links=each.fault.links)) for each in self._down)

    async def announce(self) -> None:
        """Tell devices of faults to come that their speed and their links show."""
        for occurrence in self._clock.to_come:
            if not occurrence.announced:
                occurrence.announced = True
                if (change := change_by(occurrence.fault, occurrence.began_s)) is not None:
                    await self._devices.change(change, occurrence.began_s)

    def _note(self, at_s: float, what: str, kind: str, moment: Moment) -> None:
        self.rows.append(FaultRow(at_s, what, kind, moment.value))
