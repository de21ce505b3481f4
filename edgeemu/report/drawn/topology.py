"""Picture of a cluster: devices with speed and memory, links with rate and delay."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import ceil, cos, pi, sin
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.report.drawn.palette import GRID, INK, LINKS, PAPER, SOFT, Colour, DeviceColours
from edgeemu.report.drawn.sheet import Drawing, Sheet
from edgeemu.report.figure_texts import human_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DEVICES = 25  # that are drawn one by one; more are drawn as the groups that have a name in common
MAX_CLASSES = 6  # of links that are equal; more are drawn in steps of their rate
SMALL = 10.5  # letters
Point = tuple[float, float]
End = int | None  # of a link: index of a device; None: the access point
_BOX = {"facecolor": PAPER.light, "edgecolor": "none", "pad": 1.0, "alpha": 0.88}  # keeps lines out of texts


class Wire(NamedTuple):
    """A link, both directions: its ends, and its rate and delay from the first to the second and back."""

    a: End
    b: End
    bps: tuple[float, float]
    delay_s: tuple[float, float]

    @property
    def text(self) -> str:
        rates = list(dict.fromkeys(human_text("bandwidth", each) for each in self.bps))
        delays = list(dict.fromkeys(human_text("delay", each) for each in self.delay_s))
        return f"{' / '.join(rates)}, {' / '.join(delays)}"


def topology_drawing(cluster: Cluster, colours: DeviceColours | None = None) -> Drawing:
    """Devices and links of a cluster, as they are without load and events."""
    kind = {"mesh": "every device reaches every other", "line": "a line", "star": "a star around an access point"}
    words = f"{len(cluster.devices)} devices, {kind[cluster.topology.kind]}"
    chosen = colours or DeviceColours(device.name for device in cluster.devices)
    return Drawing(
        "topology", f"Cluster: {words}", f"Cluster: {words}, with rates and delays of links", _drawn(cluster, chosen)
    )


def _drawn(cluster: Cluster, colours: DeviceColours) -> Callable[[Sheet], None]:
    def draw(sheet: Sheet) -> None:
        if len(cluster.devices) > MAX_DEVICES:
            _folded(sheet, cluster)
        else:
            _whole(sheet, cluster, colours)

    return draw


def _whole(sheet: Sheet, cluster: Cluster, colours: DeviceColours) -> None:
    wires = _wires(cluster)
    kind, n = cluster.topology.kind, len(cluster.devices)
    places, height = _places(kind, n, sheet.narrow)
    axes = sheet.axes(height)
    shades = _shades(wires)
    for wire in wires:
        (x0, y0), (x1, y1) = places[wire.a], places[wire.b]
        colour, width = shades[wire]
        axes.plot([x0, x1], [y0, y1], color=colour.light, linewidth=width, zorder=1)
        if kind == "line":
            _note(axes, ((x0 + x1) / 2, (y0 + y1) / 2), wire.text.replace(", ", "\n"))
    spokes = {wire.a if wire.a is not None else wire.b: [wire.text] for wire in wires} if kind == "star" else {}
    told, letters = n <= (9 if sheet.narrow else 14), SMALL if n <= 14 or not sheet.narrow else 0.8 * SMALL
    for device in cluster.devices:
        lines = [device.name, *(_abilities([device]) if told else []), *spokes.get(device.index, [])]
        angle = 2 * pi * device.index / n
        outwards = (0.0, -1.0) if kind == "line" or n == 1 else (sin(angle), cos(angle))
        _node(axes, places[device.index], colours.of(device.name), lines, outwards, letters)
    if kind == "star":
        axes.plot(*places[None], marker="s", markersize=16, color=INK.light, zorder=3)
        _note(axes, (places[None][0], places[None][1] - 0.2), "access point")
    _bare(axes, [at for end, at in places.items() if end is not None or kind == "star"])
    if kind == "mesh":
        sheet.legend(_legend(wires, shades))


def _wires(cluster: Cluster) -> list[Wire]:
    """Links of both directions, once each."""
    found = []
    for a, b in cluster.topology.links():
        if b is None or (a is not None and a < b):
            there, back = cluster.topology.link(a, b), cluster.topology.link(b, a)
            found.append(Wire(a, b, (there.bandwidth_bps, back.bandwidth_bps), (there.delay_s, back.delay_s)))
    return found


def _places(kind: str, n: int, narrow: bool) -> tuple[dict[End, Point], float]:
    """Place of each device, and the height of the picture. One is the radius of a circle, or a step of a line."""
    if kind == "line":
        columns = min(n, 2 if narrow else 5)
        places: dict[End, Point] = {}
        for index in range(n):
            row, column = divmod(index, columns)
            places[index] = (float(column if row % 2 == 0 else columns - 1 - column), -0.9 * row)
        return places, 40 + 110 * ceil(n / columns)
    stretch = 1.0 if narrow else 1.6
    places = {
        index: (stretch * sin(2 * pi * index / n) if n > 1 else 0.0, cos(2 * pi * index / n) if n > 1 else 0.0)
        for index in range(n)
    }
    return {**places, None: (0.0, 0.0)}, (330 if n <= 14 else 430) if narrow else 400


def _shades(wires: Sequence[Wire]) -> dict[Wire, tuple[Colour, float]]:
    """Colour and width of each link: equal links look alike; of many kinds, the width says the rate."""
    texts = list(dict.fromkeys(wire.text for wire in wires))
    if len(texts) <= MAX_CLASSES:
        return {wire: (LINKS[texts.index(wire.text)], 1.8) for wire in wires}
    steps = _steps(wires)
    thin = 0.3 if len(wires) > 60 else 0.8
    return {wire: (SOFT, thin * (1 + 1.5 * int(np.searchsorted(steps, min(wire.bps), side="right")))) for wire in wires}


def _steps(wires: Sequence[Wire]) -> list[float]:
    """Rates that divide links into thirds."""
    rates = sorted(min(wire.bps) for wire in wires)
    return [rates[len(rates) // 3], rates[2 * len(rates) // 3]]


def _legend(wires: Sequence[Wire], shades: dict[Wire, tuple[Colour, float]]) -> list[object]:
    from matplotlib.lines import Line2D

    groups: dict[tuple[Colour, float], list[Wire]] = {}
    for wire in wires:
        groups.setdefault(shades[wire], []).append(wire)
    return [
        Line2D([], [], color=colour.light, linewidth=width, label=_range_text(members))
        for (colour, width), members in sorted(groups.items(), key=lambda item: -item[0][1])
    ]


def _range_text(wires: Sequence[Wire]) -> str:
    """Rates and delays of some links, from the least to the most."""
    rates, delays = [bps for wire in wires for bps in wire.bps], [s for wire in wires for s in wire.delay_s]
    return f"{_span('bandwidth', rates)}, {_span('delay', delays)}"


def _span(key: str, values: Sequence[float]) -> str:
    least, most = human_text(key, min(values)), human_text(key, max(values))
    return least if least == most else f"{least} to {most}"


def _node(axes: Axes, at: Point, colour: Colour, lines: Sequence[str], outwards: Point, letters: float) -> None:
    """Draw a device, with what is said of it on the side away from the middle."""
    axes.plot(*at, marker="o", markersize=17, color=colour.light, markeredgecolor=PAPER.light, zorder=3, clip_on=False)
    dx, dy = outwards
    axes.annotate(
        "\n".join(lines),
        at,
        (12 * dx, 12 * dy),
        textcoords="offset points",
        ha="center" if abs(dx) < 0.1 else "left" if dx > 0 else "right",
        va="center" if abs(dy) < 0.3 else "bottom" if dy > 0 else "top",
        fontsize=letters,
        linespacing=1.15,
        bbox=_BOX,
    )


def _abilities(devices: Sequence[Device]) -> list[str]:
    """Speed and memory of some devices, from the least to the most."""
    computes = [device.compute for device in devices if device.compute is not None]
    speed = _span("mem_bandwidth", [each.mem_bytes_per_s for each in computes]) if computes else "speed of the host"
    return [speed, _span("memory", [device.memory_bytes for device in devices])]


def _note(axes: Axes, at: Point, text: str, *, top: bool = False) -> None:
    axes.text(
        *at, text, ha="center", va="top" if top else "center", fontsize=SMALL, linespacing=1.15, bbox=_BOX, zorder=2
    )


def _bare(axes: Axes, places: Sequence[Point]) -> None:
    x, y = zip(*places, strict=True)
    axes.set_xlim(min(x) - 0.1, max(x) + 0.1)
    axes.set_ylim(min(y) - 0.1, max(y) + 0.1)
    axes.set_axis_off()


def _folded(sheet: Sheet, cluster: Cluster) -> None:
    """Draw devices in groups that have a name in common, with the least and the most of each group and of all links."""
    groups: dict[str, list[Device]] = {}
    for device in cluster.devices:
        groups.setdefault(re.sub(r"-\d+$", "", device.name), []).append(device)
    chosen = sorted(groups.items(), key=lambda item: -len(item[1]))[:8]
    columns = min(len(chosen), 2 if sheet.narrow else 4)
    axes = sheet.axes(120 * ceil(len(chosen) / columns) + 30)
    places = []
    for number, (name, members) in enumerate(chosen):
        row, column = divmod(number, columns)
        at = (float(column), -0.9 * row)
        places.append(at)
        axes.plot(*at, marker="o", markersize=22, color=GRID.light, markeredgecolor=SOFT.light, markeredgewidth=1.0)
        title = f"{len(members):,} × {name}" if len(members) > 1 else name
        _note(axes, (at[0], at[1] - 0.15), "\n".join([title, *_abilities(members)]), top=True)
    _bare(axes, places)
    axes.set_title(f"links: {_all_links(cluster)}", loc="center")


def _all_links(cluster: Cluster) -> str:
    """Rates and delays of links, from the least to the most, of all paths between devices."""
    everyone = np.arange(len(cluster.devices))
    bps, delay_s = cluster.topology.arrays(everyone, everyone, np.full(len(everyone), np.inf))
    between = ~np.eye(len(everyone), dtype=bool)
    return f"{_span('bandwidth', bps[between].tolist())}, {_span('delay', delay_s[between].tolist())}"
