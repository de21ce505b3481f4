"""Picture of who holds what, head by head: layer × group, coloured by device, for the placements of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.drawn.palette import OTHERS, Colour, DeviceColours
from edgeemu.report.drawn.sheet import Drawing, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from edgeemu.report.drawn.run_data import Epoch, RunData
    from edgeemu.report.rows import PlacementRow

MAX_COLUMNS = 32  # of groups, or shards, of one kind of block: more are drawn side by side without gaps
PANELS = 6  # placements that are shown, of more: the first, the last, and those that moved most
NONE = -1
KINDS = ("head", "proj", "ffn")


class HeldMap(NamedTuple):
    """Holders under one placement: index of a device for each layer and column, -1 where there is nothing."""

    title: str
    cells: dict[str, NDArray[np.int64]]  # by kind of block: [layers, columns]
    ends: dict[str, int]  # embed and lm_head


def placement_drawing(data: RunData) -> Drawing | None:
    """Placements of a run, as many as there is room for; None: none is recorded."""
    if not data.epochs:
        return None
    epochs = chosen_epochs(data)
    holding = {row.device for epoch in epochs for row in epoch.rows}
    names = [device.name for device in data.facts.devices if device.name in holding]
    maps = [held_map(epoch_title(epoch), epoch.rows, names) for epoch in epochs]
    few = "" if len(epochs) == len(data.epochs) else f" ({len(epochs)} of {len(data.epochs)} placements)"
    caption = f"Device that holds each head, projection and feed-forward, layer by layer{few}"
    return Drawing(
        "placement", "Placement over time", caption, lambda s: draw_maps(s, maps, names, data.colours), False
    )


def first_placement_drawing(rows: Sequence[PlacementRow], names: Sequence[str]) -> Drawing:
    """Holders under one placement, whose rows these are; `names` are those of all devices."""
    holding = {row.device for row in rows}
    held = [name for name in names if name in holding]
    maps, colours = [held_map("first placement", rows, held)], DeviceColours(names)
    caption = "Device that holds each head, projection and feed-forward, layer by layer"
    return Drawing("placement", "First placement", caption, lambda sheet: draw_maps(sheet, maps, held, colours))


def chosen_epochs(data: RunData) -> list[Epoch]:
    """Choose the first placement, the last, and those between them that moved most."""
    if len(data.epochs) <= PANELS:
        return list(data.epochs)
    sent = {each.epoch: each.bytes for each in data.moved if each.outcome == "committed"}
    between = sorted(data.epochs[1:-1], key=lambda epoch: -sent.get(epoch.number, 0))[: PANELS - 2]
    return sorted([data.epochs[0], *between, data.epochs[-1]], key=lambda epoch: epoch.number)


def epoch_title(epoch: Epoch) -> str:
    return "first placement" if not epoch.number else f"from token {epoch.step + 1}, {epoch.at_s:.3g} s"


def held_map(title: str, rows: Sequence[PlacementRow], names: list[str]) -> HeldMap:
    """Make the map of a placement; `names` are those of its devices, by index."""
    at = {name: index for index, name in enumerate(names)}
    n_layers = 1 + max((row.layer for row in rows), default=-1)
    cells = {
        kind: np.full((n_layers, max((row.of for row in rows if row.block == kind), default=1)), NONE) for kind in KINDS
    }
    ends = {}
    for row in rows:
        if row.layer < 0:
            ends[row.block] = at[row.device]
        elif row.block in cells:
            of = cells[row.block].shape[1]
            first, end = (0, of) if row.of == 1 else (row.first, row.end)
            cells[row.block][row.layer, first:end] = at[row.device]
    return HeldMap(title, cells, ends)


def draw_maps(sheet: Sheet, maps: Sequence[HeldMap], names: list[str], colours: DeviceColours) -> None:
    """Draw maps side by side, and below them the colours of devices."""
    from matplotlib.patches import Patch

    columns = min(len(maps), 2 if sheet.narrow else 4 if len(maps) == 4 else 3)
    rows = -(-len(maps) // columns)
    n_layers = max(len(each.cells["head"]) for each in maps)
    sheet.height(rows * (74 + min(320, max(90, 9 * n_layers))))
    grid = sheet.figure.subplots(rows, columns, squeeze=False)
    shades = [colours.of(name) for name in names]
    for number, axes in enumerate(grid.ravel()):
        if number < len(maps):
            _draw_map(axes, maps[number], shades, labelled=number % columns == 0)
        else:
            axes.set_visible(False)
    named = [name for name in names if colours.of(name) is not OTHERS]
    others = len(names) - len(named)
    handles = [Patch(color=colours.of(name).light, label=name) for name in named]
    if others:
        handles.append(Patch(color=OTHERS.light, label=f"{others} other device{'s' if others > 1 else ''}"))
    sheet.legend(handles)


def _draw_map(axes: Axes, held: HeldMap, shades: Sequence[Colour], *, labelled: bool) -> None:
    """Draw one map: heads, then projections and feed-forwards, a line for each layer."""
    places, left = {}, 0.0
    heads = held.cells["head"].shape[1]
    for kind, cells in held.cells.items():
        width = float(heads if kind == "head" else max(1.0, heads / 3))
        _cells(axes, cells, left, width, shades)
        places[kind] = left + width / 2
        left += width + max(0.25, heads / 12)
    n_layers = len(held.cells["head"])
    axes.set_xlim(0, left)
    axes.set_ylim(n_layers, 0)
    axes.set_xticks(list(places.values()), ["heads", "proj", "ffn"])
    axes.tick_params(axis="both", length=0)
    step = max(1, n_layers // 6)
    axes.set_yticks(np.arange(0, n_layers, step) + 0.5, [str(layer) for layer in range(0, n_layers, step)])
    axes.set_ylabel("layer" if labelled else "")
    axes.set_title(held.title)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _cells(axes: Axes, cells: NDArray[np.int64], left: float, width: float, shades: Sequence[Colour]) -> None:
    """Draw the cells of one kind of block; those of one device below each other are one rectangle."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    wide = width / cells.shape[1]
    gap = 0.06 * wide if cells.shape[1] <= MAX_COLUMNS else 0.0
    corners: dict[Colour, list[tuple[float, float]]] = {}
    for begin, end, first, last, device in _rectangles(cells, each=gap > 0):
        x0, x1 = left + begin * wide + gap / 2, left + end * wide - gap / 2
        y0, y1 = first + 0.04, last - 0.04
        corners.setdefault(shades[device], []).extend([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    for colour, points in corners.items():
        codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(points) // 5)
        axes.add_artist(PathPatch(Path(np.array(points), codes), color=colour.light))


def _rectangles(cells: NDArray[np.int64], *, each: bool) -> Iterator[tuple[int, int, int, int, int]]:
    """Rectangles of one device: first column and end, first layer and end, device. `each`: one column wide."""
    layers: dict[tuple[int, int, int], list[int]] = {}
    for layer, row in enumerate(cells):
        bounds = np.arange(len(row) + 1) if each else np.flatnonzero(np.diff(row, prepend=-2, append=-2))
        for begin, end in pairwise(bounds.tolist()):
            layers.setdefault((begin, end, int(row[begin])), []).append(layer)
    for (begin, end, device), held in layers.items():
        if device != NONE:
            for first, last in _runs(held):
                yield begin, end, first, last, device


def _runs(layers: list[int]) -> list[tuple[int, int]]:
    """Consecutive layers: first and end."""
    runs: list[tuple[int, int]] = []
    for layer in layers:
        if runs and runs[-1][1] == layer:
            runs[-1] = runs[-1][0], layer + 1
        else:
            runs.append((layer, layer + 1))
    return runs
