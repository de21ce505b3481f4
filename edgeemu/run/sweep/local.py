"""Executor of runs on this host: as many processes at once as its processors and its memory hold."""

import multiprocessing
import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeemu.errors import Interrupted
from edgeemu.host.prctl import SET_PDEATHSIG, prctl
from edgeemu.run.sweep.executor import RunExecutor
from edgeemu.run.sweep.job import Job, Ran, RunNeed, carry_out

PATIENCE_S = 5.0  # with each worker: for the records of a run that is ended


class LocalExecutor(RunExecutor):
    """Carries out runs in processes that are forked when everything is imported, and that end with this one."""

    lost = (BrokenProcessPool,)

    def __init__(self, room: RunNeed) -> None:
        """`room`: the processors and the memory of this host."""
        self._room = room
        self._pool: ProcessPoolExecutor | None = None
        self._workers: list[BaseProcess] = []
        self._under_way: dict[Future[Ran], RunNeed] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._end_workers()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _end_workers(self) -> None:
        """End workers, by force those that do not end by themselves: a queue that they share may be locked for ever."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(PATIENCE_S)
            worker.kill()

    @property
    def most_cpus(self) -> int:
        """Processors of this host."""
        return self._room.cpus

    def takes(self, need: RunNeed) -> bool:
        """Whether there is room for one more run now. One alone is always taken: it says itself if it does not fit."""
        self._under_way = {future: need for future, need in self._under_way.items() if not future.done()}
        if not self._under_way:
            return True
        cpus, memory_bytes = map(sum, zip(need, *self._under_way.values(), strict=True))
        return cpus <= self._room.cpus and memory_bytes <= self._room.memory_bytes

    def submit(self, job: Job, base: Path) -> "Future[Ran]":
        """Begin a run, in a new pool if a worker of the one before was killed."""
        try:
            future = (self._pool or self._start()).submit(_in_worker, job, base)
        except BrokenProcessPool:
            future = self._start().submit(_in_worker, job, base)
        self._under_way[future] = job.need
        return future

    def _start(self) -> ProcessPoolExecutor:
        """Start a pool. Forked and not spawned: nothing is imported again, and no helper of Python's stays behind."""
        if self._pool is not None:
            self._pool.shutdown()
        before = multiprocessing.active_children()
        self._pool = ProcessPoolExecutor(
            self._room.cpus, multiprocessing.get_context("fork"), initializer=_settle, initargs=(os.getpid(),)
        )
        self._pool.submit(os.getpid).result()  # all of its processes are forked now
        self._workers = [child for child in multiprocessing.active_children() if child not in before]
        return self._pool


def _settle(parent: int) -> None:
    """Have a worker end by SIGTERM alone, and with its parent: the terminal's signals are for the parent to handle."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prctl(SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def _in_worker(job: Job, base: Path) -> Ran:
    try:
        ran = carry_out(job, base)
    except Interrupted as ended:
        os._exit(ended.status)  # and not on with the next run
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # `is_alive` is true while any of its workers lives
        os._exit(1)  # the signal that says so came when the run had just ended, and changed nothing
    return ran
