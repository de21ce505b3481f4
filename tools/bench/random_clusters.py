"""How far the policies are from the best placement of random clusters. Prints a table; status 1 on a miss.

    python tools/bench/random_clusters.py            # 40 instances; with --all, all 200
    python tools/bench/random_clusters.py --search 2000 --seed 1     # make random_clusters.json better: hours

`drawn/instance.py` says what an instance is, and how a placement is judged. The best placement of each is the best that
a long search or any policy has found, undivided or divided in whatever way; `random_clusters.json` has it, and it is
judged anew each time. A policy that is below it is reported.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from drawn.candidate import placement_of
from drawn.instance import NEW_TOKENS, Instance, instance
from drawn.references import load, placed_by_policies, save, searched
from measure import Figure, report

from edgeemu.policies.search.lower_bound import least_token_s

ALL, SOME = 200, 40
JUDGED = "lookahead"
MEAN_LIMIT, WORST_LIMIT = 1.0, 5.0  # % above the best
BETTER = 1 - 1e-6


def search(numbers: Sequence[int], simulations: int, seed: int) -> None:
    """Search for better placements, instance by instance; each is saved when it is found."""
    for number in numbers:
        made, known = instance(number), load().get(number)
        found = searched(made, known, simulations, seed)
        if found is not None and found != known:
            save(load() | {number: found})
        print(f"{number:>4}", found, "" if found == known else "(new)", flush=True)


class Judged(NamedTuple):
    """Policy -> by how many percent its placement is above the best, by instance; None: it found none.

    `bounds` are the shares of the best latency that no placement can beat. Instances for which nobody knows a placement
    are left out.
    """

    above: dict[str, list[float | None]]
    bounds: list[float]


def judged(numbers: Sequence[int]) -> Judged:
    """Have every policy place every instance."""
    found, bounds, known = defaultdict(list), [], load()
    for number in numbers:
        made = instance(number)
        latencies_s = {
            name: None if placement is None else made.latency_s(placement)
            for name, placement in placed_by_policies(made)
        }
        reference_s = made.latency_s(placement_of(known[number])) if number in known else None
        all_s = [each for each in (reference_s, *latencies_s.values()) if each is not None]
        if not all_s:
            print(f"instance {number}: no placement is known")
            continue
        bounds.append(bound_s(made) / min(all_s))
        for name, latency_s in latencies_s.items():
            found[name].append(None if latency_s is None else 100 * (latency_s / min(all_s) - 1))
            if latency_s is not None and latency_s < (reference_s or np.inf) * BETTER:
                print(f"instance {number}: {name} is below the best of random_clusters.json")
    return Judged(found, bounds)


def bound_s(made: Instance) -> float:
    """Seconds per token that no placement can beat."""
    return least_token_s(made.view, NEW_TOKENS)


def table(found: Judged) -> list[Figure]:
    """Print a line for each policy, the best first; returns the figures that are judged."""
    print(f"{'% above the best':<22}{'mean':>8}{'p50':>8}{'p95':>8}{'worst':>8}{'no placement':>14}")
    rows = {}
    for name, values in found.above.items():
        known = [value for value in values if value is not None] or [np.inf]
        rows[name] = np.mean(known), *np.quantile(known, (0.5, 0.95)), max(known), values.count(None)
    for name in sorted(rows, key=lambda name: rows[name][0]):
        *shares, missed = rows[name]
        print(f"{name:<22}{''.join(f'{share:>8.1f}' for share in shares)}{missed:>14}")
    low, middle, high = np.quantile(found.bounds, (0, 0.5, 1))
    print(f"proven bound / best: mean {np.mean(found.bounds):.3f}, median {middle:.3f}, from {low:.3f} to {high:.3f}")
    mean, _, _, worst, missed = rows[JUDGED]
    return [
        Figure(f"{JUDGED}, mean above the best", mean, MEAN_LIMIT, "%"),
        Figure(f"{JUDGED}, worst above the best", worst, WORST_LIMIT, "%"),
        Figure(f"{JUDGED}, no placement though there is one", missed, 0, ""),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help=f"all {ALL} instances, not the first {SOME}")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="these instances")
    parser.add_argument("--search", type=int, metavar="N", help="search with N simulations an instance, and save")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    asked = parser.parse_args()
    numbers = asked.only or range(ALL if asked.all else SOME)
    if asked.search is not None:
        search(numbers, asked.search, asked.seed)
        return 0
    return report(table(judged(numbers)), as_json=False)


if __name__ == "__main__":
    sys.exit(main())
