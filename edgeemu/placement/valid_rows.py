"""Rows of caches that are valid after a loss, by layer and sequence. Pure.

Rows of a layer can be computed again only with those of all layers below it. So no layer has more valid rows than one
above it, and layers that have as many are a level: the lowest is filled first, up to what the next one has.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

Rows = Mapping[int, int]  # by sequence


class RowLevel(NamedTuple):
    """Layers from the end of the level below to `end`, and the rows that their caches have."""

    end: int
    rows: Rows


class ValidRows:
    """Valid rows of caches. Layers above the last level have all rows, which are `kept`."""

    def __init__(self, kept: Rows) -> None:
        self.kept = dict(kept)
        self.levels: list[RowLevel] = []

    def at(self, layer: int) -> Rows:
        """Return the rows that the caches of a layer have."""
        return next((level.rows for level in self.levels if layer < level.end), self.kept)

    def cut(self, layers: int, rows: Rows) -> None:
        """Note that the caches of the first `layers` layers have no more rows than these."""
        self.levels = self._joined(self._cut(layers, rows))

    def fill(self, sequence: int, end_row: int) -> None:
        """Note that the lowest level has the rows of a sequence up to `end_row`."""
        lowest, *others = self.levels
        self.levels = self._joined(iter([lowest._replace(rows={**lowest.rows, sequence: end_row}), *others]))

    @property
    def wanted(self) -> Rows:
        """Rows that the lowest level is to be filled to: those of the next."""
        return self.levels[1].rows if len(self.levels) > 1 else self.kept

    @property
    def lacking(self) -> int:
        """Rows that are to be computed again, of all layers and sequences."""
        ends = [0, *(level.end for level in self.levels)]
        all_rows = sum(self.kept.values())
        return sum(
            (level.end - begin) * (all_rows - sum(level.rows.values()))
            for begin, level in zip(ends, self.levels, strict=False)
        )

    def _cut(self, layers: int, rows: Rows) -> Iterator[RowLevel]:
        begin = 0
        for level in (*self.levels, RowLevel(max(layers, *(each.end for each in self.levels), 0), self.kept)):
            if begin < layers:
                least = {sequence: min(end, rows.get(sequence, end)) for sequence, end in level.rows.items()}
                yield RowLevel(min(layers, level.end), least)
            if layers < level.end:
                yield level
            begin = level.end

    def _joined(self, levels: Iterator[RowLevel]) -> list[RowLevel]:
        """Join levels whose caches have the same rows."""
        found = list(levels)
        above = [*(level.rows for level in found[1:]), self.kept]
        return [level for level, rows in zip(found, above, strict=False) if level.rows != rows]
