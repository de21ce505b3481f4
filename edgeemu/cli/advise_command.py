"""Command that finds the least change to a cluster with which it reaches a speed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.options import ScenarioFile, Settings, Trust, dated, read_scenario
from edgeemu.run.few_collections import few_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeemu.cli.page import Page
    from edgeemu.report.advice_tables import SpeedAdvice
    from edgeemu.scenario.scenario import Scenario


@in_forms
@few_collections()
def advise(
    scenario: ScenarioFile,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="SPEED",
            help='Speed to be reached: "5 tokens/s" of all sequences together, or the time per token, "200 ms".',
            show_default=False,
        ),
    ],
    ttft: Annotated[
        str | None,
        typer.Option("--ttft", metavar="TIME", help="Time to the first token, to be reached too.", show_default=False),
    ] = None,
    trust: Trust = False,
    settings: Settings = None,
    form: Form = Form.PAGE,
) -> None:
    """Find the least change with which a cluster reaches a speed.

    Simulates the scenario as it is and with one change each: more and fewer boards of each kind, other boards of the
    catalog in place of one and of all of a kind, faster types of links, smaller formats of weights, caches and
    messages, other policies. Where none of them reaches the target, two are combined. Then come the changes that no
    other beats in speed, energy and price.

    The least change has the fewest kinds of change, then the fewest things that are changed (a board, the links, a
    step to the next smaller format, the policy), then the lowest price of boards. Tokens after the first of each
    sequence count for speed; --ttft is for the first. Simulations are one after the other, 61 at most; long sequences
    are shortened, which is said. Exit status 0 also if nothing reaches the target.

    \b
    Examples:
      edgeemu advise scenarios/four-pi5.yaml --target "7 tokens/s"
      edgeemu advise scenarios/four-pi5.yaml --target "150 ms" --ttft "3 s"
      edgeemu advise scenarios/lan-5.yaml --target "20 tokens/s" --set workload.max_tokens=16 --json
    """
    from edgeemu.cli.observers import watch
    from edgeemu.report.advice import Target
    from edgeemu.report.advice_tables import advice_document
    from edgeemu.run.advise.advise import advise as advised

    asked = Target.read(target, ttft)
    with watch(sys.stderr, sys.stderr) as observer:
        judged = advised(_reader(scenario, settings or ()), asked, observer.phase, trust=trust)
    command = ["edgeemu", "plan", str(scenario), *(part for each in settings or () for part in ("--set", each))]
    answer(advice_document(judged), form, partial(_show, judged, command))


def _reader(path: Path, settings: Sequence[str]) -> Callable[[Sequence[str]], Scenario]:
    """Return a function that reads the scenario with more settings, after those of the command line."""
    written = read_scenario(path)
    return lambda more: dated(written.scenario((*settings, *more)))


def _show(judged: SpeedAdvice, command: list[str], page: Page) -> None:
    """Print the tables of an advice, and what is to be said about it."""
    from edgeemu.report.advice_tables import advice_lines, advice_tables, command_line

    for table in advice_tables(judged):
        page.table(*table)
        page.line()
    for line in advice_lines(judged):
        page.sentence(line)
    if judged.shown is not None:
        page.line(f"see it: {command_line(judged, command)}")  # whole, to be copied
