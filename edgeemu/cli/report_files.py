"""Files of reports: a page of HTML, and figures for a paper, of one run, of several, or of a comparison."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from edgeemu.cli.options import check_file, check_writable

if TYPE_CHECKING:
    from edgeemu.report.drawn.across_runs import ComparedRun
    from edgeemu.report.drawn.run_data import RunData
    from edgeemu.report.drawn.sheet import Drawing
    from edgeemu.report.facts import RunFacts
    from edgeemu.report.formats import Table
    from edgeemu.report.run_directory import RunDirectory
    from edgeemu.run.plan import Plan

HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Write a page with tables and pictures: one file, offline.", show_default=False
    ),
]
FiguresDirectory = Annotated[
    Path | None,
    typer.Option(
        "--figures", metavar="DIR", help="Write the pictures to a directory, as SVG, PDF and PNG.", show_default=False
    ),
]


class ReportFiles(NamedTuple):
    """Files that a command was asked to write."""

    html: Path | None
    figures: Path | None

    def __bool__(self) -> bool:
        return self.html is not None or self.figures is not None

    @classmethod
    def checked(cls, html: Path | None, figures: Path | None) -> ReportFiles:
        """Check that files can be written, before anything that takes long.

        Raises:
            RequestError: one of them cannot.
        """
        if html is not None:
            check_file(html, "--html")
        if figures is not None:
            check_writable(figures, "--figures")
        return cls(html, figures)

    def write(self, page: Iterator[str], drawings: Sequence[Drawing]) -> None:
        """Write them, and say so on standard error."""
        from edgeemu.cli.page import Page
        from edgeemu.report.drawn.sheet import save
        from edgeemu.report.html.page import write_page

        said = Page(sys.stderr)
        if self.html is not None:
            write_page(self.html, page)
            said.line(f"written: {self.html}")
        if self.figures is not None:
            files = [file for drawing in drawings for file in save(drawing, self.figures)]
            said.line(f"written: {self.figures}, with {len(files)} files")


def read_for(files: ReportFiles, run: RunDirectory, facts: RunFacts) -> RunData | None:
    """Read what files of one run show; None: there are none to write."""
    if not files:
        return None
    from edgeemu.report.drawn.run_data import run_data

    return run_data(run.records, facts)


def write_run(
    files: ReportFiles,
    run: RunDirectory,
    data: RunData,
    summary: Mapping[str, Any],
    what_if: tuple[Sequence[Table], Sequence[str]] = ((), ()),
) -> None:
    """Write the files of one run; `what_if`: tables and sentences about what would help."""
    from edgeemu.report.drawn.run_drawings import run_drawings
    from edgeemu.report.html.run_page import run_page
    from edgeemu.run.recorded_cluster import recorded_cluster

    cluster = recorded_cluster(run)
    drawn = [drawing for drawings in run_drawings(data, cluster).values() for drawing in drawings]
    files.write(run_page(run.records, data, summary, cluster, what_if), drawn)


def write_comparison(
    files: ReportFiles, document: Mapping[str, Any], measured: Sequence[tuple[int, float]] = ()
) -> None:
    """Write the files of a comparison from its document, which names its runs.

    `measured`: numbers of devices, and tokens per second that somebody measured with them.
    """
    if not files:
        return
    from edgeemu.report.drawn.across_runs import comparison_drawings
    from edgeemu.report.html.comparison_page import comparison_page

    read = [_read(row["policy"], Path(run)) for row in document["policies"] for run in row["runs"]]
    drawn = comparison_drawings(read, document, measured)
    files.write(comparison_page(document, read, drawn), drawn)


def _read(label: str, path: Path) -> ComparedRun:
    from edgeemu.report.drawn.across_runs import compared_run
    from edgeemu.report.run_directory import RunDirectory

    run = RunDirectory(path)
    return compared_run(label, run.records, run.read_facts())


def write_plan(files: ReportFiles, plan: Plan) -> None:
    """Write the pictures of a plan: its cluster, and its first placement."""
    if not files:
        return
    from edgeemu.report.drawn.placement import first_placement_drawing
    from edgeemu.report.drawn.topology import topology_drawing
    from edgeemu.report.placement_rows import placement_rows

    names = [device.name for device in plan.cluster.devices]
    rows = placement_rows(plan.placement, plan.costs.shape, names, 0, (0, 0), 0.0)
    files.write(iter(()), [topology_drawing(plan.cluster), first_placement_drawing(rows, names)])
