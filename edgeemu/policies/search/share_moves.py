"""Changes of placements with divided layers in batches: of their ends, and of layers alone or in runs alike. Pure.

The changes themselves: shares shift, blocks join and divide, ends move, devices are left (`compiled.share_neighbours`).
Numbers that shift are powers of two, and all of them.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from edgeemu.policies.compiled.near_code import NearCode
from edgeemu.policies.view.share_runs import Around, Folded, Runs
from edgeemu.policies.view.shares import ShareArrays

FEW_LAYERS = 4  # up to which each layer is changed alone; else halves and quarters of the model


def scopes(n_layers: int) -> list[tuple[int, int]]:
    """Ranges of layers that are changed alike: all, then single ones, or halves and quarters of many."""
    if n_layers == 1:
        return [(0, 1)]
    parts = [n_layers] if n_layers <= FEW_LAYERS else [2, 4]
    split = chain.from_iterable(np.array_split(np.arange(n_layers), number) for number in parts)
    return [(0, n_layers), *((int(each[0]), int(each[-1]) + 1) for each in split)]


def all_around(base: ShareArrays, others: ShareArrays | None = None) -> Iterator[Around]:
    """Small changes of one placement, in batches: its ends and all layers, then, of many layers, parts of them.

    Some are equal to it. The runs of the first batch are also those of `others`.
    """
    n_layers = base.proj.shape[1]
    ranges = scopes(n_layers)
    if n_layers <= FEW_LAYERS:
        yield Around(base, Runs(np.arange(n_layers), np.ones(n_layers, np.int64)), ranges, ends=True)
        return
    runs = Runs.of(base if others is None else ShareArrays.joined([base, others]))
    yield Around(runs.folded(base), runs, [(0, len(runs.first))], ends=True)
    runs = Runs.of(base, np.array([begin for begin, _ in ranges]))
    folded = runs.folded(base)
    for begin, end in ranges[1:]:
        first, after = np.searchsorted(runs.first, (begin, end)).tolist()
        yield Around(folded, runs, [(first, after)], ends=False)


def neighbours(changes: NearCode, base: ShareArrays) -> Iterator[Folded]:
    """The placements that small changes of one make, in batches."""
    return (Folded(changes.near(around), around.runs) for around in all_around(base))


def n_neighbours(n_layers: int, n: int, n_groups: int, n_units: int) -> int:
    """Number of placements in the first batch of neighbours."""
    shifts = n * (n - 1) * (len(_powers(n_units)) + 2 * len(_powers(n_groups)))
    runs = 1 + n_layers if 1 < n_layers <= FEW_LAYERS else 1
    return 3 * n + runs * (shifts + 5 * n + 1)


def _powers(most: int) -> list[int]:
    """1, 2, 4 … below `most`, and `most`."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]
