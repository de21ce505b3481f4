"""MDI-LLM's ring on 1, 2, 3 and 5 equal devices, with as many sequences and with one. Status 1 on a miss.

    python tools/bench/pipeline.py [--simulate]

Real kernels in virtual time. Throughput must be at least 0.85 x devices x that of one device, and the memory of the
fullest device fall with its share of the layers; with one sequence nothing is gained, and the output says why.
"""

import argparse
import sys
from typing import Any

from measure import SCENARIOS, Run

from edgeemu.report.summary_tables import summary_lines

SCENARIO = SCENARIOS / "papers" / "mdi-llm-nanollama.yaml"
DEVICES = (1, 2, 3, 5)
LEAST = 0.85
TOKENS = 24


def run(devices: int, sequences: int, *, simulate: bool) -> dict[str, Any]:
    """The summary of a run: `sequences` at once, twice as many in all."""
    settings = [
        f"devices[0].count={devices}",
        f"workload.prompts=[{', '.join(['{tokens: 16}'] * 2 * sequences)}]",
        f"workload.concurrency={sequences}",
        f"workload.max_tokens={TOKENS}",
    ]
    return Run("simulate" if simulate else "run", SCENARIO, *settings, policy="mdi").summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulate", action="store_true", help="on the timeline alone")
    asked = parser.parse_args()
    fine = True
    alone = run(1, 1, simulate=asked.simulate)
    whole_bytes = alone["memory"]["peak_bytes_max"]
    print("devices  tokens/s  of 1 x devices  fullest device  one sequence, ms a token")
    for devices in DEVICES:
        many = run(devices, devices, simulate=asked.simulate)
        one = run(devices, 1, simulate=asked.simulate)
        share = many["throughput_tok_s"] / (devices * alone["throughput_tok_s"])
        memory = many["memory"]["peak_bytes_max"] / whole_bytes
        gained = one["tpot_ms"]["mean"] < 0.99 * alone["tpot_ms"]["mean"]
        fine &= share >= LEAST and memory < 1.6 / devices and not gained
        rate, per_token_ms = many["throughput_tok_s"], one["tpot_ms"]["mean"]
        print(f"{devices:7}{rate:10.1f}{share:16.2f}{memory:15.0%}{per_token_ms:26.1f}")
    print(*summary_lines(one), sep="\n")
    fine &= any("one device at work at a time" in line for line in summary_lines(one))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
