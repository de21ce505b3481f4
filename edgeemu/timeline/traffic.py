"""Sums of the messages that each step sends over each path."""

from collections import defaultdict
from typing import NamedTuple


class PathTraffic(NamedTuple):
    """Messages of one step from one device to another: their number, and the sums of their sizes and times."""

    source: int
    target: int
    messages: int
    bytes: int
    transit_s: float  # from departure to arrival


class StepTraffic:
    """Adds up messages by step and path until the step is taken."""

    def __init__(self) -> None:
        self._steps: dict[tuple[int, int], dict[tuple[int, int], tuple[int, int, float]]] = defaultdict(dict)

    def add(self, step: tuple[int, int], path: tuple[int, int], size_bytes: int, transit_s: float) -> None:
        """Add a message of a step (sequence and number) on a path (source and target)."""
        paths = self._steps[step]
        messages, total_bytes, sum_s = paths.get(path, (0, 0, 0.0))
        paths[path] = messages + 1, total_bytes + size_bytes, sum_s + transit_s

    def take(self, step: tuple[int, int]) -> list[PathTraffic]:
        """Return the sums of a step, and forget them."""
        return [
            PathTraffic(source, target, messages, size_bytes, transit_s)
            for (source, target), (messages, size_bytes, transit_s) in self._steps.pop(step, {}).items()
        ]
