"""Devices that can go on together when links between some are down. Pure."""

from collections.abc import Callable, Iterable


def together(devices: Iterable[int], source: int, reaches: Callable[[int, int], bool]) -> frozenset[int]:
    """Return devices that all reach each other: those that reach the `source`, without those that reach fewest others.

    Where the source is gone, the first device that reaches most others takes its place.
    """
    alive = sorted(devices)
    links = {a: {b for b in alive if a != b and reaches(a, b) and reaches(b, a)} for a in alive}
    if not alive:
        return frozenset()
    root = source if source in links else max(alive, key=lambda device: (len(links[device]), -device))
    group = {root, *links[root]}
    while lacking := {device: len(group - links[device]) - 1 for device in group if group - links[device] - {device}}:
        group.remove(max(lacking, key=lambda device: (device != root, lacking[device], device)))
    return frozenset(group)
