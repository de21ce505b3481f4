"""Command that shows the figures of a run from its records."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.options import Only, check_file, conditions
from edgeemu.cli.report_files import FiguresDirectory, HtmlFile, ReportFiles, read_for, write_comparison, write_run
from edgeemu.cli.without_pandas import without_pandas
from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.report.facts import RunFacts
    from edgeemu.report.run_directory import RunDirectory
    from edgeemu.run.explained import Explained

Directories = Annotated[
    list[Path], typer.Argument(metavar="RUN…", help="Directory of a run, below runs/.", show_default=False)
]
Why = Annotated[
    bool, typer.Option("--why", help="Say where the time of tokens went, and what one change would gain instead.")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="With --why: run the code of the policy file that the run was made with.")
]
MeasuredFile = Annotated[
    Path | None,
    typer.Option(
        "--measured",
        metavar="FILE.csv",
        help="Of several runs: measurements to draw beside their scaling, as edgeemu calibrate reads them.",
        show_default=False,
    ),
]
Trace = Annotated[
    Path | None,
    typer.Option(
        "--trace", metavar="FILE", help="Write what happened when, for https://ui.perfetto.dev.", show_default=False
    ),
]
TokensOfTrace = Annotated[
    str | None,
    typer.Option(
        "--tokens",
        metavar="A-B",
        help="With --trace: show operations and messages of these tokens of every sequence, from 0.",
        show_default=False,
    ),
]


@in_forms
def report(
    directories: Directories,
    why: Why = False,
    trust: Trust = False,
    trace: Trace = None,
    tokens: TokensOfTrace = None,
    html: HtmlFile = None,
    figures: FiguresDirectory = None,
    measured: MeasuredFile = None,
    only: Only = None,
    form: Form = Form.PAGE,
) -> None:
    """Show the figures of a run from its records.

    Works for every run: finished, failed, ended by a signal, killed, or still running. A run that was killed is shown
    up to its last complete record; what is known only at the end (energy of links, resident memory) is missing. Nothing
    is written but what is asked for. With --json, the document is that of summary.json. Several runs are
    compared: those that differ in nothing but their draws are repetitions.

    With --why, it shows the critical path of the tokens instead: what each waited for, by kind, device and path, which
    adds up to its latency. Then what would help: one device twice as fast, wider or quicker links, half the overheads,
    one more device. Each is computed by simulating the run again, with its policy, on the cluster with that change.

    With --trace, it also writes a trace.json.gz that Perfetto opens: a track for each sequence, device and path, with
    tokens, operations, messages and what waited for them, memory, load, bandwidth, migrations and the critical path. Of
    a long run, operations and messages are shown of as many tokens as open well; --tokens chooses which.

    With --html, it also writes a page of all this with pictures, which needs no network; with --figures, the pictures
    for a paper. Those of several runs are time against tokens, what tokens wait for, the gap to the optimum, and
    scaling with the number of devices, with --measured beside what others measured.

    \b
    Examples:
      edgeemu report runs/quickstart-20260301T123005Z-layers
      edgeemu report runs/quickstart-20260301T123005Z-layers --json
      edgeemu report runs/quickstart-20260301T123005Z-layers --why
      edgeemu report runs/quickstart-20260301T123005Z-layers --trace trace.json.gz --tokens 20-40
      edgeemu report runs/quickstart-20260301T123005Z-layers --html page.html --figures figures
      edgeemu report runs/pi4-* --html pi4.html --measured tests/validation/measured.csv --only set=V1
    """
    runs = _found(directories)
    files = ReportFiles.checked(html, figures)
    _check_needed(
        ("--tokens", tokens, "--trace FILE", trace),
        ("--trust", trust, "--why", why),
        ("--only", only, "--measured FILE", measured),
        ("--measured", measured, "--html or --figures of several runs", files and len(runs) > 1),
    )
    without_pandas()
    if len(runs) > 1:
        if why or trace:
            raise RequestError(f"{'--why' if why else '--trace'} is of one run; name one", field="RUN")
        _compare(runs, files, _points(measured, only), form)
        return
    facts = runs[0].read_facts()
    if trace is not None:
        _write_trace(runs[0], facts, trace, tokens)
    show = partial(_explain, trust=trust) if why else _summarise
    show(runs[0], facts, files, form)


def _found(directories: list[Path]) -> list[RunDirectory]:
    """Find runs, each once: patterns may name one twice."""
    from edgeemu.report.run_directory import RunDirectory

    return list(map(RunDirectory.find, dict.fromkeys(directories)))


def _check_needed(*options: tuple[str, object, str, object]) -> None:
    """Check options that say more of others: its name, its value, the other's name, and the other's value, of each.

    Raises:
        RequestError: an option is given without the other.
    """
    for option, given, about, needed in options:
        if given and not needed:
            raise RequestError(f"it is about {about}, which is missing", field=option)


def _compare(runs: list[RunDirectory], files: ReportFiles, measured: list[tuple[int, float]], form: Form) -> None:
    from edgeemu.report.comparison import comparison_lines, comparison_table
    from edgeemu.run.compare_runs import compare_runs

    document = compare_runs(runs)

    def show(page: Page) -> None:
        page.table(*comparison_table(document))
        for line in comparison_lines(document):
            page.sentence(line)

    answer(document, form, show)
    write_comparison(files, document, measured)


def _points(measured: Path | None, only: list[str] | None) -> list[tuple[int, float]]:
    """Numbers of devices, and tokens per second measured with them, from a CSV file."""
    if measured is None:
        return []
    from edgeemu.cli.page import Page
    from edgeemu.run.calibrate.read_csv import Defaults
    from edgeemu.run.calibrate.read_measured import read_measured

    _, rows, left_out = read_measured([measured], None, Defaults(), conditions("--only", only), {})
    for line in left_out:
        Page(sys.stderr).line(f"left out: {line}")
    return [(each.nodes, each.sequences / each.taken_s) for each in rows if each.phase == "decode"]


def _write_trace(run: RunDirectory, facts: RunFacts, path: Path, tokens: str | None) -> None:
    from edgeemu.cli.page import Page
    from edgeemu.report.trace.chosen_steps import parse_steps
    from edgeemu.report.trace.trace import write_trace

    check_file(path, "--trace")
    asked = None if tokens is None else parse_steps(tokens, "--tokens")
    shown = write_trace(path, run.records, facts, asked)
    of = f"tokens {shown.first}-{shown.end - 1}" if shown.end > shown.first else "no token"
    Page(sys.stderr).line(f"written: {path}, with the operations of {of}; open it with https://ui.perfetto.dev")


def _summarise(run: RunDirectory, facts: RunFacts, files: ReportFiles, form: Form) -> None:
    from edgeemu.report.summary import summarise
    from edgeemu.report.summary_tables import summary_lines, summary_tables
    from edgeemu.report.usage_tables import usage_tables

    summary = summarise(run.records, facts)

    def show(page: Page) -> None:
        for table in (*summary_tables(summary), *usage_tables(run.records, summary["utilisation"])):
            page.table(*table)
            page.line()
        for line in summary_lines(summary):
            page.sentence(line)

    answer(summary, form, show)
    data = read_for(files, run, facts)
    if data is not None:
        write_run(files, run, data, summary)


def _explain(run: RunDirectory, facts: RunFacts, files: ReportFiles, form: Form, *, trust: bool) -> None:
    from edgeemu.cli.observers import watch
    from edgeemu.report.critical.breakdown import breakdown
    from edgeemu.report.critical.critical_path import critical_paths
    from edgeemu.report.summary import summarise
    from edgeemu.run.explained import explained, explained_document, what_if_lines, what_if_table

    data = read_for(files, run, facts)
    lost = breakdown(critical_paths(run.records)) if data is None else data.lost
    with watch(sys.stderr, sys.stderr) as observer:
        found = explained(run, facts, lost, partial(observer.phase, "what would help"), trust=trust)
    answer(explained_document(found), form, lambda page: _show_explained(found, page))
    if data is not None:
        write_run(files, run, data, summarise(run.records, facts), (what_if_table(found), list(what_if_lines(found))))


def _show_explained(found: Explained, page: Page) -> None:
    from edgeemu.report.critical.breakdown import breakdown_lines, breakdown_tables
    from edgeemu.run.explained import what_if_lines, what_if_table

    for table in (*breakdown_tables(found.lost, found.used), *what_if_table(found)):
        page.table(*table)
        page.line()
    for line in (*breakdown_lines(found.lost), *what_if_lines(found)):
        page.sentence(line)
