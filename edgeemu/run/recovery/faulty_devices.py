"""Faults of a run as they come to its devices and links: who fails, who stands still, who is cut off, who is back.

What is done about devices that are lost is in `recovery`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from math import inf
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
        self._away: dict[int, Occurrence | None] = dict.fromkeys(self.gone)  # what has ended a device; None: it joins
        self._hangs: dict[int, list[Occurrence]] = defaultdict(list)  # by device, until the last of them is over
        self._down: list[Occurrence] = []  # links, as noticed
        self._cut_off: set[int] = set()  # devices that are gone because of links
        self._losses: list[Loss] = []
        self.losses = Counter[int]()  # how often each device has lost what it held

    @property
    def next_s(self) -> float | None:
        """Instant of the next thing to happen; None: nothing will."""
        return self._clock.next_s

    @property
    def all_answer(self) -> bool:
        """Whether no device stands still."""
        return not self._silent

    @property
    def _silent(self) -> set[int]:
        """Devices that stand still, and nobody has noticed."""
        return {device for device, hangs in self._hangs.items() if hangs} - self.gone

    async def at_token(self, due: Due) -> None:
        """Have the faults begin that the scenario has at a token of the first sequence."""
        if due.step.sequence == 0:
            for fault in self._cluster.faults.at(due.step.step):
                self._clock.add(fault, due.at_s)
        await self.announce()

    async def clear(self, devices: Collection[int], at_s: float) -> set[int]:
        """Have devices begin anew, without what they hold; not those that stand still. Return which did."""
        cleared = set(devices) - self._silent
        for device in sorted(cleared):
            await self._devices.end_device(device, at_s)
            await self._devices.restart_device(device, at_s)
        if cleared:
            self.emptied |= cleared
            self.losses.update(cleared)
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
            self._away[loss.device] = occurrence = lost(loss.device, loss.at_s, loss.why)
            self._take_away(loss.device)
            first = first or occurrence
            self._add_row(loss.at_s, self.name(loss.device), LOST, Moment.NOTICED)
            self.lines.append(f"{self.name(loss.device)} is lost: {loss.why}")
        while (next_s := self._clock.next_s) is not None and next_s <= at_s:
            for happening in self._clock.take(next_s):
                taken_away = self.losses.total()
                await self._one(happening)
                if self.losses.total() > taken_away and first is None:
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
        for device in sorted(self._silent):
            await self._stop(device)
        self.emptied = self.gone | absent

    async def _one(self, happening: Happening) -> None:
        at_s, _, moment, occurrence = happening
        device, kind = occurrence.device, occurrence.fault.kind
        if device is None:
            self._note(happening)
            await self._links(at_s, moment, occurrence)
        elif moment is Moment.BEGINS:
            occurrence.in_vain = device in self.gone
            self._note(happening)
            await self._device_fails(at_s, device, occurrence)
        elif moment is Moment.OVER:
            self._note(happening)
            await self._device_over(at_s, device, occurrence)
        elif kind.ends_process or device in self._silent:
            self._note(happening)
            if kind is FaultKind.HANG:
                await self._give_up(at_s, device)

    async def _device_fails(self, at_s: float, device: int, occurrence: Occurrence) -> None:
        kind = occurrence.fault.kind
        if kind is FaultKind.HANG:  # also of a device that is gone: it cannot be back before
            hangs = self._hangs[device]
            hangs.append(occurrence)
            if not occurrence.in_vain:
                if len(hangs) > 1:
                    self._clock.add_notice(occurrence, hangs[0].began_s)
                await self._stop(device)
        elif kind.ends_process and not occurrence.in_vain:
            self._away[device] = occurrence
            await self._give_up(at_s, device)

    async def _stop(self, device: int) -> None:
        """Have a device stand still until the last of its hangs is over."""
        hangs = self._hangs[device]
        await self._devices.stop_device(device, hangs[0].began_s, _end_s(hangs))

    async def _device_over(self, at_s: float, device: int, occurrence: Occurrence) -> None:
        hangs = self._hangs[device]
        if occurrence.fault.kind is FaultKind.HANG and _end_s(hangs) <= at_s:
            began_s = hangs[0].began_s
            hangs.clear()
            if device not in self.gone:
                await self._devices.continue_device(device)
                self._decider.note_standstill(device, began_s, at_s)
        elif occurrence.fault.kind is FaultKind.JOIN or self._away.get(device) is occurrence:
            del self._away[device]
        await self._return(at_s, device)

    async def _return(self, at_s: float, device: int) -> None:
        """Have a device that is gone join, if nothing keeps it away any more."""
        if device not in self.gone or device in self._away or self._hangs[device]:
            return
        self._cut_off.discard(device)
        if all(self._reaches(device, other) for other in self._there):
            await self._join(at_s, device)
        else:
            self._cut_off.add(device)

    async def _give_up(self, at_s: float, device: int) -> None:
        """Have a device be gone: one that stands still must not go on with what it had."""
        self._take_away(device)
        await self._devices.end_device(device, at_s)

    def _take_away(self, device: int) -> None:
        self.gone.add(device)
        self.emptied.add(device)
        self.losses[device] += 1

    async def _join(self, at_s: float, device: int) -> None:
        self.gone.discard(device)
        await self._devices.restart_device(device, at_s)
        self._add_row(at_s, self.name(device), str(FaultKind.JOIN), Moment.BEGINS)
        self.lines.append(f"{self.name(device)} has joined, at {at_s:.3g} s")
        self._decider.joined = True

    async def _links(self, at_s: float, moment: Moment, occurrence: Occurrence) -> None:
        fault = occurrence.fault
        if moment is Moment.OVER and fault.kind in (FaultKind.DOWN, FaultKind.STALL, FaultKind.PARTITION):
            self._decider.note_links_down(Change(links=fault.links), occurrence.began_s, at_s)
        if moment is Moment.NOTICED:
            self._down.append(occurrence)
            for device in sorted(self._there - together(self._there, self._source, self._reaches)):
                self._cut_off.add(device)
                await self._give_up(at_s, device)
        elif moment is Moment.OVER and occurrence in self._down:
            self._down.remove(occurrence)
            for device in sorted(self._cut_off):
                await self._return(at_s, device)

    @property
    def _there(self) -> set[int]:
        return set(range(len(self._cluster.devices))) - self.gone

    def _reaches(self, source: int, target: int) -> bool:
        """Whether a device reaches another, as far as it has been noticed; links fail in both directions."""
        crosses = self._devices.cluster.crosses
        return not any(crosses(source, target, Change(links=each.fault.links)) for each in self._down)

    def tell_rest(self) -> None:
        """Tell of faults of the scenario that had not come when the run ended."""
        rest = [occurrence.began_s for occurrence in self._clock.to_come if occurrence.process is None]
        if rest:
            which = (
                f"a fault at {rest[0]:.6g} s" if len(rest) == 1 else f"{len(rest)} faults, from {min(rest):.6g} s on,"
            )
            self.lines.append(f"{which} had not come when the run ended")

    async def announce(self) -> None:
        """Tell devices of faults to come that their speed and their links show."""
        for occurrence in self._clock.to_come:
            if not occurrence.announced:
                occurrence.announced = True
                if (change := change_by(occurrence.fault, occurrence.began_s)) is not None:
                    await self._devices.change(change, occurrence.began_s)

    def _note(self, happening: Happening) -> None:
        """Add the row of a moment; that a device joins has one of its own, and what happens to nobody has none."""
        at_s, _, moment, occurrence = happening
        fault, device = occurrence.fault, occurrence.device
        if fault.kind is not FaultKind.JOIN and not occurrence.in_vain:
            self._add_row(at_s, fault.name if device is None else self.name(device), str(fault.kind), moment)

    def _add_row(self, at_s: float, what: str, kind: str, moment: Moment) -> None:
        self.rows.append(FaultRow(at_s, what, kind, moment.value))


def _end_s(hangs: Sequence[Occurrence]) -> float:
    return max((hang.until_s for hang in hangs), default=inf)
