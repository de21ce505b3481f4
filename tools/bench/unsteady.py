"""Measures what `lookahead` loses, or gains, where the load of all devices changes all the time.

    python tools/bench/unsteady.py [SETTING ...] [--clusters N] [--tokens N]

The clusters are those of `scenarios/one-layer-25.yaml`: 32 heads of one layer on 25 devices, by seed. All devices have
a load that is drawn anew after some time, or walks; with complete blocks only, and with divided layers; with one
sequence, and with three; and with weights on flash, so that a move costs little. `static` places once, `stay` keeps the
first placement of `lookahead`. All are simulated through the code of `edgeemu simulate`.

Where states are short, or load is little more than noise, moving cannot pay, and who moves to what is the fastest at an
instant loses. Status 1 if `lookahead` takes more than 2 % longer per token than either in the mean of the clusters of a
row, or if a decision fails. With several sequences, or weights on flash, only light load is in the rows: with `--all`
heavy load is there, too, under which moves lose more than that in some.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import NamedTuple

from changes import LOSS, Outcome, followed
from measure import SCENARIOS

from edgeemu.policies import policy
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario

HEAVY = (90, "20 ms"), (90, "100 ms"), (90, "500 ms"), (90, "2 s"), (60, "300 ms"), (45, "500 ms")
LIGHT = (45, "20 ms"), (30, "20 ms"), (30, "100 ms"), (15, "2 s")


def drawn(loads: Sequence[tuple[int, str]]) -> dict[str, str]:
    return {f"0 to {high} %, every {t}": f"{{uniform: {{low: 0 %, high: {high} %}}, every: {t}}}" for high, t in loads}


LIGHT_LOADS = drawn(LIGHT)
LOADS = {
    **drawn(HEAVY),
    "a walk, every 100 ms": "{walk: {mean: 40 %, spread: 30 %}, every: 100 ms}",
    **LIGHT_LOADS,
}
ON_FLASH = "migration.weights_on_flash=true", "migration.flash_bandwidth=3 GB/s"
PROMPTS = ("workload.prompts=[{tokens: 64}, {tokens: 64}, {tokens: 64}]", "workload.concurrency=3")
ONE: dict[str, tuple[str, ...]] = {
    "Complete blocks only": ("sharding.divide=false",),
    "Layers may be divided": ("sharding.divide=true",),
}
SETTINGS = {
    **ONE,
    "Complete blocks only, weights on flash": ("sharding.divide=false", *ON_FLASH),
    "Three sequences, complete blocks only": ("sharding.divide=false", *PROMPTS),
    "Three sequences, complete blocks only, weights on flash": ("sharding.divide=false", *PROMPTS, *ON_FLASH),
    "Three sequences, layers may be divided": ("sharding.divide=true", *PROMPTS),
}


class Compared(NamedTuple):
    """Outcomes of one cluster."""

    static: Outcome
    stay: Outcome
    lookahead: Outcome


def simulated(settings: list[str], name: str, *, stay: bool = False) -> Outcome:
    plan = make_plan(load_scenario(SCENARIOS / "one-layer-25.yaml", settings), name)
    return followed(plan, 1, policy(name), stay)


def measured(load: str, clusters: int, tokens: int, more: Sequence[str]) -> Iterator[Compared]:
    for seed in range(1, clusters + 1):
        settings = [f"seed={seed}", f"devices[0].load={load}", f"workload.max_tokens={tokens}", *more]
        stay = simulated(settings, "lookahead", stay=True)
        yield Compared(simulated(settings, "static"), stay, simulated(settings, "lookahead"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures what lookahead loses where the load of all devices changes all the time."
    )
    parser.add_argument("--clusters", type=int, default=4, help="clusters of each row (default: %(default)s)")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="parts of their titles (default: all)")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each run (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="heavy load in all settings")
    asked = parser.parse_args()
    reached = True
    for title, settings in SETTINGS.items():
        if asked.settings and not any(part in title for part in asked.settings):
            continue
        print(title)
        head = f"{'above static: mean':>20}{'worst':>8}{'above stay: mean':>20}{'worst':>8}"
        print(f"{'':5}{'load of all devices':26}{head}")
        loads = LOADS if title in ONE or asked.all else LIGHT_LOADS
        for name, load in loads.items():
            runs = list(measured(load, asked.clusters, asked.tokens, settings))
            static = [each.lookahead.ms / each.static.ms - 1 for each in runs]
            stay = [each.lookahead.ms / each.stay.ms - 1 for each in runs]
            good = max(mean(static), mean(stay)) <= LOSS and not any(each.lookahead.failed for each in runs)
            reached = reached and good
            figures = f"{mean(static):20.1%}{max(static):8.1%}{mean(stay):20.1%}{max(stay):8.1%}"
            moves = mean(each.lookahead.moves for each in runs)
            print(f"{'ok' if good else 'MISS':5}{name:26}{figures}  moves: {moves:.0f}", flush=True)
    sys.exit(not reached)


if __name__ == "__main__":
    main()
