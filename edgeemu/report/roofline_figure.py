"""Roofline of this host with the measured kernels, as a picture. Knows the document of `profile kernels`.

Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemu.report.drawn.palette import PAPER
from edgeemu.report.drawn.sheet import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"qkv": "o", "attention": "s", "proj": "^", "ffn": "D", "norm": "v", "lm_head": "*", "decode": "X"}


def draw_roofline(document: Mapping[str, Any], files: list[Path]) -> None:
    """Draw the kernels, a panel for each number of threads and precision, and write the picture to files by suffix."""
    with style("roofline"):
        figure = _figure(document)
        for file in files:
            metadata = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(file, dpi=150, facecolor=PAPER.light, metadata=metadata)


def _figure(document: Mapping[str, Any]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for each in document["kernels"]:
        panels.setdefault((each["threads"], each["precision"]), []).append(each)
    hosts = {host["threads"]: host for host in document["hosts"]}
    figure = Figure(figsize=(9.0, 5.5 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, ((threads, precision), kernels) in zip(every, panels.items(), strict=True):
        named = "one thread" if threads == 1 else f"{threads} threads"
        _panel(axes, hosts[threads], kernels, f"{document['model']}, {precision}, {named}")
    return figure


def _panel(axes: Axes, host: Mapping[str, Any], kernels: list[Mapping[str, Any]], title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    _roof(axes, host, [each["flops_per_byte"] for each in kernels])
    for label, marker, color, points in _lines(kernels):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, marker=marker, color=color, linewidth=0.8, markersize=8, fillstyle="none", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):  # few plain numbers: powers of ten at every tick would overlap
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("arithmetic intensity (FLOP/byte)")
    axes.set_ylabel("speed (GFLOP/s)")
    rows = sorted({each["rows"] for each in kernels})
    axes.set_title(f"{title}\nrows of each line, from left to right: {', '.join(map(str, rows))}")
    axes.grid(visible=True, which="major")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.03), frameon=False)


def _roof(axes: Axes, host: Mapping[str, Any], intensities: list[float]) -> None:
    """The line that bounds every kernel: memory's slope, then arithmetic's level."""
    ridge = host["flops_per_s"] / host["mem_bytes_per_s"]
    left, right = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    speeds = [min(host["flops_per_s"], x * host["mem_bytes_per_s"]) / 1e9 for x in (left, ridge, right)]
    label = f"roofline: {host['flops_per_s'] / 1e9:.0f} GFLOP/s,\n{host['mem_bytes_per_s'] / 1e9:.1f} GB/s"
    axes.plot([left, ridge, right], speeds, color="black", linewidth=2, label=label)


def _lines(kernels: list[Mapping[str, Any]]) -> list[tuple[str, str, str, list[tuple[float, float]]]]:
    """Label, marker, color and points of each kernel; attention's by cached positions."""
    points: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for each in kernels:
        points.setdefault((each["kernel"], each["past"]), []).append(
            (each["flops_per_byte"], each["flops_per_s"] / 1e9)
        )
    several = len([name for name, _ in points if name == "attention"]) > 1
    return [
        (f"{name}, past {past}" if name == "attention" and several else name, MARKERS[name], f"C{number % 10}", line)
        for number, ((name, past), line) in enumerate(points.items())
    ]
