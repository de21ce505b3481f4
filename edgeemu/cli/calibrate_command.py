"""The commands `calibrate`, which fits a board's figures to measurements, and `observe`, which measures a server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.cli.answers import answer
from edgeemu.cli.options import AsJson
from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.run.calibrate.profile_text import Known

FIGURES = (".png", ".svg")

Condition = Annotated[
    list[str] | None,
    typer.Option(
        "--fit",
        metavar="COLUMN=VALUES",
        help="Fit only rows of a CSV file whose column has one of these values (nodes=1,2), and predict the others. "
        "May be repeated.",
        show_default=False,
    ),
]


def calibrate(
    measured: Annotated[
        list[Path],
        typer.Argument(
            metavar="MEASURED…",
            help="CSV file, JSON of llama-bench or of edgeemu observe, or directory of a run.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Profile to write, in YAML.", show_default=False)],
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="Software that ran (edgeemu engines).")] = (
        "ideal"
    ),
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="Rows of this device in a CSV file; or its profile.", show_default=False
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="PROFILE",
            help="Profile of the catalog that gives memory, network interface and power, and arithmetic where no "
            "prompt was measured. Default: that of --device, if it is one.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="Memory of the board, if not the profile's.", show_default=False),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="COLUMN=VALUES", help="Leave out the other rows of a CSV file.", show_default=False
        ),
    ] = None,
    fit: Condition = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Model that was measured.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="FORMAT", help="Format of its weights.", show_default=False)
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", help="Boards that ran it, for JSON files.")] = 1,
    link: Annotated[
        str | None,
        typer.Option("--link", metavar="TYPE", help="Link type or bit rate between boards.", show_default=False),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure", metavar="FILE", help="Draw measured against predicted: .png or .svg.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit the figures of a board to measurements of it, and write them as a profile.

    Bandwidth, arithmetic, and what an operation and a message cost are fitted by least squares, with edgeemu's own
    timeline as the model: equal boards under the engine, with the model, formats and link of each row. What the rows
    cannot tell apart is not fitted: it stays as the engine or the catalog has it, and the answer says what to measure.

    A CSV file has the columns model, weights, nodes, value and unit (tok/s, ms, …), and link where nodes are several;
    and, as far as known, device, metric (prefill for prompts), context, sequences, bits_per_weight and compute_ms.

    \b
    Examples:
      edgeemu calibrate bench.json --engine llama.cpp --like raspberry-pi-5 --out pi5.yaml
      edgeemu calibrate measured.csv --device "Raspberry Pi 5 8GB" --engine distributed-llama-0.1
        --like raspberry-pi-5 --fit nodes=1,2 --out pi5.yaml --figure pi5.svg
      edgeemu simulate scenarios/quickstart.yaml --set devices[1].profile=pi5.yaml
    """
    from edgeemu.run.calibrate.fit import calibrate as fitted_to
    from edgeemu.run.calibrate.fit_tables import figure_table, fit_document, row_table
    from edgeemu.run.calibrate.profile_text import profile_text
    from edgeemu.run.calibrate.read_csv import Defaults
    from edgeemu.run.calibrate.read_measured import read_measured
    from edgeemu.scenario.catalog.engines import engine_entry

    _check_files(out, figure)
    try:
        software = engine_entry(engine)
    except RequestError as error:
        raise RequestError(error.message, field="--engine") from None
    known = _known(device, like, memory)
    in_csv = device is not None and any(path.suffix not in (".json", ".jsonl") and path.is_file() for path in measured)
    columns = _conditions("--only", only) | ({"device": [device]} if in_csv and device else {})
    defaults = Defaults(model, weights, nodes, link)
    rows = read_measured(measured, software, defaults, columns, _conditions("--fit", fit))
    made = fitted_to(software, rows)
    data = list(dict.fromkeys(row.where for row in rows if row.fitted))
    title = device or (f"Like {known.like.title}" if known.like else out.stem)
    out.write_text(profile_text(f"{title}, calibrated", made, known, data), "utf-8")
    if figure is not None:
        from edgeemu.run.calibrate.fit_figure import draw_fit

        draw_fit([(title, made)], figure)

    def show(page: Page) -> None:
        page.table(*figure_table(made))
        page.line()
        page.table(*row_table(made))
        page.line()
        page.line(f"written: {out}" + (f", {figure}" if figure else ""))

    answer(fit_document(made), as_json, show)


def observe(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Base of an OpenAI-compatible API.", show_default=False)
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Model of the server.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write, in JSON.", show_default=False)],
    prompt_tokens: Annotated[
        str, typer.Option("--prompt-tokens", metavar="LIST", help="Lengths of prompts, a completion each.")
    ] = "16,128",
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", help="Tokens to generate, at least 2.")] = 64,
    as_json: AsJson = False,
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

    answer(document, as_json, show)


def _check_files(out: Path, figure: Path | None) -> None:
    """Check that files can be written, before anything is computed."""
    if figure is not None and figure.suffix not in FIGURES:
        raise RequestError(f'"{figure}" is not a {" or ".join(FIGURES)} file', field="--figure")
    for option, file in (("--out", out), ("--figure", figure)):
        if file is not None and (file.is_dir() or not os.access(file.absolute().parent, os.W_OK | os.X_OK)):
            raise RequestError(
                f'"{file}" cannot be written: a directory, or its own is missing or not yours', field=option
            )


def _known(device: str | None, like: str | None, memory: str | None) -> Known:
    """What the options say of the board beside the measurements."""
    from edgeemu.run.calibrate.profile_text import Known
    from edgeemu.scenario.catalog import device_profile, device_profiles
    from edgeemu.units import SIZE

    named = like or (device if device in device_profiles() else None)
    profile = None
    if named is not None:
        try:
            profile = device_profile(named)
        except RequestError as error:
            raise RequestError(error.message, field="--like") from None
    try:
        memory_bytes = None if memory is None else int(SIZE.parse(memory))
    except RequestError as error:
        raise RequestError(error.message, field="--memory") from None
    if profile is None and memory_bytes is None:
        raise RequestError(
            "the memory of the board is not known: give --like PROFILE (edgeemu devices) or --memory SIZE"
        )
    return Known(profile, memory_bytes)


def _conditions(option: str, given: list[str] | None) -> dict[str, list[str]]:
    """Columns with the values that they may have: `nodes=1,2`."""
    found = {}
    for text in given or ():
        column, equals, values = text.partition("=")
        if not (column.strip() and equals and values.strip()):
            raise RequestError(f'"{text}" is not COLUMN=VALUE or COLUMN=VALUE,VALUE', field=option)
        found[column.strip()] = [value.strip() for value in values.split(",")]
    return found


def _lengths(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 1_000_000 for word in words):
        raise RequestError(f'"{text[:60]}" is not a list of lengths (write e.g. "16,128")', field="--prompt-tokens")
    return [int(word) for word in words]
