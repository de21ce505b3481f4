"""Device processes that fail while a plan runs on them: by the scenario, or at the hand of a test."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import uvloop

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.faults import FaultEvent, FaultPlan
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.backend import SampledToken
from edgeemu.run.choose_links import STAMPED, LinkChoice
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from support.watching import RecordedRun

Act = Callable[["Struck"], Awaitable[None]]
REPREFILL = "recovery={caches: reprefill, heartbeat: {interval: 100 ms, misses: 3}}"


def failing(plan: Plan, *events: FaultEvent) -> Plan:
    """The plan with these faults."""
    was = plan.cluster
    cluster = Cluster(was.name, was.seed, was.devices, was.topology, was.events, FaultPlan(events))
    return replace(plan, cluster=cluster)


class Struck(ProcessBackend):
    """Devices to which something happens once: before they do what has this name for the `number`-th time."""

    def __init__(self, plan: Plan, when: str, act: Act, number: int = 1, links: LinkChoice = STAMPED) -> None:
        super().__init__(plan, Silent().phase, keep_logits=True, links=links)
        self._when, self._act, self._left = when, act, number

    async def _comes(self, what: str) -> None:
        if what == self._when and self._devices.session.losses is not None:  # the run has begun
            self._left -= 1
            if not self._left:
                await self._act(self)

    async def next_token(self, by_s: float | None = None) -> SampledToken | None:
        await self._comes("next_token")
        return await super().next_token(by_s)

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        await self._comes("prepare")
        return await super().prepare(migration, rows, last_rows, at_s)

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        await self._comes("ship")
        await super().ship(migration, shipments, at_s)
        await self._comes("copying")

    async def arrived(self, migration: MigrationProtocol, by_s: float) -> float | None:
        arrived_s = await super().arrived(migration, by_s)
        if arrived_s is not None:
            await self._comes("arrived")
        return arrived_s

    async def wait(self, migration: MigrationProtocol, by_s: float | None = None) -> float | None:
        arrived_s = await super().wait(migration, by_s)
        await self._comes("arrived")
        return arrived_s

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        await self._comes("commit")
        await super().commit(migration, program)
        await self._comes("committed")

    async def halt(self, at_s: float) -> list[SampledToken]:
        await self._comes("halt")
        return await super().halt(at_s)

    async def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        await self._comes("rewind")
        await super().rewind(rows, layers, kept)

    async def follow(self, program: Program, rows: int = 0, past: int = 0) -> None:
        await self._comes("follow")
        await super().follow(program, rows, past)


def sent(device: str, number: signal.Signals) -> Act:
    """A signal from outside, which nobody has asked for."""

    async def act(devices: Struck) -> None:
        if (pid := devices.process_ids.get(device)) is not None:  # it may be gone already
            os.kill(pid, number)

    return act


def for_a_while(device: str, for_s: float) -> Act:
    """Stopped from outside, for so many seconds of the clock."""

    async def act(devices: Struck) -> None:
        pid = devices.process_ids[device]
        os.kill(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(for_s, os.kill, pid, signal.SIGCONT)

    return act


def run_struck(plan: Plan, when: str, act: Act, number: int = 1, links: LinkChoice = STAMPED) -> RecordedRun:
    made = RecordedRun(plan, Struck(plan, when, act, number, links))
    uvloop.run(made.run())
    return made


def heads_of_first_layer_to(target: int, source: int) -> Callable[[ClusterView, Placement | None], Placement]:
    """A policy that moves blocks from one device to another, and none of others'; it keeps what it cannot improve."""

    def place(view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        there = [block for block, device in sorted(current.owner.items()) if device == source]
        if target in view.lost or source in view.lost or not view.devices[target].memory_bytes:
            return current
        return current.moved(there[: len(there) // 2], target) if len(there) > 2 else current

    return place
