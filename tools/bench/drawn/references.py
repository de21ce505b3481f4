"""The best placements that are known of each instance, in a file; a long search, or a policy, makes them better."""

import json
import random
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from drawn.candidate import placement_of, written
from drawn.instance import Instance
from drawn.search import LongSearch
from edgeemu.errors import EdgeemuError
from edgeemu.placement.placement import Placement
from edgeemu.policies import POLICIES, policy
from edgeemu.policies.search.share_annealing import annealed
from edgeemu.policies.search.share_proposals import simple_seeds
from edgeemu.policies.search.share_search import ShareJudge, ShareSearch
from edgeemu.policies.view.share_needs import ShareNeeds

ANNEALINGS, ENDS = 6, 3  # of an instance; placements of each from which a search goes on
FILE = Path(__file__).parents[1] / "random_clusters.json"
HOW = (
    "The best placement known of each instance (notation: drawn/candidate.py), by `random_clusters.py --search`: "
    "annealing, and descents from what it finds and every policy places, from random placements, and from disturbed "
    "good ones."
)


def load() -> dict[int, str]:
    """Placements by the number of their instance."""
    if not FILE.exists():
        return {}
    return {int(number): text for number, text in json.loads(FILE.read_text())["placements"].items()}


def save(found: dict[int, str]) -> None:
    document: dict[str, Any] = {"how": HOW, "placements": {str(number): found[number] for number in sorted(found)}}
    beside = FILE.with_suffix(".tmp")
    beside.write_text(json.dumps(document, indent=1) + "\n")
    beside.replace(FILE)


def placed_by_policies(made: Instance) -> Iterator[tuple[str, Placement | None]]:
    """The first placement of each built-in policy; None: it found none."""
    for name in (name for name in POLICIES if name != "given"):
        try:
            found = policy(name)(made.view, None)
        except EdgeemuError:
            yield name, None
        else:
            yield name, found


def annealed_placements(made: Instance, numbers: Iterable[int]) -> Iterator[Placement]:
    """The ends of descents from annealed placements, by the policies' closed form; `numbers` are seeds."""
    devices = np.arange(len(made.view.devices))
    judge = ShareJudge(made.view, devices, made.view.remaining_tokens)
    search = ShareSearch(judge, inf, ShareNeeds(judge.memory))
    for number in numbers:
        found = annealed(search.judge, simple_seeds(made.view, devices), number)
        for _, end in search.all_from(found.taken(np.arange(min(len(found), ENDS)))):
            yield end.placement(0, made.view.costs.shape, devices)


def searched(made: Instance, known: str | None, simulations: int, seed: int) -> str | None:
    """The best placement after a search of that many simulations; None: none that fits was found."""
    shape, n_devices = made.view.costs.shape, len(made.view.devices)
    search = LongSearch(made, random.Random(f"{made.number} {seed}"), simulations)
    starts = [placement for _, placement in placed_by_policies(made) if placement is not None]
    starts += annealed_placements(made, range(seed * ANNEALINGS, (seed + 1) * ANNEALINGS))
    if known is not None:
        starts.append(placement_of(known))
    unique = list({written(placement, shape, n_devices): placement for placement in starts}.values())
    for placement in unique:
        search.offer(placement)
    search.run(unique)
    return None if search.best is None else written(search.best, shape, n_devices)
