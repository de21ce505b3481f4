"""Inputs of an operation put together, as it needs them: rows and columns of several devices. No weights."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.program import PARTIAL_KINDS, MessageKind, Op
from edgeemu_kernels.arrays import Array, Crossing, Floats
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.on_demand import order_free_sums

_NORMED = MessageKind.NORMED


def gather_some(op: Op, inputs: Sequence[Array]) -> Array:
    """Attention of the operation's groups, in their order, out of the devices' outputs [t, groups * group_dim]."""
    columns: dict[int, Array] = {}
    for index, theirs in enumerate(op.parts):
        part = rows_of(op, index, inputs)
        if theirs == op.groups:
            return part
        split = part.reshape(len(part), len(theirs), -1)  # [t, groups, group_dim]
        columns |= {group: split[:, at] for at, group in enumerate(theirs)}
    return np.concatenate([columns[group] for group in op.groups], axis=1)  # [t, len(op.groups) * group_dim]


def side_by_side(op: Op, inputs: Sequence[Array], total: int) -> Array:
    """Columns of all groups or units in order: [t, groups * width] of each device -> [t, total * width]."""
    if len(inputs) == 1:
        return inputs[0]
    rows, width = inputs[0].shape
    joined = np.empty((rows, total, width // len(op.parts[0])), dtype=np.float32)
    for places, part in zip(_places(op.parts), inputs, strict=True):
        joined[:, places] = part.reshape(rows, -1, joined.shape[2])
    return joined.reshape(rows, -1)


@lru_cache(256)
def _places(parts: tuple[tuple[int, ...], ...]) -> list[slice | list[int]]:
    """Places of the groups or units of each part: a slice, which takes NumPy a tenth of the time, if they follow."""
    adjacent = [groups == tuple(range(groups[0], groups[0] + len(groups))) for groups in parts]
    return [
        slice(groups[0], groups[-1] + 1) if follow else list(groups)
        for groups, follow in zip(parts, adjacent, strict=True)
    ]


def normed(op: Op, inputs: Sequence[Array], norm: Norm) -> Array:
    """Normed input of heads and shards of a feed-forward: from x, or from chunks that are standardised already."""
    if op.needs[0].kind is not _NORMED:
        return norm.forward(rows_of(op, 0, inputs))
    return norm.scaled(inputs[0] if op.chunk.of > 1 or len(inputs) == 1 else np.concatenate(inputs))


def added(op: Op, inputs: Sequence[Array], *, last: bool) -> Array:
    """Sum of the inputs' rows, one after the other: each is decoded when its turn comes. One alone is passed on."""
    first: Array = last_or_all(rows_of(op, 0, inputs), last=last)
    if len(inputs) == 1:
        return first
    total: Array = first + last_or_all(rows_of(op, 1, inputs), last=last)
    for index in range(2, len(inputs)):
        total += last_or_all(rows_of(op, index, inputs), last=last)
    return total


def added_on_grid(op: Op, inputs: Sequence[Crossing], *, last: bool) -> Crossing:
    """Sum of the inputs' rows that does not depend on their order; a partial one is as it crosses."""
    rows = (last_or_all(rows_of(op, index, inputs), last=last) for index in range(len(inputs)))
    sums = order_free_sums()
    total: Floats = sums.added(rows)
    result: Crossing = sums.crossing(total) if op.emits.kind in PARTIAL_KINDS else sums.values(total)
    return result


def one_after_another(_parts: object, inputs: Sequence[Array]) -> Array:
    """Chunks of rows in their order."""
    return np.concatenate(inputs)


def columns_joined(op: Op, inputs: Sequence[NDArray[Any]], *, last: bool) -> NDArray[Any]:
    """Columns side by side, as the bytes that arrived; or x, the first input, with the columns that follow added."""
    if op.forwards:  # to a device, without what came from it
        sent = [each for each, need in zip(inputs, op.needs, strict=True) if need.source != op.emits.part]
        return np.concatenate(sent, axis=1)
    total, at = last_or_all(inputs[0], last=last).copy(), 0
    for index in range(1, len(inputs)):
        columns = last_or_all(inputs[index], last=last)
        total[:, at : at + columns.shape[1]] += columns
        at += columns.shape[1]
    return total


def columns_joined_on_grid(_op: Op, inputs: Sequence[NDArray[Any]], *, last: bool) -> Array:
    """Add columns that follow to x, the first input, so that the sum does not depend on where they were computed."""
    x, at, sums = last_or_all(inputs[0], last=last), 0, order_free_sums()
    total: Floats = np.empty(x.shape)
    for index in range(1, len(inputs)):
        columns = sums.added([last_or_all(inputs[index], last=last)])
        total[:, at : at + columns.shape[1]] = columns
        at += columns.shape[1]
    joined: Array = sums.with_residual(total, x)
    return joined


def last_or_all(y: NDArray[Any], *, last: bool) -> NDArray[Any]:
    """The last row alone, where no other is needed."""
    return y[-1:] if last else y


def rows_of(op: Op, index: int, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows of an input that the operation needs; the input may have all of the step's."""
    whole = inputs[index]
    if op.chunk.of == 1 or op.needs[index].is_chunk:
        return whole
    first, end = op.chunk.bounds(len(whole))
    return whole[first:end]
