"""How far the policies are from the best placement of random clusters. Prints a table; status 1 on a miss.

    python tools/bench/random_clusters.py            # 40 instances; with --all, all 200
    python tools/bench/random_clusters.py --search 2000 --seed 1     # renew random_clusters.json: hours

`drawn/instance.py` says what an instance is, and how a placement is judged.
"""

import argparse
import sys

from drawn.instance import instance
from drawn.references import load, save, searched

ALL, SOME = 200, 40


def search(numbers: range, simulations: int, seed: int) -> None:
    """Search for better placements, instance by instance; each is saved when it is found."""
    for number in numbers:
        made, known = instance(number), load().get(number)
        found = searched(made, known, simulations, seed)
        if found is not None and found != known:
            save(load() | {number: found})
        print(number, found, "" if found == known else "(new)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help=f"all {ALL} instances, not the first {SOME}")
    parser.add_argument("--search", type=int, metavar="N", help="search with N simulations an instance, and save")
    parser.add_argument("--seed", type=int, default=0, help="of the search")
    asked = parser.parse_args()
    numbers = range(ALL if asked.all else SOME)
    if asked.search is not None:
        search(numbers, asked.search, asked.seed)
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
