"""Measures what `lookahead` loses, or gains, where the load of all devices changes all the time.

    python tools/bench/unsteady.py [--clusters N] [--tokens N]

The clusters are those of `scenarios/one-layer-25.yaml`: 32 heads of one layer on 25 devices, by seed. All devices have
a load that is drawn anew after some time, or walks; with complete blocks only, and with divided layers. `static` places
once, `stay` keeps the first placement of `lookahead`. All are simulated through the code of `edgeemu simulate`.

Where states are short, moving cannot pay, and who moves to what is the fastest at an instant loses. Status 1 if
`lookahead` takes more than 2 % longer than either in the mean of the clusters of a row.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean
from typing import NamedTuple

from changes import LOSS, Records
from measure import SCENARIOS

from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import load_scenario

SCENARIO = SCENARIOS / "one-layer-25.yaml"
LOADS = {
    "0 to 90 %, every 20 ms": "{uniform: {low: 0 %, high: 90 %}, every: 20 ms}",
    "0 to 90 %, every 100 ms": "{uniform: {low: 0 %, high: 90 %}, every: 100 ms}",
    "0 to 90 %, every 500 ms": "{uniform: {low: 0 %, high: 90 %}, every: 500 ms}",
    "0 to 90 %, every 2 s": "{uniform: {low: 0 %, high: 90 %}, every: 2 s}",
    "0 to 60 %, every 300 ms": "{uniform: {low: 0 %, high: 60 %}, every: 300 ms}",
    "a walk, every 100 ms": "{walk: {mean: 40 %, spread: 30 %}, every: 100 ms}",
}


class Times(NamedTuple):
    """Seconds until all tokens are there, and the changes of placement of `lookahead`."""

    static_s: float
    stay_s: float
    lookahead_s: float
    moves: int


def simulated(settings: list[str], policy: str, *, stay: bool = False) -> tuple[float, int]:
    """Simulate a scenario under a policy: the instant of the last token, and the blocks that moved."""
    plan, records = make_plan(load_scenario(SCENARIO, settings), policy), Records()
    if stay:
        plan = replace(plan, decide=None)
    asyncio.run(Controller(plan, SimulatedBackend(plan), records, records).run())
    return max(row.emulated_s for row in records.tokens), len(records.moves)


def measured(load: str, clusters: int, tokens: int, *, divide: bool) -> Iterator[Times]:
    for seed in range(1, clusters + 1):
        settings = [f"seed={seed}", f"devices[0].load={load}", f"workload.max_tokens={tokens}"]
        settings.append(f"sharding.divide={str(divide).lower()}")
        static_s, _ = simulated(settings, "static")
        stay_s, _ = simulated(settings, "lookahead", stay=True)
        yield Times(static_s, stay_s, *simulated(settings, "lookahead"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures what lookahead loses where the load of all devices changes all the time."
    )
    parser.add_argument("--clusters", type=int, default=4, help="clusters of each row (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=300, help="tokens of each run (default: %(default)s)")
    asked = parser.parse_args()
    reached = True
    for divide in (False, True):
        print("Layers may be divided" if divide else "Complete blocks only")
        head = f"{'above static: mean':>20}{'worst':>8}{'above stay: mean':>20}{'worst':>8}"
        print(f"{'':5}{'load of all devices':26}{head}")
        for name, load in LOADS.items():
            runs = list(measured(load, asked.clusters, asked.tokens, divide=divide))
            static = [each.lookahead_s / each.static_s - 1 for each in runs]
            stay = [each.lookahead_s / each.stay_s - 1 for each in runs]
            good = max(mean(static), mean(stay)) <= LOSS
            reached = reached and good
            figures = f"{mean(static):20.1%}{max(static):8.1%}{mean(stay):20.1%}{max(stay):8.1%}"
            print(f"{'ok' if good else 'MISS':5}{name:26}{figures}  moves: {mean(each.moves for each in runs):.0f}")
    sys.exit(not reached)


if __name__ == "__main__":
    main()
