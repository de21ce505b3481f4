"""Workers for one target, one after the other: each ends when its time is over, or with an input that ends it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fuzzing.example import OWN, Finding
from fuzzing.worker import Job

TOOLS = Path(__file__).parents[1]


class WorkerError(Exception):
    """A worker ended before it tried anything."""


@dataclass
class Outcome:
    """Result of the workers for a target, by now."""

    tried: int = 0
    found: dict[str, Path] = field(default_factory=dict)  # what it is -> where the input is


def run_target(job: Job, tell: Callable[[Outcome], None], path: str = str(TOOLS)) -> Outcome:
    """Try inputs for `job.seconds`. `tell` is called as things change; `path` is where workers import from.

    Raises WorkerError if a worker cannot begin.
    """
    outcome, end_s = Outcome(), time.monotonic() + job.seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        files = Path(scratch) / "input"
        files.mkdir()
        while True:
            rest = replace(job, files=str(files), seconds=max(0.0, end_s - time.monotonic()))
            next_round = _run_worker(rest, outcome, lambda: tell(outcome), Path(scratch) / "stderr", path)
            if next_round is None or time.monotonic() > end_s:
                return outcome
            job = replace(job, first_round=next_round)


def try_again(job: Job, path: str = str(TOOLS)) -> Outcome:
    """Try the one input in the directory `job.files`."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        stderr = Path(scratch) / "stderr"
        _run_worker(replace(job, tried_again=True, findings=scratch), outcome, lambda: None, stderr, path)
        print(stderr.read_text(errors="replace"), end="")
        for kept in Path(scratch).glob("*/finding.txt"):
            print(kept.read_text())
    return outcome


def _run_worker(job: Job, outcome: Outcome, changed: Callable[[], None], stderr: Path, path: str) -> int | None:
    """Run one worker to its end. Returns the number of the round after the one whose input ended it, or None."""
    command = [sys.executable, "-m", "fuzzing.worker", json.dumps(asdict(job))]
    environment = {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"}
    at = None
    with (
        stderr.open("wb") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, env=environment, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if "found" in said:
                outcome.found[said["found"]["what"]] = Path(said["path"])
            else:
                at = said["round"]
                outcome.tried += said["tried"]
            changed()
    if process.returncode == 0:
        return None
    trace = stderr.read_text(errors="replace")
    if at is None or process.returncode == -signal.SIGINT:
        raise WorkerError(f"the worker for {job.target} ended with status {process.returncode}\n{trace}")
    finding = ended_by(process.returncode, trace)
    outcome.found[finding.what] = finding.save(Path(job.files), Path(job.findings))
    changed()
    return at + 1


def ended_by(status: int, trace: str) -> Finding:
    """The finding of an input that ended its worker."""
    lines = [line.strip() for line in trace.splitlines()]
    own = [line for line in lines if line.removeprefix('File "').startswith(OWN)]
    place = f": {own[0]}" if own else ""
    if status == -signal.SIGPROF or "Timeout (0:" in trace:
        return Finding(f"hang{place}", trace)
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return Finding(f"the process ended, {name}{place}", trace)
