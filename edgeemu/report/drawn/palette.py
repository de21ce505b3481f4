"""Colours of pictures: each has a shade for a light and one for a dark background, and a name in style sheets. Pure.

Those of devices stay apart for people who see no red, no green or no blue (tests/report/drawn/test_palette.py).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edgeemu.report.critical.critical_path import TimePart


class Colour(NamedTuple):
    """A colour on a light and on a dark background."""

    name: str  # of the variable in style sheets
    light: str
    dark: str


PAPER = Colour("paper", "#ffffff", "#14171c")
INK = Colour("ink", "#1b1f24", "#e8ebef")
SOFT = Colour("soft", "#59626d", "#a2abb6")  # of what is said beside
GRID = Colour("grid", "#d9dde2", "#343a42")
ALARM = Colour("alarm", "#c2002f", "#ff7086")  # of marks on top of others

DEVICES = (
    Colour("d0", "#104bc8", "#4968e3"),
    Colour("d1", "#a53404", "#fc6e24"),
    Colour("d2", "#068a6f", "#1eb485"),
    Colour("d3", "#d762b4", "#dbabdd"),
    Colour("d4", "#b19207", "#fbea60"),
    Colour("d5", "#2796fb", "#9afafa"),
    Colour("d6", "#5f317d", "#aa89f6"),
    Colour("d7", "#5b251a", "#965c42"),
)
OTHERS = Colour("others", "#8a919b", "#7b838e")

# Of kinds of time and memory: three families, of what devices, links and the controller do.
_SLATE = Colour("k0", "#33475b", "#b7c9db")
_SLATE_2 = Colour("k1", "#6f8aa5", "#7f99b3")
_SLATE_3 = Colour("k2", "#a9bdd0", "#4c6279")
_AMBER = Colour("k3", "#9a5b00", "#ffbe55")
_AMBER_2 = Colour("k4", "#e08a0e", "#cf8320")
_AMBER_3 = Colour("k5", "#f3c685", "#8a5716")
_VIOLET = Colour("k6", "#6a2c91", "#d3a6f0")
_VIOLET_2 = Colour("k7", "#a76fcb", "#9a63c0")
_VIOLET_3 = Colour("k8", "#d9bdea", "#61397c")
_CRIMSON = Colour("k9", "#8c1d4f", "#ff8fb8")

PARTS: Mapping[TimePart, Colour] = {
    TimePart.COMPUTE: _SLATE,
    TimePart.MESSAGE_OVERHEAD: _SLATE_2,
    TimePart.DEVICE_QUEUE: _SLATE_3,
    TimePart.TRANSMISSION: _AMBER,
    TimePart.LATENCY: _AMBER_2,
    TimePart.LINK_QUEUE: _AMBER_3,
    TimePart.CONTROLLER: _VIOLET,
    TimePart.MIGRATION: _VIOLET_2,
    TimePart.ADMISSION: _VIOLET_3,
    TimePart.RECOVERY: _CRIMSON,
    TimePart.UNKNOWN: OTHERS,
}
MEMORY: Mapping[str, Colour] = {
    "weights": _SLATE,
    "cache": _AMBER_2,
    "workspace": _VIOLET_2,
    "messages": _AMBER_3,
    "incoming": _VIOLET_3,
}
LINKS = (_SLATE, _AMBER_2, _VIOLET, _SLATE_3, _AMBER, _VIOLET_2)  # of links that differ
ALL = tuple(dict.fromkeys((PAPER, INK, SOFT, GRID, ALARM, *DEVICES, *PARTS.values(), *MEMORY.values())))


class DeviceColours:
    """Colour of each device of a run, the same in all of its pictures. Others than the first eight share one."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names`: those that get a colour of their own first."""
        self._of = dict(zip(dict.fromkeys(names), DEVICES, strict=False))

    def of(self, device: str) -> Colour:
        return self._of.get(device, OTHERS)
