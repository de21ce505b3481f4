"""Device processes that fail and come back, driven by hand: what is asked of them, and what is told of them."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from math import inf

import pytest
from support.device_pids import device_pids
from support.failing import REPREFILL, failing
from support.several import make, reference_tokens

from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind
from edgeemu.errors import RunError
from edgeemu.host.owner import process_state
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


@TIMES
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_caches_of_a_device_that_crashes_are_filled_again_with_two_sequences_in_flight(time: str, lost: int) -> None:
    async def act(generation: Generation) -> None:
        devices, name = generation.devices, generation.plan.cluster.devices[lost].name
        await generation.go_on(3)
        await devices.end_device(lost, generation.now_s)
        assert name not in devices.process_ids
        await generation.give_up()
        await generation.recover(lost, (lost + 1) % 3, {0: 0, 1: 0})
        assert devices.take_losses() == []
        states = await devices.states(generation.now_s)
        assert [state.memory_bytes == 0 for state in states] == [device == lost for device in range(3)]

    by_hand(plan_of(time), act)


@TIMES
def test_a_device_that_was_forked_again_takes_blocks_and_is_lost_again(time: str) -> None:
    async def act(generation: Generation) -> None:
        devices = generation.devices
        await generation.go_on(2)
        await devices.end_device(1, generation.now_s)
        await generation.give_up()
        await generation.recover(1, 2, {0: 0, 1: 0})
        first = dict(devices.process_ids)
        await devices.restart_device(1, generation.now_s)
        assert devices.process_ids["b-1"] not in first.values()
        assert (await devices.states(generation.now_s))[1].memory_bytes > 0
        there = {block: 1 for block, device in generation.placement.owner.items() if device == 2}
        migration = MigrationProtocol(
            devices.next_epoch(), generation.placement, Placement({**generation.placement.owner, **there})
        )
        assert await devices.prepare(migration, generation.rows, 99, generation.now_s) == ""
        migration.prepared()
        await devices.ship(migration, migration.next_round(generation.rows), generation.now_s)
        generation.now_s = await devices.wait(migration) or 0.0
        await devices.commit(migration, generation.plan.compiled(migration.new))
        generation.placement = migration.new
        await generation.go_on(2)
        await devices.end_device(1, generation.now_s)
        await generation.give_up()
        await generation.recover(1, 0, {0: 0, 1: 0})

    by_hand(plan_of(time), act)


@TIMES
def test_a_sequence_begins_though_a_device_was_killed_before_it_had_opened_it(time: str) -> None:
    async def act(generation: Generation) -> None:
        devices, request = generation.devices, generation.plan.requests[1]
        os.kill(devices.process_ids["b-1"], signal.SIGSTOP)  # its answer never comes
        await devices.open(2, request)
        await devices.end_device(1, generation.now_s)
        await generation.give_up()
        await generation.recover(1, 0, {0: 0, 1: 0})
        await devices.restart_device(1, generation.now_s)
        await devices.start(Step(2, 0, len(request.ids), 0), list(request.ids), generation.now_s)
        sampled = await devices.next_token()
        assert sampled is not None
        generation.now_s = max(generation.now_s, sampled.at.emulated_s)
        await devices.close(2)

    by_hand(plan_of(time), act)


def test_a_device_that_stands_still_for_a_time_is_stopped_and_waited_for() -> None:
    async def act(generation: Generation) -> None:
        devices = generation.devices
        await generation.go_on(2)
        pid = devices.process_ids["b-1"]
        at_s = generation.now_s + 0.01
        await devices.stop_device(1, at_s, at_s + 0.5)
        assert process_state(pid) == "T"
        assert (await devices.states(at_s))[1].memory_bytes > 0  # it is not asked
        await devices.observe()
        for _ in range(2):
            await generation.take()
        while process_state(pid) == "T":  # it goes on by itself
            await asyncio.sleep(0.01)
        await devices.stop_device(1, generation.now_s, generation.now_s + 0.5)
        await devices.continue_device(1)
        await devices.continue_device(1)
        assert devices.take_losses() == []

    by_hand(plan_of("realtime", "recovery={caches: reprefill, heartbeat: {interval: 500 ms}}"), act)


@TIMES
def test_nothing_is_expected_of_a_device_that_stands_still_for_good(time: str) -> None:
    async def act(generation: Generation) -> None:
        devices, paced = generation.devices, time == "realtime"
        await generation.go_on(2)
        pid = devices.process_ids["b-1"]
        await devices.stop_device(1, generation.now_s, inf)
        assert (process_state(pid) == "T") == paced  # unpaced, it stands still on the timeline alone
        if paced:  # a busy host has stopped it late: steps that it was through with may be sampled yet
            while (token := await devices.next_token(generation.now_s + 0.05)) is not None:
                generation.note(token.step, token.token, token.at.emulated_s)
                await generation.start(token.step.sequence)
        assert (await devices.states(generation.now_s))[1].memory_bytes > 0
        await devices.end_device(1, generation.now_s)
        assert process_state(pid) == "X"
        await generation.give_up()
        await generation.recover(1, 0, {0: 0, 1: 0})
        assert devices.take_losses() == []

    by_hand(plan_of(time), act)


def test_a_run_ends_beside_a_device_that_stands_still_for_good() -> None:
    """Nobody has noticed yet, and what waits for it means nothing any more."""

    async def act(generation: Generation) -> None:
        devices, placement = generation.devices, generation.placement
        there = {block: 0 if device == 2 else device for block, device in placement.owner.items()}
        migration = MigrationProtocol(devices.next_epoch(), placement, Placement(there))
        assert await devices.prepare(migration, generation.rows, 99, 0.0) == ""
        migration.prepared()
        await devices.ship(migration, migration.next_round(generation.rows), 0.0)
        await devices.wait(migration)
        await devices.commit(migration, generation.plan.compiled(migration.new))
        generation.placement = migration.new
        await devices.stop_device(2, 0.1, inf)
        generation.now_s = 0.1

    by_hand(plan_of("realtime"), act)


@TIMES
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_device_that_nobody_asked_to_end_is_a_loss_and_ends_the_wait_for_a_token(
    time: str, number: signal.Signals
) -> None:
    async def act(generation: Generation) -> None:
        devices = generation.devices
        await generation.go_on(2)
        pid = devices.process_ids["b-1"]
        os.kill(pid, number)
        while not (losses := devices.take_losses()):
            if (token := await devices.next_token()) is not None:
                generation.note(token.step, token.token, token.at.emulated_s)
                if time == "virtual":  # all that was in flight may have been computed
                    await generation.start(token.step.sequence)
        ((device, at_s, why),) = losses
        assert device == 1
        assert at_s >= generation.now_s
        expected = {signal.SIGKILL: "device b-1 was killed by SIGKILL", signal.SIGSTOP: f"b-1 (process {pid}) has been"}
        assert why.startswith(expected[number])
        assert "b-1" not in devices.process_ids
        await generation.give_up()
        await generation.recover(1, 0, {0: 0, 1: 0})

    by_hand(plan_of(time), act)


@TIMES
def test_without_recovery_a_device_that_is_lost_ends_the_run(time: str) -> None:
    async def act(generation: Generation) -> None:
        await generation.go_on(2)
        os.kill(generation.devices.process_ids["b-1"], signal.SIGKILL)
        for _ in range(9):
            await generation.go_on(1)

    with pytest.raises(RunError, match="device b-1 was killed by SIGKILL"):
        by_hand(plan_of(time, "recovery=none"), act)
    assert device_pids() == []


def test_a_device_that_joins_later_is_not_there_before() -> None:
    async def act(generation: Generation) -> None:
        devices = generation.devices
        assert list(devices.process_ids) == ["a", "b-1"]
        assert (await devices.states(0.0))[2].memory_bytes == 0
        await generation.go_on(1)
        await devices.restart_device(2, generation.now_s)
        assert list(devices.process_ids) == ["a", "b-1", "b-2"]
        await generation.give_up()
        await devices.rewind({}, 0, generation.rows)

    plan = failing(plan_of("virtual"), FaultEvent(Fault(FaultKind.JOIN, (2,)), at_s=1.0))
    owner = {block: 0 if device == 2 else device for block, device in plan.placement.owner.items()}
    by_hand(replace(plan, placement=Placement(owner)), act)
