"""Command that runs a scenario many times: with varied keys, policies and seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.options import (
    OutDirectory,
    ScenarioFile,
    Settings,
    Share,
    Simulated,
    Trust,
    check_writable,
    read_scenario,
    separated,
)
from edgeemu.cli.sweep_runs import LOCAL, On, Seeds, carried_out, leave
from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeemu.cli.page import Page
    from edgeemu.report.sweep import Cell, SweepDesign
    from edgeemu.run.sweep.points import SweepPoint

PICTURES = ("sweep.svg", "sweep.pdf", "sweep.png")
RANKED = ("tpot_ms", "ttft_ms", "throughput_tok_s", "energy_per_token_j")

Vary = Annotated[
    list[str],
    typer.Option(
        "--vary",
        metavar="PATH=A,B,C",
        help="Values of a field of the scenario, as in a YAML list; may be repeated: all combinations are run.",
        show_default=False,
    ),
]
SweepPolicies = Annotated[
    str | None,
    typer.Option(
        "--policies",
        metavar="A,B,C",
        help="Names (see: edgeemu policies) or FILE.py:NAME, separated by commas, or all; else the scenario's.",
        show_default=False,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help=f"Figure of the table and the picture: {', '.join(RANKED)}; else by the scenario's objective.",
        show_default=False,
    ),
]


@in_forms
def sweep(
    scenario: ScenarioFile,
    vary: Vary,
    seeds: Seeds = 1,
    policies: SweepPolicies = None,
    metric: Metric = None,
    simulated: Simulated = False,
    on: On = LOCAL,
    trust: Trust = False,
    settings: Settings = None,
    out: OutDirectory = Path("runs"),
    share: Share = False,
    form: Form = Form.PAGE,
) -> None:
    """Run a scenario with all combinations of some values, and compare policies at each.

    Every point and policy gets the same seeds, so that what is compared is the same draw of devices, links and prompts.
    Means have 95 % intervals (bootstrap), and differences that are not significant are said to be so.

    As many runs as this host holds are made at once: a simulation on each processor, paced devices with a processor
    each. A run that is complete is not repeated: after Ctrl-C, or a crash, the same command goes on. Runs are in
    swept/ below --out; the table as CSV and Parquet, and a picture, in a directory of the sweep's own.

    \b
    Examples:
      edgeemu sweep scenarios/slowdown.yaml --simulate --vary network.default.bandwidth="10 Mbit/s,100 Mbit/s,1 Gbit/s"
      edgeemu sweep scenarios/lan-25.yaml --simulate --vary workload.max_tokens=16,64 --seeds 20 --policies layers,mdi
      edgeemu sweep scenarios/lan-5.yaml --simulate --vary "network.default=wifi-5,{bandwidth: 1 Gbit/s, delay: 1 ms}"
      edgeemu sweep scenarios/lan-5.yaml --vary precision.weights=f32,q8_0 --set workload.max_tokens=16
    """
    from edgeemu.report.sweep import sweep_document
    from edgeemu.run.sweep.sweep import Mode

    asked = _names(policies)
    design, points = _design(scenario, vary, seeds, asked, metric, settings, simulated=simulated)
    check_writable(out)
    digest, cells = carried_out(design, points, asked, Mode(simulated, trust, share), out, on, [])
    document = sweep_document(design, cells)
    directory = _write(design, cells, document, out / f"{design.scenario}-sweep-{digest}", share=share)
    answer({**document, "directory": str(directory)}, form, partial(_show, design, cells, directory))
    leave(design, cells)


def _names(policies: str | None) -> list[str]:
    """Read the names of policies, each of which must be there; none are the scenario's own."""
    from edgeemu.run.compare import expanded

    if policies is None:
        return []
    names = separated(policies)
    expanded(names)
    return names


def _design(
    scenario: Path,
    vary: list[str],
    seeds: int,
    policies: list[str],
    metric: str | None,
    settings: list[str] | None,
    *,
    simulated: bool,
) -> tuple[SweepDesign, Sequence[SweepPoint]]:
    """Read the points of a sweep, and say what is varied and judged."""
    from edgeemu.report.comparison import JUDGED
    from edgeemu.report.sweep import SweepDesign
    from edgeemu.run.sweep.points import numbers_of, read_keys, read_points
    from edgeemu.run.sweep.sweep import columns_of, seeds_of

    varied = read_keys(vary)
    points = read_points(read_scenario(scenario), settings or (), varied)
    first = points[0].scenario
    judged = metric or JUDGED[first.objective]
    if judged not in RANKED:
        raise RequestError(f'"{judged}" is none of {", ".join(RANKED)}', field="--metric")
    design = SweepDesign(
        scenario=first.name,
        keys=tuple(key.path for key in varied),
        points=tuple(point.values for point in points),
        policies=columns_of(points, policies),
        seeds=seeds_of(first, seeds),
        judged=judged,
        simulated=simulated,
        numbers=numbers_of(varied, points),
    )
    return design, points


def _write(
    design: SweepDesign, cells: Sequence[Cell], document: dict[str, Any], directory: Path, *, share: bool
) -> Path:
    """Write tables and picture to a directory, in place of those of the same sweep before."""
    from edgeemu.report.sweep_figure import draw_sweep
    from edgeemu.report.sweep_files import write_tables

    directory.mkdir(0o777 if share else 0o700, exist_ok=True)
    write_tables(directory, document)
    draw_sweep(design, cells, [directory / name for name in PICTURES])
    return directory


def _show(design: SweepDesign, cells: Sequence[Cell], directory: Path, page: Page) -> None:
    """Print the table, what is to be said about it, and where the files are."""
    from edgeemu.report.sweep_tables import sweep_lines, sweep_table

    page.line()
    page.table(*sweep_table(design, cells))
    for line in sweep_lines(design, cells):
        page.sentence(line)
    page.line(f"tables and picture: {directory}")
