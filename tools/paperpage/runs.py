"""Runs of scenarios/papers/*.yaml and their figures. Knows run_scenario; judges nothing.

A job is a value, so that what several claims need runs once. Jobs are independent, and run as many at once as there are
cores. Nothing of the host's speed is in a figure: scenarios give decisions no time, and real runs are in virtual time.
"""

import asyncio
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from edgeemu.errors import InfeasibleError
from edgeemu.run.compare import bounds
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import load_scenario
from edgeemu.scenario.scenario import Scenario

ROOT = Path(__file__).parents[2]
FOLDER = Path("scenarios/papers")
POSSIBLE = "possible"  # in place of a policy: the figures that none can beat, proven
LATE = ("did not answer within", "no proven optimum")  # what a policy says that this host did not give enough time


class Job(NamedTuple):
    """One run: a file of `FOLDER`, a policy, settings as `--set` takes them; on real devices, or simulated."""

    file: str
    policy: str
    settings: tuple[str, ...] = ()
    real: bool = False

    def scenario(self, extra: Iterable[str] = ()) -> Scenario:
        return load_scenario(ROOT / FOLDER / self.file, [*self.settings, *extra])

    def command(self) -> str:
        """Command line for the same run."""
        words = ["edgeemu", "run" if self.real else "simulate", str(FOLDER / self.file), "--policy", self.policy]
        return shlex.join([*words, *(word for setting in self.settings for word in ("--set", setting))])


class Outcome(NamedTuple):
    """Figures of one run; only `problem`, where the cluster cannot hold the model that way."""

    problem: str = ""
    tokens: int = 0
    ttft_s: float = 0.0  # mean over the sequences
    tpot_s: float = 0.0  # mean over all later tokens, what they waited for migrations included
    throughput: float = 0.0  # tokens per second, all sequences together
    moved_blocks: int = 0
    moving_s: float = 0.0
    peak_bytes: tuple[int, ...] = ()  # by device
    cap_bytes: tuple[int, ...] = ()
    idle: tuple[float, ...] = ()  # share of the time in which a device that had work computed nothing

    @property
    def total_s(self) -> float:
        """From the first prompt to the last token."""
        return self.tokens / self.throughput


class TooSlowError(Exception):
    """This host was so slow that a policy was cut off: figures would depend on it."""


def run(job: Job, extra: tuple[str, ...] = ()) -> Outcome:
    """Runs a job, with further settings if wanted, and keeps its figures only.

    Raises:
        TooSlowError: the host cut off a policy.
        EdgeemuError: anything but an infeasible placement.
    """
    scenario = job.scenario(extra)
    if job.policy == POSSIBLE:
        return _possible(scenario)
    out = Path(tempfile.mkdtemp(prefix="edgeemu-papers-"))
    try:
        result = asyncio.run(
            run_scenario(scenario, policy=job.policy, out=out, observer=Silent(), simulate=not job.real)
        )
    except InfeasibleError as error:
        return Outcome(problem=str(error).splitlines()[0])
    finally:
        shutil.rmtree(out, ignore_errors=True)
    summary = result.summary
    if late := [problem for problem in summary["decisions"]["problems"] if any(sign in str(problem) for sign in LATE)]:
        raise TooSlowError(f"{job.command()}: {late[0]}")
    devices = summary["memory"]["by_device"].values()
    return Outcome(
        tokens=sum(map(len, summary["tokens"])),
        ttft_s=summary["ttft_ms"]["mean"] / 1e3,
        tpot_s=(summary["tpot_ms"]["mean"] or 0.0) / 1e3,
        throughput=summary["throughput_tok_s"],
        moved_blocks=summary["migrations"]["count"],
        moving_s=summary["migrations"]["ms"] / 1e3,
        peak_bytes=tuple(device["peak_bytes"] for device in devices),
        cap_bytes=tuple(device["cap_bytes"] for device in devices),
        idle=tuple(summary["idle"]["by_device"].values()),
    )


def _possible(scenario: Scenario) -> Outcome:
    """Figures that no placement can beat, on the cluster at its best: without load, with the fastest links it has."""
    found = bounds(scenario)
    if found is None:
        return Outcome(problem="nothing fits")
    prompts, each = len(scenario.workload.prompts), scenario.workload.max_tokens
    total_s = max(prompts * each / found.throughput_tok_s, found.ttft_s + (each - 1) * found.tpot_s)
    return Outcome(tokens=prompts * each, ttft_s=found.ttft_s, tpot_s=found.tpot_s, throughput=prompts * each / total_s)


def run_all(jobs: Iterable[Job], progress: Callable[[int, int, Job], None]) -> dict[Job, Outcome]:
    """Every job once. Real runs have the host to themselves; the others share its cores."""
    wanted = list(dict.fromkeys(jobs))
    found: dict[Job, Outcome] = {}
    for job in wanted:
        if job.real:
            found[job] = run(job)
            progress(len(found), len(wanted), job)
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        running = {pool.submit(run, job): job for job in wanted if not job.real}
        try:
            for done in as_completed(running):
                found[running[done]] = done.result()
                progress(len(found), len(wanted), running[done])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _quiet() -> None:
    """HiGHS prints debugging lines; errors come back as exceptions."""
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)


Found = Mapping[Job, Outcome]
