"""Fuzz the readers of files and messages of others: model files, scenarios, traces, prompts, messages, records.

    python tools/fuzz.py                            every target for five minutes
    python tools/fuzz.py gguf yaml --seconds 60     two of them
    python tools/fuzz.py --seed 7                   other inputs; a seed gives the same inputs in the same order
    python tools/fuzz.py --reproduce .fuzz/gguf/0123456789ab

An input that ends in an error which its reader does not declare, takes over 5 s, takes over 200 MB beyond its own size,
or ends the process, is saved below .fuzz/TARGET/, with what it did in finding.txt. Exit status 1 if there is any.
Files that it is tried with are in `input` of that directory.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock

from fuzzing.run import Outcome, run_target, try_again
from fuzzing.targets import TARGETS
from fuzzing.worker import Job

OUT = Path(__file__).parents[1] / ".fuzz"
SAY_EACH_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all, if none is given"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="time for each target (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs (default: %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="targets at a time (default: the cores)"
    )
    parser.add_argument("--reproduce", type=Path, metavar="DIRECTORY", help="try one saved input again")
    given = parser.parse_args()
    unknown = set(given.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if given.reproduce is not None:
        return reproduce(given.reproduce, parser)
    return fuzz(given.targets or list(TARGETS), Job("", "", "", seed=given.seed, seconds=given.seconds), given.jobs)


def reproduce(directory: Path, parser: argparse.ArgumentParser) -> int:
    target = directory.resolve().parent.name
    if target not in TARGETS or not (directory / "input").is_dir():
        parser.error(f"{directory} is not .fuzz/TARGET/NUMBER, with a directory `input` in it")
    outcome = try_again(Job(target, str((directory / "input").resolve()), ""))
    print(f"{target}: {', '.join(outcome.found) or 'nothing found any more'}")
    return 1 if outcome.found else 0


def fuzz(targets: list[str], job: Job, jobs: int) -> int:
    lock, ending = Lock(), Event()

    def one(target: str) -> Outcome:
        out = OUT / target
        out.mkdir(parents=True, exist_ok=True)
        said: set[str] = set()
        begin_s = said_s = time.monotonic()

        def say(outcome: Outcome, *, last: bool = False) -> None:
            nonlocal said_s
            if ending.is_set():
                raise KeyboardInterrupt  # the worker ends when it next has something to tell
            now_s = time.monotonic()
            with lock:
                for what in outcome.found.keys() - said:
                    print(f"{target}: {what}\n    python tools/fuzz.py --reproduce {outcome.found[what]}", flush=True)
                if last or now_s > said_s + SAY_EACH_S:
                    rate = outcome.tried / max(1e-9, now_s - begin_s)
                    inputs = f"{outcome.tried:,} inputs, {rate:,.0f} a second"
                    print(f"{target}: {inputs}, {len(outcome.found)} found{'' if last else ' …'}", flush=True)
                    said_s = now_s
            said.update(outcome.found)

        outcome = run_target(replace(job, target=target, findings=str(out)), say)
        say(outcome, last=True)
        return outcome

    print(f"{len(targets)} targets, {job.seconds:g} s each, {jobs} at a time, seed {job.seed}", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            outcomes = list(pool.map(one, targets))
        except KeyboardInterrupt:
            ending.set()
            return 130
    return 1 if any(outcome.found for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
