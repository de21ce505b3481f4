"""Steps on device processes: whose reports are awaited."""

import asyncio
from pathlib import Path

from support.several import make

from edgeemu.errors import RunError
from edgeemu.run.processes.presence import Presence
from edgeemu.run.processes.session import Session
from edgeemu.run.processes.step_reports import StepReports
from edgeemu.timeline.steps import Step

LIMIT_S = 5.0


def test_nothing_is_expected_for_a_step_that_was_given_up_beside_a_device_that_stood_still(tmp_path: Path) -> None:
    """It was not given up itself yet; when it is back, in another process, the step may still be observed."""

    async def main() -> None:
        plan = make()
        presence = Presence([device.name for device in plan.cluster.devices])
        session = Session(tmp_path, asyncio.Queue(), presence, lambda _: None, lambda *_: RunError("it died"))
        reports = StepReports(session, None)
        step = reports.started(Step(0, 0, 7, 0), plan.program)
        presence.stands_still(1, for_good=True)
        reports.give_up()
        presence.left(1)
        reports.write_off(1)
        presence.joined(1, 1)
        async with asyncio.timeout(LIMIT_S):
            await reports.complete([step])

    asyncio.run(main())
