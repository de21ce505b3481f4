"""Explanation of a run: where the time of its tokens went, and what one change would have gained."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from edgeemu.errors import EdgeemuError
from edgeemu.report.critical.breakdown import Breakdown, Utilisation, breakdown_document
from edgeemu.report.facts import RunFacts
from edgeemu.report.figures import operation_figures, token_counts
from edgeemu.report.formats import Table, ms_text, percent_text
from edgeemu.report.run_directory import RunDirectory
from edgeemu.report.summary import utilisation
from edgeemu.run.simulate_plan import shortened
from edgeemu.run.what_if import MAX_OPERATIONS, Outcome, WhatIf, try_changes, worth_trying
from edgeemu.scenario.load import load_scenario

AGREES = 0.02  # by which the simulation of the run as it was may differ from the run, without a word


class Explained(NamedTuple):
    """Where time was lost, and what would help; `problem` says why that is not known. `used`: of devices' rates."""

    lost: Breakdown
    used: Utilisation
    what_if: WhatIf | None
    problem: str


def explained(
    run: RunDirectory, facts: RunFacts, lost: Breakdown, done: Callable[[int, int], None], *, trust: bool = False
) -> Explained:
    """Explain a run from its records, and simulate it again with changes; `done` is told how many simulations are.

    `lost`: where the time of the run's tokens went.

    Raises:
        RequestError: records are damaged.
    """
    ops = operation_figures(run.records)
    used = utilisation(facts, ops)
    if not lost.tokens:
        return Explained(lost, used, None, "no token is recorded")
    lengths = token_counts(run.records)
    try:
        scenario = load_scenario(run.path / "scenario.yaml")
        changes = worth_trying(scenario, lost)
        lengths = shortened(lengths, MAX_OPERATIONS / max(1, ops.count * (1 + len(changes))))
        return Explained(lost, used, try_changes(scenario, facts.policy, changes, lengths, done, trust=trust), "")
    except EdgeemuError as error:  # of the scenario, the model's file or the policy: what was recorded still holds
        return Explained(lost, used, None, str(error))


def explained_document(found: Explained) -> dict[str, Any]:
    """Make the JSON document of an explanation."""
    made, what_if = None, found.what_if
    if what_if is not None:
        made = {
            "tokens": what_if.tokens,
            "unchanged": _figures(what_if.unchanged),
            "changes": [{"change": each.words, "gain": each.gain, **_figures(each.outcome)} for each in what_if.gains],
        }
    lost = breakdown_document(found.lost)
    return {"critical_path": lost, "utilisation": found.used, "what_if": made, "problem": found.problem or None}


def _figures(outcome: Outcome) -> dict[str, float]:
    return {"ms_per_token": 1000 * outcome.token_s, "throughput_tok_s": outcome.throughput_tok_s}


def what_if_table(found: Explained) -> list[Table]:
    """Make the table of changes, those that gain most first."""
    if found.what_if is None:
        return []
    outcomes = [(each.words, each.outcome, percent_text(each.gain, 1)) for each in found.what_if.gains]
    rows = [
        [words, ms_text(1000 * outcome.token_s), f"{outcome.throughput_tok_s:.2f}", gain]
        for words, outcome, gain in (*outcomes, ("nothing changed", found.what_if.unchanged, ""))
    ]
    return [Table(("what if", ">per token", ">tokens/s", ">less time"), rows)]


def what_if_lines(found: Explained) -> Iterator[str]:
    """Say what would help most, and where the simulation is not the run."""
    what_if, lost = found.what_if, found.lost
    if what_if is None:
        if lost.tokens:
            yield f"what would help is not known: {found.problem}"
        return
    how = "(the run simulated again, with its policy)"
    best = what_if.gains[0] if what_if.gains else None
    if best is not None and best.gain > 0.001:
        yield f"what would help most: {best.words}, a token takes {percent_text(best.gain, 1)} less {how}"
    else:
        yield f"none of these changes would help {how}"
    off = 1000 * what_if.unchanged.token_s / lost.total_ms - 1
    if abs(off) > AGREES:
        yield (
            f"the simulation of the run as it was, {what_if.tokens} tokens of a sequence at most, has "
            f"{ms_text(1000 * what_if.unchanged.token_s)} per token: {percent_text(off, 1, signed=True)} from the run"
        )
