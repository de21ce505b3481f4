"""Measures how policies answer fourteen kinds of change against a re-planner that knows the future.

    python tools/bench/changes.py [KIND ...] [--moves cheap|dear] [--real]
    python tools/bench/changes.py --drawn FIRST END

Every kind is a run of one prompt on five devices (several, where the kind says so), all in the simulator through the
code of `edgeemu simulate`: fourteen with complete layers and single heads only, then five of these with divided layers.
`static` places once, and `stay` keeps the first placement of `lookahead`; `lookahead` measures, `oracle` is `lookahead`
that is told the true state of the instant; and `clairvoyant` knows the whole future and pays for its moves
(`clairvoyant.py`). Times are those of all tokens from five tokens after the first change to the end, pauses included.

Status 1 if `lookahead` gains less than 90 % of what can be gained over `static`; if it takes more than 2 % longer than
`static` where less than 2 % can be gained; or if a decision fails. A placement that no longer fits has to be left:
there the clairvoyant's time is exceeded by 2 % at most. The share of what can be gained over `stay` is shown beside it
and is not judged: it leaves out what a better first placement gains, and is of little where `stay` is nearly the best.

`--drawn` does the same with random changes of random clusters (`drawn/kinds.py`), by their numbers. It ends with status
1 where a decision fails, or where `lookahead` takes more than 3 % longer than the best in the mean: of a change that
comes for the first time nobody knows how long it stays.

`--real` runs `static` and `lookahead` for five kinds on device processes with real kernels, in virtual time; then what
`lookahead` takes must be what the simulator says, too.
"""

import argparse
import asyncio
import math
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from clairvoyant import Clairvoyant, Future
from drawn.kinds import drawn_kind
from kinds_of_change import DIVIDED, KINDS, MOVES, REAL, TOKENS, Kind, document
from measure import Run

from edgeemu.placement.placement import Placement
from edgeemu.policies import Policy, policy
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import DecisionRow, MigrationRow, Row, TableName, TokenRow
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario

SETTLED = 5  # tokens after a change from which on it counts
SHARE, LOSS = 0.9, 0.02
MEAN_ABOVE = 0.03  # share by which `lookahead` may be above the best in the mean of random changes
SAME = 1e-9  # share by which a real run in virtual time may differ from a simulated one: rounding


class Records(Silent):
    """Keeps tokens, migrations and decisions of a run; shows nothing."""

    def __init__(self) -> None:
        self.tokens: list[TokenRow] = []
        self.moves: list[MigrationRow] = []
        self.problems: list[str] = []

    def append(self, table: TableName, rows: Sequence[Row]) -> None:  # noqa: ARG002
        for row in rows:
            if isinstance(row, TokenRow):
                self.tokens.append(row)
            elif isinstance(row, MigrationRow):
                self.moves.append(row)
            elif isinstance(row, DecisionRow) and (row.problem or row.event == "refused"):
                self.problems.append(row.problem)


def mean_ms(tokens: Sequence[tuple[int, float]], first: int) -> float:
    """Time per token from when the last one before step `first` was there. Tokens: (step, instant) of all sequences."""
    began_s = max(at_s for step, at_s in tokens if step == first - 1)
    count = sum(step >= first for step, _ in tokens)
    return 1000 * (max(at_s for _, at_s in tokens) - began_s) / count


class Outcome(NamedTuple):
    """A policy's time per token from when it should have settled, its moves, and decisions that failed."""

    ms: float
    moves: int
    failed: list[str]
    visited: list[Placement]


def simulated(text: str, settled: int, name: str, decide: Policy | None = None, stay: bool = False) -> Outcome:
    """Simulate a scenario under a policy; `decide` is asked instead of it."""
    return followed(make_plan(parse_scenario(text), name), settled, decide or policy(name), stay)


def followed(plan: Plan, settled: int, asked: Policy, stay: bool = False) -> Outcome:
    """Simulate a plan under a policy, from step `settled` on."""
    visited = [plan.placement]

    def follow(view: ClusterView, current: Placement | None) -> Placement:
        found = asked(view, current)
        if all(found.owner != other.owner for other in visited):
            visited.append(found)
        return found

    records = Records()
    plan = replace(plan, decide=None if stay else follow)
    asyncio.run(Controller(plan, SimulatedBackend(plan), records, records).run())
    tokens = [(row.step, row.emulated_s) for row in records.tokens]
    return Outcome(mean_ms(tokens, settled), len(records.moves), records.problems, visited)


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

    def share(self, base: Outcome) -> float:
        """Share of what can be gained over an outcome that `lookahead` gains; not a number where that is too little."""
        gain_ms = base.ms - self.best_ms
        return (base.ms - self.measured.ms) / gain_ms if gain_ms >= LOSS * base.ms else float("nan")

    @property
    def failed(self) -> list[str]:
        return self.measured.failed + self.oracle.failed

    @property
    def reached(self) -> bool:
        """Whether `lookahead` keeps its promise for this kind of change, and no decision failed."""
        if self.failed:
            return False
        if self.clairvoyant.ms > self.static.ms:  # what no longer fits has to be left, whatever it costs
            return self.measured.ms <= (1 + LOSS) * self.clairvoyant.ms
        share = self.share(self.static)
        return self.measured.ms <= (1 + LOSS) * self.static.ms if math.isnan(share) else share >= SHARE

    def line(self) -> str:
        shares = (self.share(base) for base in (self.static, self.stay))
        gained = "".join("        –" if math.isnan(share) else f"{share:9.0%}" for share in shares)
        outcomes = (self.static, self.stay, self.measured, self.oracle, self.clairvoyant)
        times = "".join(f"{outcome.ms:12.1f}" for outcome in outcomes)
        mark = "ok  " if self.reached else "MISS"
        return f"{mark} {self.kind:<34}{times}{gained}{self.measured.moves:8}  {'; '.join(self.failed[:1])}".rstrip()


def measure(kind: Kind, moves: str) -> Result:
    settled = kind.first + SETTLED
    texts = {knowledge: document(kind, moves, knowledge) for knowledge in ("measured", "oracle")}
    static = simulated(texts["measured"], settled, "static")
    stay = simulated(texts["measured"], settled, "lookahead", stay=True)
    measured = simulated(texts["measured"], settled, "lookahead")
    oracle = simulated(texts["oracle"], settled, "lookahead")
    best = clairvoyant(texts["oracle"], settled, [stay, oracle, measured, static])
    return Result(kind.name, static, stay, measured, oracle, best)


def real(kind: Kind, moves: str, policy_name: str, directory: Path) -> Outcome:
    """Run a scenario on device processes with real kernels, in virtual time."""
    scenario = directory / "changes.yaml"
    scenario.write_text(document(kind, moves, "measured", time={"mode": "virtual"}))
    run = Run("run", scenario, policy=policy_name)
    tokens = [(row["step"], row["emulated_s"]) for row in run.tokens]
    ms = mean_ms(tokens, kind.first + SETTLED)
    return Outcome(ms, len(run.migrations), run.summary["decisions"]["problems"], [])


def judge_real(chosen: Sequence[Kind], moves: str) -> bool:
    """Run kinds on real kernels. Print and return whether they take what the simulator says."""
    print(f"{'ms per token, on real kernels':<39}{'static':>11}{'lookahead':>11}{'simulated':>11}")
    reached = True
    for kind in chosen:
        with tempfile.TemporaryDirectory() as directory:
            static, measured = (real(kind, moves, name, Path(directory)) for name in ("static", "lookahead"))
        again = simulated(document(kind, moves, "measured"), kind.first + SETTLED, "lookahead")
        same = abs(measured.ms - again.ms) <= SAME * again.ms and measured.moves == again.moves
        ok = same and not measured.failed
        mark = "ok  " if ok else "MISS"
        print(
            f"{mark} {kind.name:<34}{static.ms:11.1f}{measured.ms:11.1f}{again.ms:11.1f}",
            *measured.failed[:1],
            flush=True,
        )
        reached &= ok
    return reached


def table(title: str, chosen: Iterable[tuple[Kind, str]]) -> list[Result]:
    """Simulate kinds of change, each with its moves. Print a line for each as soon as it is known."""
    names = "".join(f"{name:>12}" for name in ("static", "stay", "lookahead", "oracle", "clairvoyant"))
    print(f"{'':99}gained over\n{title:<39}{names}{'static':>9}{'stay':>9}{'moved':>8}")
    rows = []
    for kind, moves in chosen:
        rows.append(measure(kind, moves))
        print(rows[-1].line(), flush=True)
    return rows


def judge(title: str, chosen: Sequence[Kind], moves: str) -> bool:
    """Simulate kinds of change. Print a table, and return whether `lookahead` keeps its promise for all."""
    return all(row.reached for row in table(title, ((kind, moves) for kind in chosen)))


def judge_drawn(first: int, end: int) -> bool:
    """Simulate random changes. Print a table, and return whether `lookahead` is near the best in the mean."""
    rows = table("ms per token", map(drawn_kind, range(first, end)))
    above = [row.measured.ms / row.best_ms - 1 for row in rows]
    mean, failed = sum(above) / len(rows), sum(bool(row.failed) for row in rows)
    shares = [share for row in rows if not math.isnan(share := row.share(row.static))]
    print(f"lookahead above the best known: {mean:.2%} in the mean, {max(above):.1%} at worst; failed: {failed}")
    if shares:
        gained = sum(shares) / len(shares)
        print(f"of what can be gained over static, in {len(shares)} of {len(rows)}: {gained:.1%} in the mean")
    return mean <= MEAN_ABOVE and not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="parts of the names of kinds; all without")
    parser.add_argument("--moves", choices=MOVES, default="cheap", help="how long the migration of a layer takes")
    parser.add_argument("--real", action="store_true", help="five kinds, on device processes with real kernels")
    parser.add_argument("--drawn", nargs=2, type=int, metavar=("FIRST", "END"), help="random changes, by number")
    asked = parser.parse_args()
    if asked.drawn:
        sys.exit(not judge_drawn(*asked.drawn))
    chosen, divided = (
        [kind for kind in kinds if not asked.kinds or any(part in kind.name for part in asked.kinds)]
        for kinds in (KINDS, DIVIDED)
    )
    if asked.real:
        sys.exit(not judge_real([kind for kind in chosen if kind.name in REAL], asked.moves))
    reached = judge("ms per token", chosen, asked.moves)
    print()
    reached &= judge("Layers may be divided: ms per token", divided, asked.moves)
    sys.exit(not reached)


if __name__ == "__main__":
    main()
