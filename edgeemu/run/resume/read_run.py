"""Reads the records of a run that another is to go on from. Refuses those that no run can go on from."""

from collections import defaultdict
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from edgeemu.errors import RequestError
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu.report.facts import DeviceFacts, RunFacts
from edgeemu.report.figures import column_of, sequence_rows
from edgeemu.report.placement_rows import placement_of
from edgeemu.report.record_files import read_table
from edgeemu.report.rows import PlacementRow, SequenceRow, TableName, TokenRow
from edgeemu.report.run_directory import RunDirectory
from edgeemu.run.backend import Instant, SampledToken
from edgeemu.run.open_sequence import OpenSequence
from edgeemu.run.plan import Plan
from edgeemu.run.resume.continuation import Continuation
from edgeemu.scenario.load import load_scenario
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.steps import Step


class RunToResume(NamedTuple):
    """A run that another can go on from: its directory, its facts, and its scenario."""

    directory: RunDirectory
    facts: RunFacts
    scenario: Scenario

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def scenario_text(self) -> str:
        """Text of its scenario, which means the same in every directory."""
        return (self.path / "scenario.yaml").read_text()


def run_to_resume(path: Path, *, simulate: bool) -> RunToResume:
    """Find a run that has not come to its end.

    Raises:
        RequestError: there is none, it is done, its records are damaged, or were made in another mode or version.
    """
    directory = RunDirectory.find(path)
    facts, made_by = directory.read_facts(), directory.read_meta().get("libraries")
    if facts.ended == "done":
        raise RequestError(f"the run is done: nothing is left to generate (see: edgeemu report {path})", file=str(path))
    if simulate != (facts.mode == "simulated"):
        is_, other = ("was simulated", "simulate") if not simulate else ("ran on devices", "run")
        raise RequestError(f"the run {is_}: edgeemu {other} --resume {path} goes on with it", file=str(path))
    made_by, mine = made_by.get("edgeemu") if isinstance(made_by, dict) else None, version("edgeemu")
    if made_by != mine:
        raise RequestError(
            f"the run is of edgeemu {made_by}, and this is {mine}: resume it with that one, {_anew(path, facts)}",
            file=str(path),
        )
    for table in get_args(TableName):
        if not any((path / f"{table}.{kind}").exists() for kind in ("parquet", "arrows")):
            raise RequestError(f"its table of {table} is missing: {_anew(path, facts)[3:]}", file=str(path))
    return RunToResume(directory, facts, load_scenario(path / "scenario.yaml"))


def _anew(path: Path, facts: RunFacts) -> str:
    command = "simulate" if facts.mode == "simulated" else "run"
    return f"or run it anew: edgeemu {command} {path}/scenario.yaml"


def continuation(run: RunToResume, plan: Plan, devices: list[DeviceFacts]) -> Continuation:
    """Read where a run had come to. `plan` is what its scenario gives here, with these `devices`.

    Raises:
        RequestError: its tables are damaged, or its model or its cluster is not the same any more.
    """
    if (run.facts.model, run.facts.devices) != (plan.model.name, devices):
        raise _other(run, "its devices or its model")
    tokens = _whole(read_table(run.path, "tokens").to_pylist(), _computed(run))
    recorded = {row.sequence: row for row in sequence_rows(run.directory.records)}
    rows = [PlacementRow(**row) for row in read_table(run.path, "placements").to_pylist()]
    numbers = [*read_table(run.path, "migrations", ["epoch"]).column("epoch").to_pylist()]
    if any(sequence >= len(plan.requests) for sequence in tokens):
        raise _other(run, "its prompts")
    last = max((rows[-1] for rows in tokens.values()), key=lambda row: row.emulated_s, default=None)
    at_s, wall_s = (last.emulated_s, last.wall_s) if last else (0.0, 0.0)
    open_, ended = dict[int, OpenSequence](), dict[int, SequenceRow]()
    for sequence, of in tokens.items():
        opened = _opened(run, plan, of)
        if not opened.ended_by():
            open_[sequence] = opened
            continue
        row = recorded.get(sequence)
        if row is None or row.tokens != len(of):
            row = opened.row(sequence, plan.scenario.workload.latency_target)
        ended[sequence] = row
    return Continuation(
        run=run.path.resolve().name,
        at_s=at_s,
        wall_s=wall_s,
        tokens=tokens,
        open=open_,
        ended=ended,
        placement=_in_force(run, plan, [row for row in rows if row.at_s <= at_s]) if tokens else None,
        epoch=max([*numbers, *(row.epoch for row in rows)], default=0),
    )


def _computed(run: RunToResume) -> set[tuple[int, int]]:
    """Return the sequence and step of all that the records have the last operation of: rows are not written at once."""
    found = set[tuple[int, int]]()
    for table in run.directory.records.read("ops", ("sequence", "step", "block")):
        last = np.array(table.column("block").to_pylist()) == Kind.LM_HEAD
        sequence, step = column_of(table, "sequence")[last], column_of(table, "step")[last]
        found.update(zip(sequence.tolist(), step.tolist(), strict=True))
    return found


def _whole(rows: list[dict[str, Any]], computed: set[tuple[int, int]]) -> dict[int, list[TokenRow]]:
    """Return the tokens of each sequence as far as none before them is missing, nor how it was computed."""
    by_sequence: dict[int, list[TokenRow]] = defaultdict(list)
    for row in sorted((TokenRow(**row) for row in rows), key=attrgetter("sequence", "step")):
        if row.step == len(by_sequence[row.sequence]) and row[:2] in computed:
            by_sequence[row.sequence].append(row)
    return {sequence: of for sequence, of in by_sequence.items() if of}


def _opened(run: RunToResume, plan: Plan, rows: list[TokenRow]) -> OpenSequence:
    """Return a sequence as its tokens left it."""
    first, request, tokenizer = rows[0], plan.requests[rows[0].sequence], plan.model.tokenizer
    arrival_s = first.emulated_s - first.latency_s if request.arrival_s is None else request.arrival_s
    stream = tokenizer.stream() if tokenizer else None
    opened = OpenSequence(request, stream, Instant(arrival_s, 0.0), first.released_s)
    for row in rows:
        step = Step(row.sequence, row.step, 1, 0)
        text = opened.add(SampledToken(step, row.token, Instant(row.emulated_s, row.wall_s)))
        if text != row.text:
            raise _other(run, f"the text of token {row.token}")
    return opened


def _in_force(run: RunToResume, plan: Plan, rows: list[PlacementRow]) -> Placement | None:
    """Return the placement that was in force last; None: no row tells."""
    if not rows:
        return None
    names = {device.name: device.index for device in plan.cluster.devices}
    try:
        placement = placement_of([row for row in rows if row.epoch == rows[-1].epoch], names)
        placement.check(plan.model.shape, len(names))
    except (PlacementError, KeyError, ValueError) as error:
        why = f"placements make no placement ({error}): {_anew(run.path, run.facts)}"
        raise RequestError(why, file=str(run.path)) from error
    return placement


def _other(run: RunToResume, what: str) -> RequestError:
    return RequestError(
        f"{what} would not be the same here as in its records: restore the files that its scenario names, "
        f"{_anew(run.path, run.facts)}",
        file=str(run.path),
    )
