"""`edgeemu profile links`: the devices of a scenario are launched, and their links measured."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from edgeemu.errors import InfeasibleError
from edgeemu.host.available_memory import available_memory
from edgeemu.host.signals import interrupted_at_once
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.report.link_certificate import profile_document
from edgeemu.run.choose_links import choose_links
from edgeemu.run.host_memory import why_not_here
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
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
    with interrupted_at_once():  # planning does not return to the event loop
        made = make_plan(scenario, policy, trust=trust)
    with closing(made) as plan:
        if why_not := why_not_here(plan, available_memory()):
            raise InfeasibleError(why_not)
        return await _measured(plan, on_phase)


async def _measured(plan: Plan, on_phase: Callable[[str, int, int], None]) -> dict[str, Any]:
    links = choose_links(plan.scenario, plan.cluster, simulate=False, probe=probe_host)
    devices = ProcessBackend(plan, on_phase, links=links)
    async with devices.launched():
        await devices.assign(plan)
        await devices.begin()
        tests = devices.measured.link_tests or await devices.test_links()
        await devices.end()
    return profile_document(links.kind, links.why_not_kernel, devices.dilation, tests)
