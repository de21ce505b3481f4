"""Small changes of placements by NumPy: the reference of `compiled.near_code`, in the same order."""

from collections.abc import Iterator, Sequence

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.share_runs import Around
from edgeemu.policies.view.shares import WITH_HEADS, BoolArray, ShareArrays


def other_devices(base: ShareArrays) -> ShareArrays:
    """One placement without one of its devices: all that it has is on another, or these two change places.

    Where a link is slow, no smaller change may be a better one: as long as one block is left, its messages cross it.
    """
    n = base.heads.shape[-1]
    used = (base.heads[0] + base.units[0]).sum(0) > 0  # [n]
    used[[*base.proj[0][base.proj[0] >= 0], base.embed[0], base.lm_head[0]]] = True
    return _renamed(base, _other_names(n, used))


def _other_names(n: int, used: BoolArray) -> IntArray:
    """Where blocks go if a device that is used leaves them to another of n, or two such change places: [k, n]."""
    everyone = np.arange(n)
    sources, targets = np.nonzero(~np.eye(n, dtype=np.bool_) & used[:, None])  # [k] each
    left = np.where(everyone == sources[:, None], targets[:, None], everyone)  # [k, n]
    swapped = np.where(everyone == targets[:, None], sources[:, None], left)
    return np.concatenate([left, swapped[(sources < targets) & used[targets]]])


def _renamed(base: ShareArrays, names: IntArray) -> ShareArrays:
    """One placement with the blocks of each device on another, or on the same: `names` [k, n]."""
    there = (names[:, :, None] == np.arange(names.shape[1])).astype(np.int64)  # [k, n, n]
    proj = np.where(base.proj[0] < 0, WITH_HEADS, names[:, base.proj[0]])  # [k, n_layers]
    heads, units = base.heads[0] @ there, base.units[0] @ there  # [k, n_layers, n] each
    return ShareArrays(names[:, base.embed[0]], names[:, base.lm_head[0]], heads, proj, units).normal()


class ShareChanges:
    """Small changes of placements by NumPy. Without `divide` only those with undivided blocks."""

    def __init__(self, n_groups: int, n_units: int, *, divide: bool) -> None:
        self._n_groups, self._n_units, self._divide = n_groups, n_units, divide

    def near(self, around: Around) -> ShareArrays:
        """Changes of each of some ranges of a placement's layers, after those of its ends."""
        parts = list(_ends(around.base)) if around.ends else []
        for begin, end in around.ranges:
            parts += _of_layers(around.base, np.arange(begin, end), self._n_groups, self._n_units)
        near = ShareArrays.joined(parts).normal()
        return near if self._divide else near.taken(np.all(near.whole_proj & near.whole_ffn, axis=1))

    def vicinity(self, around: Around, others: ShareArrays) -> tuple[ShareArrays, int]:
        """These changes, and how many they are; then the placement on other devices, and others, one layer of a run."""
        near = self.near(around)
        return ShareArrays.joined([near, other_devices(around.base), others]), len(near)


def _of_layers(base: ShareArrays, layers: IntArray, n_groups: int, n_units: int) -> Iterator[ShareArrays]:
    """Changes of a run of layers."""
    n = base.heads.shape[-1]
    sources, targets = np.nonzero(~np.eye(n, dtype=np.bool_))  # [n * (n - 1)] each
    groups, units = _powers(n_groups), _powers(n_units)
    if n > 1:
        yield _shifted(base, layers, sources, targets, [(0, number) for number in units])
        yield _shifted(base, layers, sources, targets, [(number, 0) for number in groups])
        per_group = max(1, n_units // n_groups)
        yield _shifted(base, layers, sources, targets, [(number, number * per_group) for number in groups])
    alone = np.arange(n)
    projected = _repeated(base, n + 1)
    projected.proj[:, layers] = np.array([*alone, WITH_HEADS])[:, None]
    yield projected
    for heads, at_proj, ffn in ((1, 1, 0), (1, 1, 1), (0, 1, 1), (0, 0, 1)):
        moved = _repeated(base, n)
        if heads:
            _gather(moved.heads, layers, alone, n_groups)
        if at_proj:
            moved.proj[:, layers] = alone[:, None]
        if ffn:
            _gather(moved.units, layers, alone, n_units)
        yield moved


def _powers(most: int) -> list[int]:
    """1, 2, 4 … below `most`, and `most`."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _shifted(
    base: ShareArrays, layers: IntArray, sources: IntArray, targets: IntArray, numbers: Sequence[tuple[int, int]]
) -> ShareArrays:
    """Shift (groups, units) from each source to its target in each of `layers`, or as many as there are."""
    most = np.stack([counts[0][layers].max(0)[sources] for counts in (base.heads, base.units)])  # [2, m]
    chosen = [
        (at, pair)
        for before, pair in zip([(0, 0), *numbers], numbers, strict=False)
        for at in _useful(most, before, pair)
    ]
    at, k = np.arange(len(chosen))[:, None], len(chosen)
    moved, pairs = _repeated(base, k), [index for index, _ in chosen]
    source, target, there = sources[pairs][:, None], targets[pairs][:, None], layers[None, :]
    for counts, which in ((moved.heads, 0), (moved.units, 1)):
        wanted = np.array([pair[which] for _, pair in chosen], np.int64)[:, None]  # [k, 1]
        number = np.minimum(counts[at, there, source], wanted)  # [k, layers]
        counts[at, there, source] -= number
        counts[at, there, target] += number
    return moved


def _useful(most: IntArray, before: tuple[int, int], numbers: tuple[int, int]) -> list[int]:
    """Sources with groups and units `most` [2, m] that shift more by these numbers than by those before."""
    more = [(most[which] > before[which]) & (numbers[which] > 0) for which in (0, 1)]  # [m] each
    useful: list[int] = np.flatnonzero(more[0] | more[1]).tolist()
    return useful


def _gather(counts: IntArray, layers: IntArray, alone: IntArray, total: int) -> None:
    """Put everything of `layers` on one device, another in each placement."""
    counts[:, layers] = 0
    counts[alone[:, None], layers[None, :], alone[:, None]] = total


def _ends(base: ShareArrays) -> Iterator[ShareArrays]:
    """Embedding, output matrix, or both on each device."""
    n = base.heads.shape[-1]
    for embed, lm_head in ((True, False), (False, True), (True, True)):
        moved = _repeated(base, n)
        if embed:
            moved.embed[:] = np.arange(n)
        if lm_head:
            moved.lm_head[:] = np.arange(n)
        yield moved


def _repeated(base: ShareArrays, times: int) -> ShareArrays:
    """Copies of one placement, which can be changed."""
    return base.taken(np.zeros(times, np.int64))
