"""Command that shows the figures of a run from its records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import Form, answer, in_forms

if TYPE_CHECKING:
    from edgeemu.cli.page import Page


@in_forms
def report(
    directory: Annotated[
        Path, typer.Argument(metavar="RUN", help="Directory of a run, below runs/.", show_default=False)
    ],
    form: Form = Form.PAGE,
) -> None:
    """Show the figures of a run from its records.

    Works for every run: finished, failed, ended by a signal, killed, or still running. A run that was killed is shown
    up to its last complete record; what is known only at the end (energy of links, resident memory) is missing. Nothing
    is written. With --json, the document is that of summary.json.

    \b
    Examples:
      edgeemu report runs/quickstart-20260301T123005Z-layers
      edgeemu report runs/quickstart-20260301T123005Z-layers --json
    """
    from edgeemu.report.run_directory import RunDirectory
    from edgeemu.report.summary import summarise
    from edgeemu.report.summary_tables import summary_lines, summary_tables
    from edgeemu.report.usage_tables import usage_tables

    run = RunDirectory.find(directory)
    summary = summarise(run.records, run.read_facts())

    def show(page: Page) -> None:
        for table in (*summary_tables(summary), *usage_tables(run.records)):
            page.table(*table)
            page.line()
        for line in summary_lines(summary):
            page.sentence(line)

    answer(summary, form, show)
