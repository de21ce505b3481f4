"""The loop over all runs of a sweep: what is kept already, what is to be done, what was lost and is tried again."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import NamedTuple

from edgeemu.errors import EdgeemuError, RunError
from edgeemu.run.planned import OF_ONE_RUN
from edgeemu.run.sweep.executor import RunExecutor
from edgeemu.run.sweep.job import Job, Ran
from edgeemu.run.sweep.store import RunStore

LOST = (
    "the process of the run was killed, also when it ran alone (if for want of memory, the kernel's log says so: dmesg)"
)


class EndedRun(NamedTuple):
    """A run that has ended: the directory of its records, or the problem it had. `reused`: it was complete before."""

    key: str
    directory: Path | None
    problem: EdgeemuError | None = None
    reused: bool = False


def all_runs(jobs: Sequence[Job], executor: RunExecutor, store: RunStore) -> Iterator[EndedRun]:
    """Yield all runs, first those that are complete already. Jobs of one key are one run.

    A run whose worker is lost is tried once more, alone: then it is known whose fault it was.

    Raises:
        RequestError: the scenario is wrong, whatever the policy.
        RecordsError: the disk refuses records.
    """
    waiting: deque[Job] = deque()
    for job in {job.key: job for job in jobs}.values():
        if (kept := store.find(job.key)) is None:
            waiting.append(job)
        else:
            yield EndedRun(job.key, kept, reused=True)
    lost: deque[Job] = deque()
    alone: set[str] = set()
    running: dict[Future[Ran], Job] = {}
    while waiting or running or lost:
        if not waiting and not running:
            waiting.append(lost.popleft())
            alone.add(waiting[0].key)
        while waiting and executor.takes(waiting[0].need):
            job = waiting.popleft()
            running[executor.submit(job, store.under_way / job.key)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            try:
                yield _kept(job.key, future.result(), store)
            except executor.lost:
                if job.key in alone:
                    yield EndedRun(job.key, None, RunError(LOST))
                else:
                    lost.append(job)


def _kept(key: str, ran: Ran, store: RunStore) -> EndedRun:
    """Take the records of a run in. Raises what is no problem of this run alone."""
    if ran.problem is not None and not isinstance(ran.problem, OF_ONE_RUN):
        raise ran.problem
    if ran.directory is None:
        return EndedRun(key, None, ran.problem)
    if ran.problem is not None:
        return EndedRun(key, store.keep_failed(key, ran.directory), ran.problem)
    return EndedRun(key, store.keep(key, ran.directory))
