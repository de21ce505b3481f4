"""Rows that blocks hand on, in the format of messages: rounded alike whether the next block is here or elsewhere."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.program import PARTIAL_KINDS, MessageKind
from edgeemu_kernels.packed import decode_rows
from edgeemu_kernels.precision import NumberFormat, Precision

_ROUNDED = frozenset(
    {MessageKind.HIDDEN, MessageKind.RESIDUAL, MessageKind.ROWS, MessageKind.ATTENTION}
    | {MessageKind.PROJECTED, MessageKind.INNER, MessageKind.COLUMNS}
)


def rounded_kinds(precision: Precision) -> frozenset[MessageKind]:
    """Kinds of results that cross in the format of messages.

    Partial sums are no results of the model: if the scenario says nothing else, they cross as float32, and the sum is
    rounded once, when it is complete.
    """
    return _ROUNDED | PARTIAL_KINDS if precision.rounds_partials else _ROUNDED


class Received(Sequence[NDArray[Any]]):
    """Inputs of an operation, each decoded to float32 when it is read, so that few are decoded at a time."""

    def __init__(self, inputs: Sequence[NDArray[Any]], number_format: NumberFormat) -> None:
        self._inputs, self._format = inputs, number_format

    def __len__(self) -> int:
        return len(self._inputs)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "Received": ...

    def __getitem__(self, index: int | slice) -> "NDArray[Any] | Received":
        if isinstance(index, slice):
            return Received(self._inputs[index], self._format)
        payload = self._inputs[index]  # [t, row_bytes] uint8, or what is not rounded
        return decode_rows(payload, self._format) if payload.dtype == np.uint8 else payload
