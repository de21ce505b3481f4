"""The commands `calibrate`, which fits a board's figures to measurements, and `observe`, which measures a server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.options import Only, check_file, conditions
from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.run.calibrate.fit import Calibration
    from edgeemu.run.calibrate.read_csv import Defaults

FIGURES = (".png", ".svg")
MOST_SHOWN = 10  # rows that are left out

MeasuredFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="MEASURED…",
        help="CSV file, JSON of llama-bench or of edgeemu observe, or directory of a run.",
        show_default=False,
    ),
]
OutFile = Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.", show_default=False)]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Software that ran (edgeemu engines). Default: what the file says (llama-bench: llama.cpp; a run: its "
        "own), else ideal.",
        show_default=False,
    ),
]
DeviceName = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Only rows of this device in a CSV file.", show_default=False),
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="PROFILE",
        help="Profile of the catalog that gives memory, network interface and power, and arithmetic where no prompt "
        "was measured. Default: that of --device, if it is one.",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Memory of the board, if not the profile's.", show_default=False),
]
FitRows = Annotated[
    list[str] | None,
    typer.Option(
        "--fit",
        metavar="COLUMN=VALUES",
        help="Fit only such rows, and predict the others. May be repeated.",
        show_default=False,
    ),
]
ModelMeasured = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Model that was measured.", show_default=False)
]
Weights = Annotated[
    str | None, typer.Option("--weights", metavar="FORMAT", help="Format of its weights.", show_default=False)
]
Nodes = Annotated[int, typer.Option("--nodes", metavar="N", min=1, help="Boards that ran it, for JSON files.")]
LinkName = Annotated[
    str | None, typer.Option("--link", metavar="TYPE", help="Link type or bit rate between boards.", show_default=False)
]
FitFigure = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw measured against predicted: .png or .svg.", show_default=False),
]
Url = Annotated[str, typer.Option("--url", metavar="URL", help="Base of an OpenAI-compatible API.", show_default=False)]
ServedModel = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Model, as the server calls it.", show_default=False)
]
PromptLengths = Annotated[
    str, typer.Option("--prompt-tokens", metavar="LIST", help="Lengths of prompts, a completion each.")
]
Tokens = Annotated[int, typer.Option("--tokens", metavar="N", help="Tokens to generate, at least 2.")]


@in_forms
def calibrate(
    measured: MeasuredFiles,
    out: OutFile,
    engine: EngineName = None,
    device: DeviceName = None,
    like: Like = None,
    memory: Memory = None,
    only: Only = None,
    fit: FitRows = None,
    model: ModelMeasured = None,
    weights: Weights = None,
    nodes: Nodes = 1,
    link: LinkName = None,
    figure: FitFigure = None,
    form: Form = Form.PAGE,
) -> None:
    """Fit the figures of a board to measurements of it, and write them as a profile.

    Bandwidth, arithmetic, and what an operation and a message cost are fitted by least squares, with edgeemu's own
    timeline as the model: equal boards under the engine, with the model, formats and link of each row. What the rows
    cannot tell apart is not fitted: it stays as the engine or the catalog has it, and the answer says what to measure.
    Rows that cannot be used are left out, and told with the reason.

    A CSV file has the columns model, weights, nodes, value and unit (tok/s, ms, …), and link where nodes are several;
    and, as far as known, device, metric (prefill for prompts), context, sequences, bits_per_weight and compute_ms.

    \b
    Examples:
      edgeemu calibrate bench.json --like raspberry-pi-5 --out pi5.yaml
      edgeemu calibrate measured.csv --device "Raspberry Pi 5 8GB" --engine distributed-llama-0.1
        --like raspberry-pi-5 --fit nodes=1,2 --out pi5.yaml --figure pi5.svg
      edgeemu simulate scenarios/quickstart.yaml --set devices[1].profile=pi5.yaml
    """
    from edgeemu.run.calibrate.fit_tables import fit_document
    from edgeemu.run.calibrate.profile_text import beside_measurements, profile_text
    from edgeemu.run.calibrate.read_csv import Defaults
    from edgeemu.run.calibrate.remarks import remarks

    _check_files(out, figure)
    beside = beside_measurements(device, like, memory)
    columns = conditions("--only", only) | ({"device": [device]} if device and _has_csv(measured) else {})
    defaults = Defaults(model, weights, nodes, link)
    made, left_out = _fitted(measured, engine, defaults, columns, conditions("--fit", fit))
    title = device or (f"Like {beside.like.title}" if beside.like else out.stem)
    out.write_text(profile_text(f"{title}, calibrated", made, beside), "utf-8")
    if figure is not None:
        from edgeemu.run.calibrate.fit_figure import draw_fit

        draw_fit([(title, made)], figure)

    remarked, written = remarks(made, beside.like), f"{out}" + (f", {figure}" if figure else "")
    answer(fit_document(made, remarked, left_out), form, partial(_show, made, remarked, left_out, written))


def _show(made: Calibration, remarked: Sequence[str], left_out: Sequence[str], written: str, page: Page) -> None:
    from edgeemu.run.calibrate.fit_tables import figure_table, row_table

    page.line(f"engine: {made.engine}")
    page.table(*figure_table(made))
    page.line()
    page.table(*row_table(made))
    page.line()
    for remark in remarked:
        page.line(f"note: {remark}")
    for reason in left_out[:MOST_SHOWN]:
        page.line(f"left out: {reason}")
    if len(left_out) > MOST_SHOWN:
        page.line(f"left out: {len(left_out) - MOST_SHOWN} more (--json has them)")
    page.line(f"written: {written}")


@in_forms
def observe(
    url: Url,
    model: ServedModel,
    out: OutFile,
    prompt_tokens: PromptLengths = "16,128",
    tokens: Tokens = 64,
    form: Form = Form.PAGE,
) -> None:
    """Ask an OpenAI-compatible server for completions, and record the time of every token.

    Each completion is streamed; its prompt is of random words, so that no cache of prompts has it. The server's own
    count of tokens is used where it tells it. edgeemu calibrate reads the file.

    \b
    Examples:
      edgeemu observe --url http://pi.local:8080/v1 --model llama-3.2-1b --out observed.json
      edgeemu observe --url http://localhost:11434/v1 --model llama3.2:1b --prompt-tokens 16,256 --out observed.json
      edgeemu calibrate observed.json --model llama-3.2-1b --weights q4_0 --engine llama.cpp
        --like raspberry-pi-5 --out pi5.yaml
    """
    from edgeemu.report.run_directory import to_json
    from edgeemu.run.calibrate.observe import observe_server, observed_table

    _check_files(out, None)
    lengths = _lengths(prompt_tokens)
    if tokens < 2:
        raise RequestError(f"{tokens} is less than 2: a time per token is that between two", field="--tokens")
    document = observe_server(url, model, lengths, tokens, time.monotonic, Random())
    out.write_text(to_json(document) + "\n", "utf-8")

    def show(page: Page) -> None:
        page.table(*observed_table(document))
        page.line(f"written: {out}")

    answer(document, form, show)


def _check_files(out: Path, figure: Path | None) -> None:
    """Check that files can be written, before anything is computed."""
    if figure is not None and figure.suffix not in FIGURES:
        raise RequestError(f'"{figure}" is not a {" or ".join(FIGURES)} file', field="--figure")
    for option, file in (("--out", out), ("--figure", figure)):
        if file is not None:
            check_file(file, option)


def _has_csv(measured: list[Path]) -> bool:
    return any(path.suffix not in (".json", ".jsonl") and path.is_file() for path in measured)


def _fitted(
    measured: list[Path],
    engine: str | None,
    defaults: Defaults,
    only: dict[str, list[str]],
    fit: dict[str, list[str]],
) -> tuple[Calibration, list[str]]:
    """Read the measurements, and fit those that are to be fitted. With why rows are left out."""
    from edgeemu.run.calibrate.fit import calibrate as fitted_to
    from edgeemu.run.calibrate.read_measured import read_measured

    engine_ran, rows, left_out = read_measured(measured, engine, defaults, only, fit)
    return fitted_to(engine_ran, rows), left_out


def _lengths(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 1_000_000 for word in words):
        raise RequestError(f'"{text[:60]}" is not a list of lengths (write e.g. "16,128")', field="--prompt-tokens")
    return [int(word) for word in words]
