"""A generation on device processes that is driven by hand."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.placement import Placement
from edgeemu.placement.restoration import layers_to_restore, restoring
from edgeemu.placement.valid_rows import ValidRows
from edgeemu.run.backend import NO_TOKEN
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.recovery.fill_caches import filling_of
from edgeemu.timeline.steps import Step
from support.device_pids import device_pids
from support.failing import REPREFILL
from support.several import make, reference_tokens

PROMPTS = "workload.prompts=[{tokens: 7}, {tokens: 3}]"
TIMES = pytest.mark.parametrize("time", ["virtual", "realtime"])


def plan_of(time: str, *changes: str) -> Plan:
    return make(PROMPTS, "workload.max_tokens=6", "workload.concurrency=2", f"time.mode={time}", REPREFILL, *changes)


class Generation:
    """Two sequences on device processes, by hand."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.placement = plan, plan.placement
        self.devices = ProcessBackend(plan, Silent().phase)
        self.tokens: dict[int, list[int]] = {0: [], 1: []}
        self.rows = {0: 0, 1: 0}
        self.now_s = 0.0

    async def begin(self) -> None:
        await self.devices.assign(self.plan)
        await self.devices.begin()
        for sequence in self.tokens:
            await self.devices.open(sequence, self.plan.requests[sequence])

    def ids(self, sequence: int) -> list[int]:
        return [*self.plan.requests[sequence].ids, *self.tokens[sequence]]

    async def start(self, sequence: int) -> None:
        step, past = len(self.tokens[sequence]), self.rows[sequence]
        ids = self.ids(sequence)[past:]
        await self.devices.start(Step(sequence, step, len(ids), past), ids, self.now_s)

    async def take(self) -> int:
        sampled = await self.devices.next_token()
        assert sampled is not None
        self.note(sampled.step, sampled.token, sampled.at.emulated_s)
        return sampled.step.sequence

    def note(self, step: Step, token: int, at_s: float) -> None:
        self.tokens[step.sequence].append(token)
        self.rows[step.sequence] = step.past + step.rows
        self.now_s = max(self.now_s, at_s)

    async def go_on(self, steps: int) -> None:
        """So many steps, of both sequences in turn, one in flight of each."""
        for sequence in self.tokens:
            await self.start(sequence)
        for _ in range(steps):
            await self.start(await self.take())

    async def finish(self) -> None:
        """All other tokens; nothing is in flight."""
        for sequence, expected in enumerate(reference_tokens(self.plan)):
            while len(self.tokens[sequence]) < len(expected):
                await self.start(sequence)
                await self.take()
            assert self.tokens[sequence] == expected
            await self.devices.close(sequence)
        await self.devices.settle()

    async def give_up(self) -> None:
        for step, token, at, _ in await self.devices.halt(self.now_s):
            self.note(step, token, at.emulated_s)

    async def recover(self, lost: int, by: int, rows: Mapping[int, int]) -> None:
        """All that a device had comes to another, from storage; caches of its layers are computed again."""
        layers, devices = layers_to_restore(self.placement, {lost}), self.devices
        await devices.rewind(rows, layers, self.rows)
        new = Placement({block: by if at == lost else at for block, at in self.placement.owner.items()})
        (valid := ValidRows(self.rows)).cut(layers, rows)
        migration = MigrationProtocol(devices.next_epoch(), self.placement, new, lost=frozenset({lost}), valid=valid)
        assert await devices.prepare(migration, self.rows, sum(self.rows.values()), self.now_s) == ""
        migration.prepared()
        await devices.ship(migration, migration.next_round(self.rows), self.now_s)
        assert await devices.wait(migration, self.now_s - 1e-9) is None  # storage takes its time
        arrived_s = await devices.wait(migration)
        assert arrived_s is not None
        self.now_s = max(self.now_s, arrived_s)
        program = self.plan.compiled(new)
        await devices.commit(migration, program)
        migration.committed()
        self.placement = new
        await devices.follow(restoring(program, layers), 3, max(self.rows.values()) - 3)
        await self.fill(rows)
        await devices.follow(program)

    async def fill(self, rows: Mapping[int, int]) -> None:
        """The steps of both sequences, each in chunks of three rows, after the other."""
        todo = filling_of({sequence: (rows[sequence], end) for sequence, end in self.rows.items()}, 3)
        for steps in todo.values():
            for step in steps:
                ids = self.ids(step.sequence)[step.past : step.past + step.rows]
                await self.devices.start(step, ids, self.now_s)
                filled = await self.devices.next_token()
                assert filled is not None
                assert (filled.step, filled.token) == (step, NO_TOKEN)
                assert filled.at.emulated_s > self.now_s
                self.now_s = filled.at.emulated_s


def by_hand(plan: Plan, act: Callable[[Generation], Awaitable[None]]) -> None:
    """Acts on a generation that has begun; all of its tokens must come, and nothing be left."""

    async def main() -> None:
        generation = Generation(plan)
        async with generation.devices.launched(), asyncio.timeout(60):
            await generation.begin()
            await act(generation)
            await generation.finish()
            await generation.devices.end()

    asyncio.run(main())
    assert device_pids() == []
