"""Runs scenarios on stamped and on hybrid links, and sets them side by side. Prints a table; status 1 on a miss.

    python tools/bench/backends.py [SCENARIO[:POLICY] …] [--backend hybrid|kernel] [--repeats N]

The same tokens are required, and a TPOT within 10 %. Devices are paced, so run it on a quiet machine. Of several
repeats the median TPOT counts. Without root or user namespaces there are no such links, and it says so.
"""

import argparse
import json
import sys
from statistics import median
from typing import Any

from measure import Run

SCENARIOS = ("scenarios/quickstart.yaml", "scenarios/lan-25.yaml:layers")
WITHIN = 0.10


def run(scenario: str, backend: str, dilation: float | None) -> dict[str, Any]:
    """The summary of one run."""
    file, _, policy = scenario.partition(":")
    settings = [f"network.backend={backend}", *([f"time.dilation={dilation}"] if dilation else [])]
    return Run("run", file, *settings, policy=policy or None).summary


def compare(scenario: str, backend: str, repeats: int) -> bool:
    """Whether tokens are the same and TPOT is near. Prints a line for each run, and what the certificate says."""
    first = run(scenario, backend, None)
    dilation = first["dilation"]  # the same for all: what transport costs is divided by it
    real = [first, *(run(scenario, backend, dilation) for _ in range(repeats - 1))]
    stamped = [run(scenario, "stamped", dilation) for _ in range(repeats)]
    tokens_equal = all(summary["tokens"] == first["tokens"] for summary in (*real, *stamped))
    for kind, summaries in (("stamped", stamped), (backend, real)):
        for summary in summaries:
            tpot, wall, certificate = summary["tpot_ms"], summary["wall"], summary["certificate"]
            print(
                f"{scenario}  {kind:8}  dilation {summary['dilation']:4g}  TPOT {tpot['mean']:8.2f} ms"
                f"  p99 {tpot['p99']:8.2f} ms  inflation {wall['inflation']:.4f}  {certificate['verdict']}"
            )
    off = median(s["tpot_ms"]["mean"] for s in real) / median(s["tpot_ms"]["mean"] for s in stamped) - 1.0
    print(f"{scenario}  tokens {'equal' if tokens_equal else 'DIFFER'}, TPOT {off:+.1%} (asked: within {WITHIN:.0%})")
    certificate = real[0]["certificate"]
    print(f"  self-test: {json.dumps(certificate.get('links'))}")
    for reason in certificate["reasons"]:
        print(f"  {reason}")
    return tokens_equal and abs(off) <= WITHIN


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs scenarios on stamped and on hybrid or kernel links.")
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS)
    parser.add_argument("--backend", default="hybrid", choices=("hybrid", "kernel"))
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    from edgeemu.links.netns.capabilities import probe_host

    if why := probe_host().why_not(options.backend):
        print(f"no {options.backend} links here: {why}")
        return
    near = [compare(scenario, options.backend, options.repeats) for scenario in options.scenarios]
    sys.exit(0 if all(near) else 1)


if __name__ == "__main__":
    main()
