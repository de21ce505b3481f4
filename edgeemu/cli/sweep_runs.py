"""Runs of commands that make many: options, progress, and exit status."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.exit import FAILED, INVALID
from edgeemu.cli.without_pandas import without_pandas
from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgeemu.report.sweep import Cell, SweepDesign, SweptRun
    from edgeemu.run.sweep.executor import RunExecutor
    from edgeemu.run.sweep.points import SweepPoint
    from edgeemu.run.sweep.store import RunStore
    from edgeemu.run.sweep.sweep import Mode, SweepJobs

LOCAL, RAY = "local", "ray"

Seeds = Annotated[
    int,
    typer.Option("--seeds", metavar="N", min=1, help="Runs with other random draws, from the seed of the scenario on."),
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="WHERE",
        help="local: as many runs at once as this host holds; ray, ray://HOST:PORT: tasks of a Ray cluster, for which "
        "pip install edgeemu[ray].",
    ),
]


def carried_out(
    design: SweepDesign,
    points: Sequence[SweepPoint],
    policies: Sequence[str],
    mode: Mode,
    out: Path,
    on: str,
    made: list[SweptRun],
) -> tuple[str, list[Cell]]:
    """Carry out the runs of a design that are not there yet, and tell of each. Return its digest, and its cells.

    All runs are appended to `made` as they end, also those that were there.
    """
    from edgeemu.report.sweep import cells_of
    from edgeemu.run.sweep.store import RunStore
    from edgeemu.run.sweep.sweep import jobs_of

    without_pandas()  # before processes are forked
    with RunStore(out) as store, _executor(on, points) as executor:
        jobs = jobs_of(points, policies, design, mode, executor.most_cpus)
        made += jobs.left_out
        for run in _told(jobs, design, executor, store):
            made.append(run)
        return jobs.digest(design.judged), cells_of(design, made)


def _executor(on: str, points: Sequence[SweepPoint]) -> RunExecutor:
    """Return what carries out the runs, by the option `--on`. Raises RequestError."""
    if on == LOCAL:
        from edgeemu.run.sweep.local import LocalExecutor
        from edgeemu.run.sweep.needs import this_host

        return LocalExecutor(this_host())
    if on != RAY and not on.startswith(f"{RAY}://"):
        raise RequestError(f'"{on}" is none of {LOCAL}, {RAY} and {RAY}://HOST:PORT', field="--on")
    from edgeemu.run.sweep.on_ray import RayExecutor

    if any(device.host_fraction is not None for point in points for device in point.scenario.devices):
        raise RequestError(
            "devices that are a share of the host (host_fraction) differ from node to node", field="--on"
        )
    return RayExecutor(None if on == RAY else on)


def _told(jobs: SweepJobs, design: SweepDesign, executor: RunExecutor, store: RunStore) -> Iterator[SweptRun]:
    """Yield the runs as they end, and tell of those that were not there yet."""
    from edgeemu.cli.sweep_progress import sweep_progress
    from edgeemu.report.sweep_tables import run_text
    from edgeemu.run.sweep.sweep import swept_runs

    with sweep_progress(sys.stderr, len(jobs.jobs), time.monotonic) as progress:
        if complete := sum(store.find(job.key) is not None for job in jobs.jobs):
            progress.reused(complete)
        try:
            for reused, found in swept_runs(jobs, executor, store):
                yield from found
                if not reused:
                    progress.ended(run_text(design, found[0]), stays=found[0].problem is None)
        except RequestError:
            raise  # the same command would end with it again
        except BaseException:
            progress.broken_off()
            raise


def leave(design: SweepDesign, cells: Sequence[Cell]) -> None:
    """Leave with the exit status of many runs. One without a placement is a finding, unless every run is without one.

    Raises typer.Exit where it is not 0.
    """
    from edgeemu.report.sweep import tokens_equal

    runs = [run for cell in cells for run in cell.runs.values()]
    status = INVALID if any(run.certificate == "INVALID" for run in runs) else 0
    if all(run.problem is not None for run in runs):
        status = max(run.status for run in runs)
    if any(run.status == FAILED for run in runs) or not (design.simulated or tokens_equal(runs)):
        status = FAILED
    if status:
        raise typer.Exit(status)
