"""Processors and memory that runs need, for as many at once as leave each other's figures alone. Starts nothing."""

import os

from edgeemu.errors import EdgeemuError
from edgeemu.host.available_memory import available_memory
from edgeemu.run.host_memory import needed_bytes
from edgeemu.run.planned import planned
from edgeemu.run.sweep.job import RunNeed
from edgeemu.scenario.scenario import Scenario

# Measured: peaks of simulations with 5, 25 and 1,000 devices are 165 to 182, 186 and 230 MB.
SIMULATION_BYTES = 192 * 2**20
PAIR_BYTES = 64  # of two devices


def this_host() -> RunNeed:
    """Read what runs can have here: the processors that this process may use, and the memory that is available."""
    return RunNeed(len(os.sched_getaffinity(0)), available_memory().available_bytes)


def need_of(scenario: Scenario, policy: str | None, *, simulate: bool, trust: bool, most_cpus: int) -> RunNeed:
    """Return what a run needs. `most_cpus`: the processors of the largest host that may have it.

    A simulation takes one processor. In virtual time nothing waits for the clock, and devices may share one. Paced
    devices have one each, and the controller one: with fewer, their certificate would tell of the runs beside them. So
    would the kernels of devices that are a share of the host: they have all.
    """
    devices = len(scenario.device_names)
    if simulate:
        return RunNeed(1, SIMULATION_BYTES + PAIR_BYTES * devices**2)
    relative = any(spec.host_fraction is not None for spec in scenario.devices)
    cpus = most_cpus if relative else 1 if scenario.time.mode == "virtual" else devices + 1
    if 2 * cpus > most_cpus:
        return RunNeed(most_cpus, 0)  # no other beside it: it compares its memory with that of its host itself
    try:
        with planned(scenario, policy, trust=trust, on_devices=False) as plan:
            return RunNeed(cpus, needed_bytes(plan))
    except EdgeemuError:
        return RunNeed(most_cpus, 0)  # the run says why
