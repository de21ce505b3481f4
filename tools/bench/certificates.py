"""Certificates of the project's own scenarios, on a calm host and beside two busy loops.

    python tools/bench/certificates.py [--busy-only | --calm-only] [--repeats N]

With automatic dilation each has to PASS on a calm host; run it on one. Beside two busy loops the figures are the same
(TPOT within 2 %), or the certificate is not PASS and says why. Kernels relative to the host (`host_fraction`) are
measured both ways, too: they stay within 10 %, or the certificate names it. Decisions are charged a given time, because
this is about the clock and not about policies. Prints a line for each run; status 1 on a miss.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from measure import SCENARIOS, Run

OWN = (
    ("quickstart", None),
    ("lan-25", "greedy"),
    ("lan-25", "lookahead"),
    ("star-wifi", None),
    ("slowdown", None),
)
WITHIN, WITHIN_RELATIVE = 0.02, 0.10
LOOPS = 2
RELATIVE = """
name: relative
model: smollm2-135m-instruct
devices:
  - {name: a, host_fraction: 0.5, memory: 512 MiB}
  - {name: b, host_fraction: 0.25, memory: 512 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 1 ms}}
policy: layers
workload: {prompts: [Why is the sky blue?], max_tokens: 24}
time: {mode: virtual}
"""


class Case(NamedTuple):
    """A scenario to run, and how far its TPOT may move."""

    name: str
    file: Path
    policy: str | None
    within: float


def measured(case: Case) -> tuple[float, dict[str, Any]]:
    """Run a case; return TPOT in milliseconds, and the summary."""
    run = Run("run", case.file, "decisions.time=1 ms", policy=case.policy)
    return run.tpot_ms, run.summary


@contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Keep so many processes busy meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def show(mark: str, case: Case, tpot_ms: float, off: float | None, summary: dict[str, Any]) -> None:
    """Print a line for a run, and the reasons of its certificate."""
    moved = "" if off is None else f" ({off:+.1%})"
    certificate, dilation = summary["certificate"], summary["dilation"]
    print(f"{mark}  {case.name:18} {certificate['verdict']:7} dilation {dilation:4g}  TPOT {tpot_ms:.2f} ms{moved}")
    for reason in certificate["reasons"]:
        print(f"        {reason}")
    sys.stdout.flush()


def calm_and_busy(case: Case, *, calm: bool, busy: bool) -> bool:
    """Whether a case is certified as it should be."""
    holds = True
    calm_ms, summary = measured(case)
    if calm:
        holds = summary["certificate"]["verdict"] == "PASS"
        show("ok  " if holds else "MISS", case, calm_ms, None, summary)
    if busy:
        with busy_loops(LOOPS):
            busy_ms, summary = measured(case)
        off = busy_ms / calm_ms - 1.0
        certificate = summary["certificate"]
        told = certificate["verdict"] != "PASS" and bool(certificate["reasons"])
        fine = abs(off) <= case.within or told
        show("ok  " if fine else "MISS", case, busy_ms, off, summary)
        holds = holds and fine
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description="Judges the certificates of the project's own scenarios.")
    parser.add_argument("--calm-only", action="store_true")
    parser.add_argument("--busy-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        relative = Path(directory) / "relative.yaml"
        relative.write_text(RELATIVE)
        cases = [
            Case(f"{name}{f' {policy}' if policy else ''}", SCENARIOS / f"{name}.yaml", policy, WITHIN)
            for name, policy in OWN
        ]
        cases.append(Case("relative", relative, None, WITHIN_RELATIVE))
        held = [
            calm_and_busy(case, calm=not options.busy_only, busy=not options.calm_only)
            for _ in range(options.repeats)
            for case in cases
        ]
    raise SystemExit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
