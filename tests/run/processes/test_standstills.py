"""Device processes that stand still, driven by hand: what they hear, and what is heard of them."""

import asyncio
from math import inf

from support.by_hand import TIMES, Generation, by_hand, plan_of
from support.device_pids import device_pids

from edgeemu.host.owner import process_state
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.placement import Placement


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


def test_a_device_that_is_given_up_before_it_would_go_on_does_not_go_on() -> None:
    """The controller may come to that late: what it has asked others meanwhile, the device has not heard."""

    async def act(generation: Generation) -> None:
        devices = generation.devices
        pid = devices.process_ids["b-1"]
        await devices.stop_device(1, 0.0, 0.06)
        assert await devices.next_token(0.1) is None
        assert process_state(pid) == "T"
        generation.now_s = 0.1
        await devices.end_device(1, generation.now_s)
        await generation.give_up()
        await generation.recover(1, 0, {0: 0, 1: 0})

    by_hand(plan_of("realtime", "recovery={caches: reprefill, heartbeat: {interval: 50 ms, misses: 1}}"), act)


def test_what_is_heard_late_of_steps_that_were_given_up_is_not_of_their_next_attempts() -> None:
    """Nobody is left to answer: what was said before is all there is to be heard."""

    async def main() -> None:
        generation = Generation(plan_of("realtime"))
        devices = generation.devices
        async with devices.launched(), asyncio.timeout(60):
            await generation.begin()
            for sequence in generation.tokens:
                await generation.start(sequence)
            await asyncio.sleep(0.5)  # both prompts are computed
            for device in (1, 2):
                await devices.end_device(device, 0.0)
            await devices.stop_device(0, 0.0, inf)
            await generation.give_up()
            generation.tokens, generation.rows = {0: [], 1: []}, {0: 0, 1: 0}
            for sequence in generation.tokens:
                await generation.start(sequence)
            assert await devices.next_token(generation.now_s + 0.5) is None
            assert [devices._reports.latest(sequence).reports for sequence in generation.tokens] == [[], []]
            assert devices.take_losses() == []

    asyncio.run(main())
    assert device_pids() == []


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
