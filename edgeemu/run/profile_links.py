"""`edgeemu profile links`: the devices of a scenario are launched, and their links measured."""

from collections.abc import Callable
from typing import Any

from edgeemu.links.netns.capabilities import probe_host
from edgeemu.report.link_certificate import profile_document
from edgeemu.run.choose_links import choose_links
from edgeemu.run.planned import planned
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.scenario.scenario import Scenario


async def profile_links(
    scenario: Scenario, policy: str | None, on_phase: Callable[[str, int, int], None], *, trust: bool = False
) -> dict[str, Any]:
    """Measure one link of each kind that a run of the scenario would use, as the run would use it.

    Raises:
        RequestError, InfeasibleError: as a run does.
        RunError: a device died, or the kernel's links could not be made.
    """
    if scenario.time.mode == "virtual":
        raise scenario.error(
            "time.mode", "links are measured against the wall clock, which virtual does not have; use realtime"
        )
    with planned(scenario, policy, trust=trust, on_devices=True) as plan:
        links = choose_links(plan.scenario, plan.cluster, simulate=False, probe=probe_host)
        devices = ProcessBackend(plan, on_phase, links=links)
        async with devices.launched():
            await devices.assign(plan)
            await devices.begin()
            tests = devices.measured.link_tests or await devices.test_links()
            await devices.end()
        return profile_document(links.kind, links.why_not_kernel, devices.dilation, tests)
