"""Every policy on six small clusters with real kernels; where lookahead stands. Prints tables; status 1 on a miss.

    python tools/bench/compare.py [SCENARIO …] [--repeats N]

The clusters differ in link latency, bandwidth, memory, kinds of devices and the number of sequences. The same tokens
are required of all policies, and lookahead must be first or within 2 % of the first. Runs are in virtual time, but the
time that decisions take is this host's, so run it on a quiet machine.
"""

import argparse
import sys
from typing import Any

from measure import edgeemu

SCENARIOS = ("lan-5", "wan-5", "thin-5", "tight-5", "uneven-5", "crowd-5")
WITHIN = 0.02


def stands(name: str, document: dict[str, Any]) -> bool:
    """Whether tokens are equal and lookahead is near the front. Prints who is where."""
    judged = document["judged_by"]
    print(f"{name}, by {judged}; tokens {'equal' if document['tokens_equal'] else 'DIFFER'}")
    for row in document["policies"]:
        if row["gap"] is None:
            print(f"  {row['policy']:<22}{'–':>10}  {row['problem'].splitlines()[0]}")
        else:
            print(f"  {row['policy']:<22}{row['figures'][judged]['median']:10.2f}  +{row['gap']:.1%}")
    gap = next(row["gap"] for row in document["policies"] if row["policy"] == "lookahead")
    return bool(document["tokens_equal"]) and gap is not None and gap <= WITHIN


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", default=SCENARIOS)
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    fine = [
        stands(name, edgeemu("compare", f"scenarios/{name}.yaml", "--repeats", str(asked.repeats)))
        for name in asked.scenarios
    ]
    print(f"lookahead first or within {WITHIN:.0%} of the first in {sum(fine)} of {len(fine)}")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
