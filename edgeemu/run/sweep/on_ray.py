"""Executor of runs on a Ray cluster: each a task with the processors and the memory that it needs.

Knows Ray, which is installed with `edgeemu[ray]`; nothing of what is run.
"""

import logging
import os
import pickle
import signal
import sys
from concurrent.futures import Future
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeemu.errors import InfeasibleError, Interrupted, RequestError, RunError
from edgeemu.report.formats import counted, size
from edgeemu.report.new_file import new_file
from edgeemu.run.sweep.executor import RunExecutor
from edgeemu.run.sweep.identity import software_here
from edgeemu.run.sweep.job import Job, Ran, RunNeed
from edgeemu.run.sweep.ray_task import Returned, run_on_worker

RETRIES = 3  # of a task whose worker or node is lost


class RayExecutor(RunExecutor):
    """Carries out runs as tasks of a Ray cluster, which finds room for them, and tries those again that are lost."""

    def __init__(self, address: str | None) -> None:
        """`address`: as `ray.init` takes it; None: what RAY_ADDRESS says, a cluster on this host, or a new one here.

        Raises:
            RequestError: Ray is not installed.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.exceptions as lost
        except ImportError as error:
            raise RequestError("Ray is not installed: pip install 'edgeemu[ray]'", field="--on") from error
        self._ray: Any = ray
        self._address = address
        self._lost = (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError, lost.ObjectLostError)
        self._to_stderr = redirect_stdout(sys.stderr)  # what Ray says of lost nodes is no answer of a command
        self._rooms: list[dict[str, float]] = []  # resources of the nodes that are alive

    def __enter__(self) -> Self:
        """Connect to the cluster. Raises RunError where there is none at the address."""
        self._to_stderr.__enter__()
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
            self._rooms = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        except BaseException as error:
            self._to_stderr.__exit__(None, None, None)
            if isinstance(error, SystemExit):  # of the handler that Ray has put in place of ours
                raise Interrupted(signal.SIGTERM) from error
            if isinstance(error, (ConnectionError, ValueError, TimeoutError)):
                where = self._address or os.environ.get("RAY_ADDRESS", "this host")
                raise RunError(f"there is no Ray cluster at {where}: {str(error).strip()}") from error
            raise
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()  # which ends the tasks of this driver
        self._to_stderr.__exit__(None, None, None)

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """Exceptions of a task whose worker or node is gone, however often it was tried."""
        return self._lost

    @property
    def most_cpus(self) -> int:
        """Processors of the largest node."""
        return int(max((room.get("CPU", 0) for room in self._rooms), default=0))

    def takes(self, need: RunNeed) -> bool:
        """Tell that there is always room: tasks wait in the cluster."""
        del need
        return True

    def submit(self, job: Job, base: Path) -> "Future[Ran]":
        """Begin a run as soon as a node has room."""
        home: Future[Ran] = Future()
        cpus, memory_bytes = job.need
        if not any(room.get("CPU", 0) >= cpus and room.get("memory", 0) >= memory_bytes for room in self._rooms):
            why = f"no node of the Ray cluster has {counted(cpus, 'CPU')} and {size(memory_bytes)} of memory"
            home.set_result(Ran(None, InfeasibleError(why)))
            return home
        task = self._ray.remote(run_on_worker).options(
            num_cpus=cpus, memory=memory_bytes, max_retries=RETRIES, name=f"edgeemu {job.key}"
        )
        away: Future[Returned] = task.remote(pickle.dumps(job), software_here()).future()
        away.add_done_callback(lambda done: _bring_home(done, job, base, home))
        return home


def _bring_home(away: "Future[Returned]", job: Job, base: Path, home: "Future[Ran]") -> None:
    """Write the records of a run that has ended elsewhere."""
    try:
        files, problem = away.result()
        home.set_result(Ran(None if files is None else _write(files, base, share=job.share), problem))
    except BaseException as error:  # noqa: BLE001 - it is raised where the future is waited for
        home.set_exception(error)


def _write(files: dict[str, bytes], base: Path, *, share: bool) -> Path:
    directory = base / "run"
    directory.mkdir(0o777 if share else 0o700, parents=True)
    for name, content in files.items():
        with new_file(directory / Path(name).name) as file:
            file.write(content)
    return directory
