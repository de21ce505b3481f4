"""Process that tries inputs until its time is over, or an input ends it. Its job comes as an argument, in JSON.

Standard output gets a line of JSON before each round, and for each thing found; `run.py` reads them.
"""

import faulthandler
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import count
from pathlib import Path

from fuzzing.example import HANG_S, InputDirectory, Target, try_input
from fuzzing.inputs import Editor, Files

ROUND = 200  # inputs


@dataclass(frozen=True)
class Job:
    """Work of a worker. With `tried_again` it tries that one input; without, those of its seed."""

    target: str
    files: str  # directory for the files of the input at hand
    findings: str  # directory below which findings are saved
    module: str = "fuzzing.targets"
    seed: int = 0
    first_round: int = 0
    seconds: float = 300.0
    hang_s: float = HANG_S
    tried_again: bool = False


def inputs_of(target: Target, seed: int, number: int, count: int) -> Iterator[Files]:
    """Yield the inputs of a round, the same for the same numbers."""
    editor = Editor(seed, seed * 1_000_003 + number)
    for _ in range(count):
        yield target.make(editor)


def work(job: Job) -> None:
    target: Target = import_module(job.module).TARGETS[job.target]
    files, seen, tried = InputDirectory(Path(job.files)), set(), 0

    def tell(**what: object) -> None:
        print(json.dumps(what), flush=True)

    def try_files() -> None:
        found = try_input(target, files.path, job.hang_s)
        if found is not None and found.what not in seen:
            seen.add(found.what)
            tell(found=asdict(found), path=str(found.save(files.path, Path(job.findings))))

    if job.tried_again:
        tell(round=0, tried=0)
        try_files()
        return
    target.make(Editor(job.seed, 0))  # whatever is made once, before the time begins
    end_s = time.monotonic() + job.seconds
    for number in count(job.first_round):
        tell(round=number, tried=tried)  # that of the input which may end this process
        tried = 0
        for given in inputs_of(target, job.seed, number, ROUND):
            if time.monotonic() > end_s:
                tell(round=number, tried=tried)
                return
            files.write(given)
            try_files()
            tried += 1  # noqa: SIM113 (of rounds)


if __name__ == "__main__":
    faulthandler.enable()
    work(Job(**json.loads(sys.argv[1])))
