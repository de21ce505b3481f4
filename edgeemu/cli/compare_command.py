"""Command that compares policies on one scenario."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.exit import FAILED, INVALID
from edgeemu.cli.kept_comparison import kept_if_interrupted
from edgeemu.cli.options import (
    OutDirectory,
    ScenarioFile,
    Settings,
    Share,
    Simulated,
    check_writable,
    load,
    separated,
)
from edgeemu.cli.report_files import FiguresDirectory, HtmlFile, ReportFiles, write_comparison
from edgeemu.cli.sweep_runs import LOCAL, On
from edgeemu.cli.without_pandas import without_pandas
from edgeemu.errors import RequestError
from edgeemu.host.limits import check_threads
from edgeemu.host.until_signal import until_signal
from edgeemu.run.few_collections import few_collections

if TYPE_CHECKING:
    from typing import TextIO

    from edgeemu.cli.expectation import Expectation
    from edgeemu.cli.page import Page
    from edgeemu.report.comparison import Entry
    from edgeemu.scenario.scenario import Scenario

Policies = Annotated[
    str,
    typer.Option(
        "--policies",
        metavar="A,B,C",
        help="Names (see: edgeemu policies) or FILE.py:NAME, separated by commas, or all.",
    ),
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="Runs of each policy.")]
ComparedSeeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N",
        min=1,
        help="Runs of each policy with other random draws, from the seed of the scenario on.",
        show_default=False,
    ),
]


@in_forms
def compare(
    scenario: ScenarioFile,
    policies: Policies = "all",
    repeats: Repeats = 1,
    seeds: ComparedSeeds = None,
    simulated: Simulated = False,
    on: On = LOCAL,
    settings: Settings = None,
    out: OutDirectory = Path("runs"),
    share: Share = False,
    html: HtmlFile = None,
    figures: FiguresDirectory = None,
    form: Form = Form.PAGE,
) -> None:
    """Compare policies on one scenario.

    Every policy gets the same cluster, random draws and load, in a run of its own, one after the other. Without
    --simulate they run on device processes, and that takes as long as all their texts: before the first it says about
    how long. The best single device (single) is always in the table. A policy that finds no placement is listed with
    its reason, and so is exact where it would not answer and was not named; given is among all where the scenario has a
    placement. Each run leaves its records below --out, and an interrupted comparison shows those that have ended.

    Rows are sorted by the scenario's objective: latency unless it says otherwise. "vs best" says how far a policy is
    behind the first. "vs possible" says how far it is from a proven bound that no placement can beat, on the cluster
    without load; the best placement can be anywhere between the two. --html and --figures write this as files too, with
    what tokens wait for under each policy.

    With --seeds every policy runs on the same several draws of the scenario: means have 95 % intervals (bootstrap), and
    a gap between pairs of equal draws that is not significant is said to be so (n.s.). As many runs as this host holds
    are made at once, and none that is complete is repeated (see: edgeemu sweep --help).

    \b
    Examples:
      edgeemu compare scenarios/lan-5.yaml
      edgeemu compare scenarios/lan-5.yaml --policies lookahead,mdi,galaxy --repeats 3
      edgeemu compare scenarios/lan-25.yaml --simulate --seeds 20
      edgeemu compare scenarios/lan-25.yaml --simulate --json > comparison.json
      edgeemu compare scenarios/lan-25.yaml --simulate --set objective=throughput
      edgeemu compare scenarios/lan-25.yaml --simulate --html comparison.html --figures figures
    """
    files = ReportFiles.checked(html, figures)
    asked = separated(policies)
    if seeds is None:
        if on != LOCAL:
            raise RequestError("is for the runs of --seeds; others are made here", field="--on")
        _compare_once(scenario, asked, repeats, settings, out, form, files, simulated=simulated, share=share)
        return
    if repeats > 1:
        raise RequestError("repeats one draw; with --seeds every run has another", field="--repeats")
    from edgeemu.cli.compare_seeds import compare_seeds
    from edgeemu.run.sweep.sweep import Mode

    compare_seeds(scenario, settings, asked, seeds, Mode(simulated, share=share), out, on, form, files)


def _compare_once(
    scenario: Path,
    asked: list[str],
    repeats: int,
    settings: list[str] | None,
    out: Path,
    form: Form,
    files: ReportFiles,
    *,
    simulated: bool,
    share: bool,
) -> None:
    """Compare policies on one draw of a scenario, one run after the other."""
    check_threads()
    from edgeemu.cli.observers import watch_one_of
    from edgeemu.report.comparison import JUDGED, comparison
    from edgeemu.run.compare import compare_scenario, left_out, named_policies, optional

    wanted = load(scenario, settings)
    names = named_policies(asked, given=wanted.placement is not None)
    check_writable(out)
    without_pandas()
    text, without = form.beside, left_out(wanted, asked)
    running = [name for name in names if name not in without]
    expected = _told_expectation(wanted, running, repeats, text, simulated=simulated)
    entries: list[Entry] = []
    comparing = compare_scenario(
        wanted,
        names,
        repeats=repeats,
        simulate=simulated,
        out=out,
        watch=watch_one_of(text, sys.stderr, expected, time.monotonic),
        share=share,
        without=without,
        may_fail=optional(asked),
        entries=entries,
    )
    document_of = partial(comparison, wanted.name, entries, JUDGED[wanted.objective], words=not simulated)
    kept = kept_if_interrupted(document_of, form, "policies with a run that has ended")
    with kept, few_collections() if simulated else nullcontext():
        until_signal(comparing)
    document = document_of(**_bounds(wanted))
    answer(document, form, partial(_show_comparison, document))
    write_comparison(files, document)
    if status := _comparison_status(document):
        raise typer.Exit(status)


def _told_expectation(
    scenario: Scenario, policies: list[str], repeats: int, text: TextIO, *, simulated: bool
) -> Expectation:
    """Tell how long real runs will take."""
    from edgeemu.cli.expectation import Expectation
    from edgeemu.cli.page import Page

    wall_s = None if simulated or scenario.time.mode == "virtual" else _wall_s(scenario, policies)
    expectation = Expectation(policies, repeats, wall_s, time.monotonic)
    if not simulated and (words := expectation.before()):
        Page(text).sentence(words)
    return expectation


def _wall_s(scenario: Scenario, policies: list[str]) -> dict[str, float]:
    """Seconds that a run of each policy takes on the wall clock at least, where that follows the timeline."""
    from edgeemu.cli.observers import watch
    from edgeemu.run.expected import expected_s

    dilation = scenario.time.dilation if isinstance(scenario.time.dilation, float) else 1.0
    with watch(sys.stderr, sys.stderr) as observer:
        found = expected_s(scenario, policies, partial(observer.phase, "expected times"))
    return {policy: dilation * each_s for policy, each_s in found.items()}


def _bounds(scenario: Scenario) -> dict[str, Any]:
    """Prove what no placement can beat, and whether that is without divided layers. It can take seconds."""
    from edgeemu.cli.observers import watch
    from edgeemu.host.signals import interrupted_at_once
    from edgeemu.run.compare import bounds

    with watch(sys.stderr, sys.stderr) as observer, interrupted_at_once():
        observer.phase("what is possible", 0, 1)
        found = bounds(scenario)
        observer.phase("what is possible", 1, 1)
    return {} if found is None else {"bounds": found.by_figure, "undivided": found.undivided}


def _show_comparison(document: dict[str, Any], page: Page) -> None:
    """Print a comparison as a table, with what is to be said about it."""
    from edgeemu.report.comparison import comparison_lines, comparison_table

    page.line()
    page.table(*comparison_table(document))
    for line in comparison_lines(document):
        page.sentence(line)


def _comparison_status(document: dict[str, Any]) -> int:
    """Exit status of a comparison. A policy without a placement is a finding, unless every policy is without one."""
    rows = document["policies"]
    if document["tokens_equal"] is False or any(row["status"] == FAILED for row in rows):
        return FAILED
    if all(row["problem"] for row in rows):
        return max(int(row["status"]) for row in rows)
    return INVALID if any(row["certificate"] == "INVALID" for row in rows) else 0
