"""Processor time of `edgeemu plan`. Exits with 1 if a plan takes longer than it may.

Each plan is a command of its own, so that its start counts too. Its modules have bytecode, as where it is installed: a
first command writes it. The least of three counts; on an idle host, wall time is no longer.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from measure import SCENARIOS, Figure, command_s, report

ROUNDS = 3
CASES = {  # arguments, and at most so many seconds
    "25 devices, all in every layer, 32 tokens": ((str(SCENARIOS / "lan-25.yaml"), "--policy", "galaxy"), 1.7),
    "the same, 500 tokens": (
        (str(SCENARIOS / "lan-25.yaml"), "--policy", "galaxy", "--set", "workload.max_tokens=500"),
        2.5,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Print figures as JSON.")
    as_json = parser.parse_args().json
    found = []
    with tempfile.TemporaryDirectory() as bytecode:
        command_s("plan", str(SCENARIOS / "quickstart.yaml"), bytecode=Path(bytecode))
        for name, (arguments, limit_s) in CASES.items():
            took_s = min(command_s("plan", *arguments, bytecode=Path(bytecode)) for _ in range(ROUNDS))
            found.append(Figure(name, took_s, limit_s, "s"))
    return report(found, as_json)


if __name__ == "__main__":
    sys.exit(main())
