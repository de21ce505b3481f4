"""A run as a task of a Ray cluster: the job arrives in bytes, and so do the records go home.

Loaded by Ray's worker before anything else of edgeemu: it imports nothing that reads how many threads it may have.
"""

import os
from typing import TYPE_CHECKING

from edgeemu.host.limits import ONE_THREAD

if TYPE_CHECKING:
    from edgeemu.errors import EdgeemuError

Returned = tuple[dict[str, bytes] | None, "EdgeemuError | None"]


def run_on_worker(pickled_job: bytes, software: str) -> Returned:
    """Carry out a run in a directory that is then removed; return its files by their names, and its problem.

    `software` is what the host that asks for it runs: with another edgeemu, figures would be others.
    """
    os.environ.update(ONE_THREAD)
    import pickle
    import tempfile
    from pathlib import Path

    from edgeemu.errors import RequestError
    from edgeemu.run.sweep.identity import software_here
    from edgeemu.run.sweep.job import carry_out

    if software_here() != software:
        return None, RequestError(
            f"a worker of the Ray cluster has edgeemu {software_here()}, and this host {software}"
        )
    with tempfile.TemporaryDirectory(prefix="swept-") as base:
        ran = carry_out(pickle.loads(pickled_job), Path(base) / "run")
        if ran.directory is None:
            return None, ran.problem
        return {path.name: path.read_bytes() for path in ran.directory.iterdir()}, ran.problem
