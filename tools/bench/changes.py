"""Measures how policies answer fourteen kinds of change against a re-planner that knows the future.

    python tools/bench/changes.py [KIND ...] [--moves cheap|dear]

Every kind is a run of one prompt on five devices (several, where the kind says so), all in the simulator through the
code of `edgeemu simulate`, complete layers and single heads only. `static` places once; `stay` keeps the first
placement of `lookahead`; `lookahead` measures, `oracle` is `lookahead` that is told the true state of the instant; and
`clairvoyant` knows the whole future and pays for its moves (`clairvoyant.py`). Times are those of all tokens from five
tokens after the first change to the end, pauses included.

Status 1 if `lookahead` gains less than 90 % of what the clairvoyant gains over `stay`; if it takes more than 2 % longer
than `stay` where the clairvoyant gains less than 2 %; or if a decision fails. A placement that no longer fits has to be
left: there the clairvoyant's time is exceeded by 2 % at most.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from clairvoyant import Clairvoyant, Future

from edgeemu.cluster.keyed_random import uniform
from edgeemu.placement.placement import Placement
from edgeemu.policies import Policy, policy
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import DecisionRow, MigrationRow, Row, TableName, TokenRow
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario

SETTLED = 5  # tokens after a change from which on it counts
SHARE, LOSS = 0.9, 0.02
TOKENS = 160
Event = dict[str, object]

SCENARIO: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "devices": [
        {"name": "laptop", "gflops": "50 GFLOPS", "mem_bandwidth": "10 GB/s", "memory": "300 MiB"},
        {"name": "pi", "count": 2, "gflops": "24 GFLOPS", "mem_bandwidth": "5.5 GB/s", "memory": "400 MiB"},
        {"name": "nano", "gflops": "100 GFLOPS", "mem_bandwidth": "8 GB/s", "memory": "460 MiB"},
        {"name": "phone", "gflops": "20 GFLOPS", "mem_bandwidth": "6 GB/s", "memory": "300 MiB"},
    ],
    "network": {"default": {"bandwidth": "1 Gbit/s", "delay": "100 us"}},
    "sharding": {"divide": False},
    "decisions": {"time": "0 s"},
}
MOVES: dict[str, dict[str, object]] = {
    "cheap": {"weights_on_flash": True, "flash_bandwidth": "3 GB/s"},  # 5 ms a layer
    "dear": {"weights_on_flash": True, "flash_bandwidth": "200 MB/s"},  # 70 ms a layer
}
LINK = ["laptop", "nano"]


def device(name: str, speeds: dict[int, float]) -> list[Event]:
    """A device's share of its speed from some tokens on."""
    return [{"at_token": t, "device": name, "speed": f"{100 * speed:.3f} %"} for t, speed in speeds.items()]


def link(values: dict[int, str], what: str) -> list[Event]:
    return [{"at_token": t, "link": LINK, what: value} for t, value in values.items()]


def wave(tokens: int) -> list[Event]:
    """A square wave of the laptop's speed."""
    return device("laptop", {t: (0.33, 1.0)[(t // tokens - 20 // tokens) % 2] for t in range(20, TOKENS, tokens)})


def bandwidth_trace() -> list[Event]:
    """A rate for every third token, as on a mobile link: a slow random walk of factors between 1 and 1,000 Mbit/s."""
    found, log_rate = {}, 3.0
    for t in range(20, TOKENS, 3):
        log_rate = min(3.0, max(0.0, log_rate + 1.6 * (uniform(7, "trace", str(t)) - 0.5)))
        found[t] = f"{10**log_rate:.3f} Mbit/s"
    return link(found, "bandwidth")


@dataclass(frozen=True)
class Kind:
    """A kind of change: its events, the token of the first, and what else the scenario has."""

    name: str
    events: list[Event]
    first: int = 20
    settings: dict[str, Any] = field(default_factory=dict)
    sequences: int = 1


def random_load() -> list[Event]:
    return device("laptop", {t: 1.0 - 0.5 * uniform(3, "load", str(t)) for t in range(20, TOKENS)})


def busy_nano() -> list[dict[str, object]]:
    """The devices, of which nano is busy with other work at first: for about 20 tokens."""
    return [
        d | ({"load": {"trace": [["0 s", "95 %"], ["2 s", "0 %"]]}} if d["name"] == "nano" else {})
        for d in SCENARIO["devices"]
    ]


KINDS = (
    Kind("a device slows to a third", device("laptop", {20: 0.33})),
    Kind("a device slows and recovers", device("laptop", {20: 0.33, 70: 1.0})),
    Kind("a device is almost lost", device("laptop", {20: 0.05})),
    Kind("a link's rate collapses, recovers", link({20: "2 Mbit/s", 70: "1 Gbit/s"}, "bandwidth")),
    Kind("a link's delay collapses, recovers", link({20: "20 ms", 70: "100 us"}, "delay")),
    Kind("memory shrinks", [{"at_token": 20, "device": "laptop", "memory": "200 MiB"}]),
    Kind("an idle device becomes the best", [], settings={"devices": busy_nano()}),
    Kind("three sequences, a device slows", device("laptop", {20: 0.33}), sequences=3),
    Kind("square wave of 2 tokens", wave(2)),
    Kind("square wave of 5 tokens", wave(5)),
    Kind("square wave of 20 tokens", wave(20)),
    Kind("random load at each token", random_load()),
    Kind("throttling", device("laptop", {t: 1.0 - 0.75 * min(1.0, (t - 20) / 50) for t in range(20, 75, 2)})),
    Kind("a bandwidth trace", bandwidth_trace()),
)


class Records:
    """Keeps tokens, migrations and decisions of a run; shows nothing."""

    def __init__(self) -> None:
        self.tokens: list[TokenRow] = []
        self.moves: list[MigrationRow] = []
        self.problems: list[str] = []

    def phase(self, name: str, done: int, total: int) -> None: ...
    def directory(self, path: Path) -> None: ...
    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None: ...
    def token(self, index: int, step: int, text: str, latency_s: float) -> None: ...
    def sequence_ended(self, index: int) -> None: ...
    def moved(self, line: str) -> None: ...

    def append(self, table: TableName, rows: Sequence[Row]) -> None:  # noqa: ARG002
        for row in rows:
            if isinstance(row, TokenRow):
                self.tokens.append(row)
            elif isinstance(row, MigrationRow):
                self.moves.append(row)
            elif isinstance(row, DecisionRow) and (row.problem or row.event == "refused"):
                self.problems.append(row.problem)

    def mean_ms(self, first: int) -> float:
        """Time per token from when the token before `first` was there to the end, of all sequences."""
        began_s = max(row.emulated_s for row in self.tokens if row.step == first - 1)
        count = sum(row.step >= first for row in self.tokens)
        return 1000 * (max(row.emulated_s for row in self.tokens) - began_s) / count


class Outcome(NamedTuple):
    """A policy's time per token from when it should have settled, its moves, and decisions that failed."""

    ms: float
    moves: int
    failed: list[str]
    visited: list[Placement]


def document(kind: Kind, moves: str, knowledge: str, **more: object) -> str:
    workload = {
        "prompts": [{"tokens": 44}] * kind.sequences,
        "max_tokens": TOKENS,
        "concurrency": kind.sequences,
    }
    return json.dumps(
        SCENARIO
        | {"knowledge": knowledge, "migration": MOVES[moves], "events": kind.events, "workload": workload}
        | kind.settings
        | more
    )


def simulated(text: str, settled: int, name: str, decide: Policy | None = None, stay: bool = False) -> Outcome:
    """Simulate a scenario under a policy; `decide` is asked instead of it."""
    plan = make_plan(parse_scenario(text), name)
    asked, visited = decide or policy(name), [plan.placement]

    def follow(view: ClusterView, current: Placement | None) -> Placement:
        found = asked(view, current)
        if all(found.owner != other.owner for other in visited):
            visited.append(found)
        return found

    records = Records()
    plan = replace(plan, decide=None if stay else follow)
    asyncio.run(Controller(plan, SimulatedBackend(plan), records, records).run())
    return Outcome(records.mean_ms(settled), len(records.moves), records.problems, visited)


def clairvoyant(text: str, settled: int, seen: Sequence[Outcome]) -> Outcome:
    plan = make_plan(parse_scenario(text), "lookahead")
    placements = [seen[0].visited[0]]
    for outcome in seen:
        placements += [p for p in outcome.visited if all(p.owner != other.owner for other in placements)]
    knowing = Clairvoyant(Future(plan, TOKENS), placements[:24], seen[0].ms / 1000)
    return simulated(text, settled, "lookahead", knowing)


class Result(NamedTuple):
    """Outcomes of one kind of change under each policy."""

    kind: str
    static: Outcome
    stay: Outcome
    measured: Outcome
    oracle: Outcome
    clairvoyant: Outcome

    @property
    def best_ms(self) -> float:
        """The least time that is known to be possible: the clairvoyant's, or better by luck."""
        return min(self.clairvoyant.ms, self.oracle.ms, self.measured.ms)

    @property
    def share(self) -> float:
        """Share of what can be gained over staying that `lookahead` gains."""
        return (self.stay.ms - self.measured.ms) / max(1e-9, self.stay.ms - self.best_ms)

    @property
    def reached(self) -> bool:
        """Whether `lookahead` keeps its promise for this kind of change, and no decision failed."""
        failed = self.measured.failed + self.oracle.failed
        if self.clairvoyant.ms > self.stay.ms:  # what no longer fits has to be left, whatever it costs
            return not failed and self.measured.ms <= (1 + LOSS) * self.clairvoyant.ms
        if 1 - self.best_ms / self.stay.ms < LOSS:
            return not failed and self.measured.ms <= (1 + LOSS) * self.stay.ms
        return not failed and self.share >= SHARE


def measure(kind: Kind, moves: str) -> Result:
    settled = kind.first + SETTLED
    texts = {knowledge: document(kind, moves, knowledge) for knowledge in ("measured", "oracle")}
    static = simulated(texts["measured"], settled, "static")
    stay = simulated(texts["measured"], settled, "lookahead", stay=True)
    measured = simulated(texts["measured"], settled, "lookahead")
    oracle = simulated(texts["oracle"], settled, "lookahead")
    best = clairvoyant(texts["oracle"], settled, [stay, oracle, measured, static])
    return Result(kind.name, static, stay, measured, oracle, best)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="parts of the names of kinds; all without")
    parser.add_argument("--moves", choices=MOVES, default="cheap", help="how long the migration of a layer takes")
    asked = parser.parse_args()
    print("ms per token, settled                 static    stay  lookahead  oracle  clairvoyant  gained  lost  moves")
    reached = True
    for kind in KINDS:
        if asked.kinds and not any(part in kind.name for part in asked.kinds):
            continue
        row = measure(kind, asked.moves)
        times = f"{row.static.ms:7.1f} {row.stay.ms:7.1f} {row.measured.ms:10.1f} {row.oracle.ms:7.1f}"
        lost = max(0.0, row.measured.ms / row.stay.ms - 1)
        pays = row.best_ms < (1 - LOSS) * row.stay.ms
        share = f"{row.share:7.0%}" if pays else "      –"
        print(
            f"{'ok  ' if row.reached else 'MISS'} {row.kind:<32} {times} {row.clairvoyant.ms:12.1f} {share}"
            f" {lost:5.1%} {row.measured.moves:6}",
            *row.measured.failed[:1],
            flush=True,
        )
        reached &= row.reached
    sys.exit(not reached)


if __name__ == "__main__":
    main()
