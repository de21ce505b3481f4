"""Device processes on which one plan after the other can be run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from support.watching import RecordedRun


@asynccontextmanager
async def cluster(
    plan: Plan, devices: ProcessBackend | None = None
) -> AsyncIterator[Callable[[Plan], Awaitable[RecordedRun]]]:
    """Device processes. Told to end after a run that went well: the grace for those that are not takes a second."""
    well = False
    devices = devices or ProcessBackend(plan, Silent().phase, keep_logits=True)

    async def run(changed: Plan) -> RecordedRun:
        nonlocal well
        well = False
        await devices.assign(changed)
        controller = RecordedRun(changed, devices)
        await controller.run_requests()
        well = True
        return controller

    async with devices.launched():
        yield run
        if well:
            await devices.end()


async def run_side_by_side(plans: Sequence[Plan], check: Callable[[Plan, RecordedRun], None]) -> None:
    """Run every plan on one of two clusters, and check its outcome. For unpaced plans of the same devices.

    The devices of one cluster wait for each other most of the time, so two take little longer than one.
    """
    left = iter(plans)

    async def take_turns() -> None:
        async with cluster(plans[0]) as run:
            for plan in left:
                check(plan, await run(plan))

    async with asyncio.TaskGroup() as both:
        for _ in range(2):
            both.create_task(take_turns())
