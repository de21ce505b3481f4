"""Plan of a run while it is carried out: made so that a signal ends it, checked against this host, closed."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from edgeemu.errors import InfeasibleError, RunError
from edgeemu.host.available_memory import available_memory
from edgeemu.host.signals import interrupted_at_once
from edgeemu.run.host_memory import why_not_here
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.policy_process.separate_policy import PolicyError
from edgeemu.scenario.scenario import Scenario

OF_ONE_RUN = (InfeasibleError, RunError, PolicyError)  # problems that leave the other runs of a comparison as they are


@contextmanager
def planned(scenario: Scenario, policy: str | None, *, trust: bool, on_devices: bool) -> Iterator[Plan]:
    """Make a plan, and close it at the end of the block. `on_devices`: this host has to hold what the devices hold.

    Raises:
        RequestError, InfeasibleError, RunError: as `make_plan`; the second also if this host has too little memory.
    """
    with interrupted_at_once():  # planning does not return to the event loop
        made = make_plan(scenario, policy, trust=trust)
    with closing(made) as plan:
        if on_devices and (why_not := why_not_here(plan, available_memory())):
            raise InfeasibleError(why_not)
        yield plan
