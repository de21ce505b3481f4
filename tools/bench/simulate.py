"""Processor time of `edgeemu simulate` on large clusters. Exits with 1 if a simulation takes longer than it may.

Each simulation is a command of its own, so that its start and its records count too. Its modules have bytecode, as
where it is installed: a first command writes it. The least of three counts; on an idle host, wall time is no longer.
Beside it is a plain reference, measured right after it: a loop of Python that takes as many events from a heap as the
simulation has operations and messages, and puts a tuple in a list for each. Its ratio says how much of the time is more
than events need at least.
"""

import argparse
import sys
import tempfile
import time
from heapq import heappop, heappush
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from measure import SCENARIOS, Figure, command_s, report

HUNDRED = ("--set", "devices[0].count=100", "--set", "model.shape.n_layers=8")
ROUNDS = 3
CASES = {  # arguments, and at most so many seconds
    "1,000 devices, 80 layers, lookahead": (("--policy", "lookahead"), 6.0),
    "1,000 devices, 80 layers, resource-aware": (("--policy", "resource-aware"), 9.0),
    "100 devices, 8 layers, lookahead": (("--policy", "lookahead", *HUNDRED), 1.0),
}


def simulated_s(arguments: tuple[str, ...], out: Path) -> tuple[float, int]:
    """Simulate 100 tokens of scenarios/thousand.yaml. Returns processor time, and the number of events."""
    with tempfile.TemporaryDirectory(dir=out) as runs:
        scenario = str(SCENARIOS / "thousand.yaml")
        took_s = command_s("simulate", scenario, *arguments, "--out", runs, "--json", bytecode=out / "bytecode")
        (directory,) = Path(runs).iterdir()
        messages = pc.sum(pq.read_table(directory / "links.parquet")["messages"]).as_py() or 0
        events = pq.read_metadata(directory / "ops.parquet").num_rows + messages
    return took_s, events


def reference_s(events: int) -> float:
    """Processor time of a heap's loop over as many events, a thousand of them waiting at a time."""
    began_s = time.process_time()
    waiting = [(float(n), n) for n in range(1000)]
    done = []
    for n in range(events):
        at_s, _ = heappop(waiting)
        heappush(waiting, (at_s + 1.0, n))
        done.append((n, at_s, at_s + 1.0))
    return time.process_time() - began_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Print figures as JSON.")
    as_json = parser.parse_args().json
    found = []
    with tempfile.TemporaryDirectory() as out:
        simulated_s(HUNDRED, Path(out))
        for name, (arguments, limit_s) in CASES.items():
            took_s, events = min(simulated_s(arguments, Path(out)) for _ in range(ROUNDS))
            ratio = took_s / reference_s(events)
            found.append(Figure(f"{name}: {events} events, {ratio:.1f} times a plain loop", took_s, limit_s, "s"))
    return report(found, as_json)


if __name__ == "__main__":
    sys.exit(main())
