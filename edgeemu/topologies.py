"""Kinds of topology, and the rule of each for which ends are joined: for the scenario's check and for the cluster."""

from collections.abc import Callable
from typing import Literal, NamedTuple

TopologyKind = Literal["mesh", "line", "star"]
End = int | None  # of a link: the index of a device; None: the access point


class LinkRule(NamedTuple):
    """Which pairs of ends have a link, in both directions, and the message for a pair that has none."""

    joined: Callable[[End, End], bool]
    refusal: str  # a template with the names `a`, `b` and `access_point`


def _in_mesh(a: End, b: End) -> bool:
    return a is not None and b is not None and a != b


def _in_line(a: End, b: End) -> bool:
    return a is not None and b is not None and abs(a - b) == 1


def _in_star(a: End, b: End) -> bool:
    return (a is None) != (b is None)


LINK_RULES: dict[TopologyKind, LinkRule] = {
    "mesh": LinkRule(_in_mesh, '"{a}" and "{b}" are not joined'),
    "line": LinkRule(_in_line, '"{a}" and "{b}" are not joined; in a line only neighbours have links'),
    "star": LinkRule(_in_star, 'in a star one end of a link is the access point, "{access_point}"'),
}
