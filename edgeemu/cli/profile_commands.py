"""Commands that measure this host: profile kernels, profile host, profile links."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeemu.cli.answers import Form, answer, in_forms
from edgeemu.cli.options import PolicyName, ScenarioFile, Settings, Trust, check_file, check_writable, load
from edgeemu.errors import RequestError
from edgeemu.host.limits import check_threads
from edgeemu.host.until_signal import until_signal

if TYPE_CHECKING:
    from edgeemu.cli.page import Page

FIGURES = (".png", ".svg")
MAX_NUMBERS = 16  # in a list of rows, of cached positions or of threads
MAX_NUMBER = 10**7


ModelName = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="Model of the catalog, GGUF file or Hugging Face directory.")
]
ShapeText = Annotated[
    str | None,
    typer.Option(
        "--shape", metavar="YAML", help="Dimensions in place of a model, as in a scenario.", show_default=False
    ),
]
Rows = Annotated[
    str, typer.Option("--rows", metavar="LIST", help="New positions of a step: 1 is decoding, more are prefill.")
]
Past = Annotated[
    str | None,
    typer.Option(
        "--past",
        metavar="LIST",
        help="Cached positions before them, for attention; k is 1024. Default: 0,1k,4k, within the context.",
        show_default=False,
    ),
]
Precisions = Annotated[str, typer.Option("--precision", metavar="LIST", help="Number formats of weights and caches.")]
Threads = Annotated[str, typer.Option("--threads", metavar="LIST", help="Threads of the BLAS. A device has one.")]
FigureFile = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw the roofline: a .png or .svg file.", show_default=False),
]
FiguresDirectory = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write kernels.json, roofline.png and roofline.svg to this directory.",
        show_default=False,
    ),
]


@in_forms
def kernels(
    model: ModelName = "smollm2-135m-instruct",
    shape: ShapeText = None,
    rows: Rows = "1,8,64,512",
    past: Past = None,
    precision: Precisions = "f32",
    threads: Threads = "1",
    figure: FigureFile = None,
    out: FiguresDirectory = None,
    form: Form = Form.PAGE,
) -> None:
    """Measure the kernels of a model on this host.

    Times the real kernels, with random weights: queries, keys and values (qkv), attention, projection, feed-forward,
    norm and output matrix, and decoding of packed weights. Each as in a step of a model: weights and caches come from
    memory. One thread is timed in processor time, several by the wall clock. The median is that of the samples that
    nothing disturbed; outliers are counted apart. Beside it: the share of the roofline of this host, measured in the
    same run, and what the cost model counts for the same kernel. Says first how long it takes, and refuses what takes
    over ten minutes.

    \b
    Examples:
      edgeemu profile kernels
      edgeemu profile kernels --model llama-3.2-1b --rows 1,32 --past 0,2k
      edgeemu profile kernels --rows 1 --past 4k --threads 1,2 --json
      edgeemu profile kernels --precision f32,q8_0,q4_0
      edgeemu profile kernels --figure roofline.svg
      edgeemu profile kernels --shape '{n_layers: 4, d_model: 512, n_heads: 8, n_kv_heads: 2, head_dim: 64,
        d_ff: 1536, vocab_size: 32000, max_context: 2048}'
    """
    from edgeemu.report.profile_tables import kernel_tables

    files = _figure_files(figure, out)
    document = _measured(model, shape, precision, rows, past, threads)
    _write(document, files, out)

    def show(page: Page) -> None:
        for title, table in kernel_tables(document):
            page.sentence(title)
            page.table(*table)
            page.line()
        for file in files:
            page.line(f"drawn: {file}")

    answer(document, form, show)


@in_forms
def host(form: Form = Form.PAGE) -> None:
    """Measure this host: arithmetic, memory, caches, timers and messages.

    Speeds are those of one core, in processor time: what other programs take meanwhile does not count, and disturbed
    samples are told as outliers. Memory is read beyond what the caches hold. Says what holds the BLAS down, and what to
    do. Takes a few seconds. doctor shows which features the host has.

    \b
    Examples:
      edgeemu profile host
      edgeemu profile host --json
      env -u OPENBLAS_CORETYPE edgeemu profile host
    """
    from edgeemu.cli.page import Page
    from edgeemu.host.profile_host import Clocks, profile_host
    from edgeemu.report.profile_tables import host_lines, host_tables

    status = Page(sys.stderr)
    clocks = Clocks(time.thread_time, time.process_time, time.monotonic, time.sleep)
    document = profile_host(clocks, os.environ, lambda step: status.line(f"measuring: {step} …", "dim"))

    def show(page: Page) -> None:
        for table in host_tables(document):
            page.table(*table)
            page.line()
        for line in host_lines(document):
            page.sentence(line)

    answer(document, form, show)


@in_forms
def links(
    scenario: ScenarioFile,
    policy: PolicyName = None,
    trust: Trust = False,
    settings: Settings = None,
    form: Form = Form.PAGE,
) -> None:
    """Measure links and compare them with the scenario.

    Starts the scenario's devices as a run does, and sends messages over one link of each kind that the run would use:
    delay of a small message, throughput of a long transfer, round trip of the run's own messages. All figures are in
    emulated time; "late" is the wall-clock time between a message's arrival on the timeline and its delivery. Figures
    of stamped links are computed by the timeline.

    \b
    Examples:
      edgeemu profile links scenarios/quickstart.yaml
      edgeemu profile links scenarios/quickstart.yaml --set network.backend=hybrid --json
    """
    check_threads()
    from edgeemu.cli.observers import watch
    from edgeemu.report.link_certificate import profile_table
    from edgeemu.run.profile_links import profile_links

    wanted = load(scenario, settings)
    with watch(sys.stderr, sys.stderr, words=False) as observer:
        document = until_signal(profile_links(wanted, policy, observer.phase, trust=trust))

    def show(page: Page) -> None:
        page.table(*profile_table(document))
        why = f", not kernel: {document['why_not_kernel']}" if document["why_not_kernel"] else ""
        page.line(f"{document['links']} links{why}; dilation {document['dilation']:g}")

    answer(document, form, show)


def _measured(
    model: str, shape: str | None, precision: str, rows: str, past: str | None, threads: str
) -> dict[str, Any]:
    """Measure what the options ask for, with progress on standard error."""
    from edgeemu.cli.observers import watch
    from edgeemu.cli.page import Page
    from edgeemu.host.available_memory import available_memory
    from edgeemu.run.profile_kernels import make_request, profile_kernels

    wanted = make_request(
        model,
        shape,
        [name.strip() for name in precision.split(",")],
        _numbers("--rows", rows, 1),
        None if past is None else _numbers("--past", past, 0),
        _numbers("--threads", threads, 1),
    )
    status = Page(sys.stderr)
    with watch(sys.stderr, sys.stderr, words=False) as observer:
        return profile_kernels(
            wanted,
            time.thread_time,
            time.perf_counter,
            available_memory(),
            lambda will_s: status.line(f"takes about {max(1.0, will_s):.0f} s of processor time", "dim"),
            observer.phase,
        )


def _numbers(field: str, text: str, least: int) -> list[int]:
    """Read a list of whole numbers: `1,8,64` or `0,1k,4k`."""
    found = []
    for word in text.split(","):
        digits, factor = (word.strip()[:-1], 1024) if word.strip().endswith("k") else (word.strip(), 1)
        if not (
            digits.isascii() and digits.isdigit() and len(digits) <= 8 and least <= int(digits) * factor <= MAX_NUMBER
        ):
            raise RequestError(f'"{word[:40]}" is not a number of at least {least} (write e.g. "1,8,2k")', field=field)
        found.append(int(digits) * factor)
    if len(found) > MAX_NUMBERS:
        raise RequestError(f"{len(found)} numbers are too many: at most {MAX_NUMBERS}", field=field)
    return sorted(set(found))


def _figure_files(figure: Path | None, out: Path | None) -> list[Path]:
    """Files to draw, checked before anything is measured."""
    if figure is not None and figure.suffix not in FIGURES:
        raise RequestError(f'"{figure}" is not a {" or ".join(FIGURES)} file', field="--figure")
    if out is not None:
        check_writable(out)
    if figure is not None:
        check_file(figure, "--figure")
    return [*([figure] if figure else []), *(out / f"roofline{suffix}" for suffix in FIGURES if out)]


def _write(document: dict[str, Any], files: list[Path], out: Path | None) -> None:
    from edgeemu.report.run_directory import to_json

    if out is not None:
        (out / "kernels.json").write_text(to_json(document) + "\n", "utf-8")
    if files:
        from edgeemu.report.roofline_figure import draw_roofline

        draw_roofline(document, files)
