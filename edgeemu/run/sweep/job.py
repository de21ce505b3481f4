"""A run that another process carries out, wherever that is. Can be pickled; knows no executor."""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgeemu.errors import EdgeemuError
from edgeemu.host.limits import check_threads
from edgeemu.host.until_signal import until_signal
from edgeemu.run.few_collections import few_collections
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.scenario import Scenario


class RunNeed(NamedTuple):
    """Processors and memory that a run needs so that its figures are not spoiled by others beside it."""

    cpus: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be carried out. `key` names its records: equal keys, equal figures. `policy` None: the scenario's."""

    key: str
    scenario: Scenario
    policy: str | None
    simulate: bool
    trust: bool
    share: bool
    need: RunNeed


class Ran(NamedTuple):
    """Outcome of a job: the directory of its records, and the problem of a run that failed or never began."""

    directory: Path | None
    problem: EdgeemuError | None = None


def carry_out(job: Job, base: Path) -> Ran:
    """Carry out a run in this process. Its records are in a directory below `base`, which is made for it.

    Raises:
        Interrupted: a signal ended it.
    """
    shutil.rmtree(base, ignore_errors=True)  # of an attempt that was lost
    base.mkdir(parents=True)
    try:
        check_threads()
        running = run_scenario(
            job.scenario,
            policy=job.policy,
            out=base,
            observer=Silent(),
            simulate=job.simulate,
            trust=job.trust,
            share=job.share,
        )
        with few_collections() if job.simulate else nullcontext():
            return Ran(until_signal(running).directory)
    except EdgeemuError as error:
        return Ran(next(base.iterdir(), None), error)
