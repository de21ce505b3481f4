"""Device processes that fail and come back, driven by hand: what is asked of them, and what is told of them."""

import os
import signal
from dataclasses import replace

import pytest
from support.by_hand import TIMES, Generation, by_hand, plan_of
from support.device_pids import device_pids
from support.failing import failing

from edgeemu.cluster.faults import Fault, FaultEvent, FaultKind
from edgeemu.errors import RunError
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.placement import Placement
from edgeemu.timeline.steps import Step


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
