"""Picture of a sweep: its figure against a varied key, a line for each policy, with intervals. Knows its cells."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from edgeemu.report.disk import writing
from edgeemu.report.drawn.palette import PAPER
from edgeemu.report.drawn.sheet import style
from edgeemu.report.formats import percent_text
from edgeemu.report.intervals import CONFIDENCE
from edgeemu.report.new_file import new_file
from edgeemu.report.sweep import Cell, SweepDesign, Values
from edgeemu.report.sweep_tables import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^Dv*XP<>"
PANELS_BESIDE = 3
TITLE_CHARACTERS, TICK_CHARACTERS = 38, 14  # of a line
TICK_FONT = 10.0
LOGARITHMIC_FROM = 10.0  # largest over smallest number of the axis


def draw_sweep(design: SweepDesign, cells: Sequence[Cell], files: Sequence[Path]) -> None:
    """Draw a sweep and write the picture to files by their suffixes: a panel for each value of the other keys.

    Raises:
        RecordsError: the disk refuses them.
    """
    with style("sweep"):
        figure = _figure(design, cells)
        for path in files:
            with writing(path), new_file(path) as file:
                kind = path.suffix.removeprefix(".")
                metadata = {"Date": None} if kind == "svg" else None
                figure.savefig(file, format=kind, dpi=150, facecolor=PAPER.light, metadata=metadata)


def _figure(design: SweepDesign, cells: Sequence[Cell]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axis = next((key for key in design.keys if key in design.numbers), design.keys[0])
    number = design.keys.index(axis)
    others = list(dict.fromkeys(_without(point, number) for point in design.points))
    beside = min(PANELS_BESIDE, len(others))
    below = ceil(len(others) / beside)
    figure = Figure(figsize=(2.0 + 3.6 * beside, 1.0 + 2.9 * below), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(below, beside, sharex=True, sharey=True, squeeze=False).flat
    names = short_names(design.keys)
    for panel, other in zip(panels, others, strict=False):
        of_panel = [cell for cell in cells if _without(cell.point, number) == other]
        _draw_lines(panel, design, of_panel, axis)
        keys = [key for key in design.keys if key != axis]
        title = ", ".join(f"{names[key]} {value}" for key, value in zip(keys, other, strict=True))
        panel.set_title(fill(title, TITLE_CHARACTERS))
    for panel in list(panels)[len(others) :]:
        panel.set_axis_off()
    unit = f" ({design.figure.unit})" if design.figure.unit else ""
    figure.supxlabel(axis)
    figure.supylabel(f"{design.figure.heading.removeprefix('>')}{unit}")
    known = any(cell.mean and cell.mean.low is not None for cell in cells)
    bars = f", with {percent_text(CONFIDENCE)} intervals" if known else ""
    seeds = f"mean of {len(design.seeds)} seeds{bars}" if len(design.seeds) > 1 else "one seed"
    figure.suptitle(f"{design.scenario}: {seeds}")
    handles, labels = panels[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _without(point: Values, number: int) -> Values:
    return (*point[:number], *point[number + 1 :])


def _draw_lines(panel: Axes, design: SweepDesign, cells: Sequence[Cell], axis: str) -> None:
    """Draw a line for each policy, and label the axis with the values as they were written."""
    number = design.keys.index(axis)
    values = list(dict.fromkeys(point[number] for point in design.points))
    places = dict(design.numbers.get(axis, zip(values, range(len(values)), strict=True)))
    for order, policy in enumerate(design.policies):
        line = [cell for cell in cells if cell.policy == policy and cell.mean is not None]
        line.sort(key=lambda cell: places[cell.point[number]])
        found = [cell.mean for cell in line if cell.mean is not None]
        around = [
            [mean.value - (mean.value if mean.low is None else mean.low) for mean in found],
            [(mean.value if mean.high is None else mean.high) - mean.value for mean in found],
        ]
        panel.errorbar(
            [places[cell.point[number]] for cell in line],
            [mean.value for mean in found],
            yerr=around,
            marker=MARKERS[order % len(MARKERS)],
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=policy,
        )
    if axis in design.numbers and 0 < LOGARITHMIC_FROM * min(places.values()) < max(places.values()):
        panel.set_xscale("log")
    panel.set_xticks(list(places.values()), [fill(value, TICK_CHARACTERS) for value in places], fontsize=TICK_FONT)
    panel.minorticks_off()
    panel.set_ylim(bottom=0.0)
    panel.grid(visible=True)
