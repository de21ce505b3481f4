"""`edgeemu compare --seeds`: policies on several draws of one scenario."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemu.cli.answers import Form, answer
from edgeemu.cli.kept_comparison import kept_if_interrupted
from edgeemu.cli.options import check_writable, read_scenario
from edgeemu.cli.report_files import ReportFiles, write_comparison
from edgeemu.cli.sweep_runs import carried_out, leave

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeemu.cli.page import Page
    from edgeemu.report.sweep import Cell, SweepDesign, SweptRun
    from edgeemu.run.sweep.sweep import Mode


def compare_seeds(
    scenario: Path,
    settings: list[str] | None,
    policies: Sequence[str],
    seeds: int,
    mode: Mode,
    out: Path,
    on: str,
    form: Form,
    files: ReportFiles,
) -> None:
    """Run a scenario with several seeds under each policy, and show means, their intervals, and gaps of pairs."""
    from edgeemu.report.comparison import JUDGED
    from edgeemu.report.seeds_comparison import seeds_comparison
    from edgeemu.report.sweep import SweepDesign
    from edgeemu.run.compare import named_policies
    from edgeemu.run.sweep.points import SweepPoint
    from edgeemu.run.sweep.sweep import seeds_of

    wanted = read_scenario(scenario).scenario(settings or ())
    names = named_policies(policies, given=wanted.placement is not None)
    check_writable(out)
    design = SweepDesign(
        scenario=wanted.name,
        keys=(),
        points=((),),
        policies=tuple(names),
        seeds=seeds_of(wanted, seeds),
        judged=JUDGED[wanted.objective],
        simulated=mode.simulate,
    )
    made: list[SweptRun] = []
    with kept_if_interrupted(partial(_ended, design, made), form, "policies whose runs have all ended"):
        _, cells = carried_out(design, [SweepPoint((), wanted)], policies, mode, out, on, made)
    answer(document := seeds_comparison(design, cells), form, partial(_show, document, design, cells))
    write_comparison(files, {**document, "one_cluster": False})
    leave(design, cells)


def _ended(design: SweepDesign, made: Sequence[SweptRun]) -> dict[str, Any]:
    """Make the document of those policies whose runs have all been made."""
    from edgeemu.report.seeds_comparison import seeds_comparison
    from edgeemu.report.sweep import cells_of

    number = Counter(run.policy for run in made)
    policies = tuple(policy for policy in design.policies if number[policy] == len(design.seeds))
    if not policies:
        return {"policies": []}
    ended = design._replace(policies=policies)
    return seeds_comparison(ended, cells_of(ended, made))


def _show(document: dict[str, Any], design: SweepDesign, cells: Sequence[Cell], page: Page) -> None:
    from edgeemu.report.basis import basis_line
    from edgeemu.report.comparison import comparison_table
    from edgeemu.report.sweep_tables import sweep_lines

    page.line()
    page.table(*comparison_table(document))
    for line in sweep_lines(design, cells):
        page.sentence(line)
    if basis := basis_line(document["basis"]):
        page.sentence(basis)
