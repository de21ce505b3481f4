"""One scenario gives one result, on an idle and on a fully loaded host. Exits with 1 where it does not.

Each scenario runs once as it is, and once with a busy process for each processor; in the simulator, and on device
processes in virtual time (`--only simulate` for one of them). Every key of the two summaries is compared. What differs
is a miss and is printed, unless it is a time that this host took, what is judged by such a time, or real memory.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import SCENARIOS, edgeemu

CASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lan-25.yaml", ()),
    ("slowdown.yaml", ()),
    ("quickstart.yaml", ("policy=lookahead", "workload.concurrency=3", "workload.max_tokens=12")),
    ("tight-5.yaml", ("policy=lookahead", "workload.max_tokens=12")),
)
OF_THE_HOST = (  # keys that are times that this host took, its memory, or what is said of them
    *("controller_ms", "decisions.of_token", "ready_s", "loaded_s", "wall", "directory", "certificate.host"),
    *("certificate.reasons", "certificate.verdict", "links"),
    *("resident_bytes", "baseline_bytes", "group_peak_bytes"),
)
BUSY = "import time\nends = time.monotonic() + 600\nwhile time.monotonic() < ends: pass"


@contextmanager
def busy_host() -> Iterator[None]:
    """A busy process for each processor; each ends by itself, at the latest after ten minutes."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys, by path, at which two documents differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif one != other:
        yield path, one, other


def of_the_host(path: str) -> bool:
    """Whether a key is about this host."""
    return any(path == key or path.startswith(f"{key}.") or path.endswith(f".{key}") for key in OF_THE_HOST)


def equal(command: str, scenario: str, settings: Sequence[str]) -> bool:
    """Run a scenario on the host as it is and on a busy one; print and return whether the summaries are equal."""
    words = [word for setting in settings for word in ("--set", setting)]
    idle = edgeemu(command, scenario, *words)
    with busy_host():
        loaded = edgeemu(command, scenario, *words)
    for made in (idle, loaded):
        del made["records"]  # which have the clock
    wrong = [each for each in differences(idle, loaded) if not of_the_host(each[0])]
    print(f"{'MISS' if wrong else 'ok  '}  {command} {Path(scenario).name}: {idle['tpot_ms']['mean']:.3f} ms per token")
    for host, made in (("as it is", idle), ("busy", loaded)):
        took, share = made["controller_ms"]["mean"], made["decisions"]["of_token"]
        print(
            f"      {host}: {took:.2f} ms of processor time a decision, {share:.2%}: {made['certificate']['verdict']}"
        )
    for path, one, other in wrong:
        print(f"      {path}: {str(one)[:100]} / {str(other)[:100]}")
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("simulate", "run"), help="one of the two")
    parser.add_argument("scenarios", nargs="*", help="scenario files; default: a few of the project's")
    options = parser.parse_args()
    given: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in options.scenarios]
    cases = given or [(str(SCENARIOS / name), settings) for name, settings in CASES]
    missed = False
    for name, settings in cases:
        for command in ("simulate", "run") if options.only is None else (options.only,):
            missed |= not equal(command, name, (*settings, "time.mode=virtual"))
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
