"""Columns of the record tables that critical paths are made of, by token. Pure; reads tables."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.figures import RecordTables
from edgeemu.report.statistics import Floats

if TYPE_CHECKING:
    import pyarrow as pa

Integers = NDArray[np.int64]
NONE = -1  # in place of a token, a device, a block or a layer


class RecordedTokens(NamedTuple):
    """Tokens of some steps: [n] each."""

    sequence: Integers
    step: Integers
    released_s: Floats
    sampled_s: Floats
    latency_s: Floats


class RecordedOperations(NamedTuple):
    """Executed operations of the same tokens, sorted by token and number: [m] each."""

    key: Integers  # token * (1 + largest number) + number
    device: Integers
    block: Integers
    layer: Integers
    last: Integers  # number of the operation whose result arrived last
    last_bytes: Integers
    ready_s: Floats
    start_s: Floats
    end_s: Floats


class Names:
    """Names by number, in the order in which they are met."""

    def __init__(self) -> None:
        self._devices: dict[str, int] = {}
        self._blocks: dict[str, int] = {}

    @property
    def devices(self) -> list[str]:
        return list(self._devices)

    @property
    def blocks(self) -> list[str]:
        return list(self._blocks)

    def device(self, table: "pa.Table", column: str) -> Integers:
        """Return the number of the device in each row."""
        return _numbered(table, column, self._devices)

    def block(self, table: "pa.Table", column: str) -> Integers:
        """Return the number of the block in each row."""
        return _numbered(table, column, self._blocks)


def _numbered(table: "pa.Table", column: str, known: dict[str, int]) -> Integers:
    chunks = table.column(column).unify_dictionaries().chunks
    parts = [
        np.array([known.setdefault(name, len(known)) for name in chunk.dictionary.to_pylist()], np.int64)[
            chunk.indices.to_numpy()
        ]
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def column_of(table: "pa.Table", column: str) -> NDArray[Any]:
    values: NDArray[Any] = table.column(column).to_numpy()
    return values


def read_tokens(records: RecordTables) -> RecordedTokens:
    columns = ("sequence", "step", "released_s", "emulated_s", "latency_s")
    parts: list[list[NDArray[Any]]] = [[np.empty(0, np.int64)] * 2 + [np.empty(0)] * 3]
    parts += [[column_of(table, name) for name in columns] for table in records.read("tokens", columns)]
    return RecordedTokens(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def token_of(tokens: RecordedTokens, sequence: Integers, step: Integers) -> Integers:
    """Index of each row's token; NONE: the token is not recorded."""
    width = 1 + int(max(tokens.step.max(initial=0), step.max(initial=0)))
    known, asked = tokens.sequence * width + tokens.step, sequence * width + step
    order = np.argsort(known, kind="stable")
    at = np.searchsorted(known[order], asked)
    at = np.minimum(at, max(len(order) - 1, 0))
    if not len(order):
        return np.full(len(asked), NONE)
    found = order[at]
    return np.where(known[found] == asked, found, NONE)


def read_operations(records: RecordTables, tokens: RecordedTokens, names: Names) -> tuple[RecordedOperations, int]:
    """Operations of tokens, and the width of their keys."""
    numbers = ("sequence", "step", "layer", "op", "last_op", "last_bytes", "ready_s", "start_s", "end_s")
    parts: list[list[NDArray[Any]]] = [[np.empty(0, np.int64)] * 8 + [np.empty(0)] * 3]
    for table in records.read("ops", ("device", "block", *numbers)):
        columns = [column_of(table, name) for name in numbers]
        parts.append([names.device(table, "device"), names.block(table, "block"), *columns])
    device, block, sequence, step, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
    layer, number, last, last_bytes, ready_s, start_s, end_s = rest
    width = 1 + int(number.max(initial=0))
    token = token_of(tokens, sequence.astype(np.int64), step.astype(np.int64))
    key = token * width + number
    order = np.argsort(key, kind="stable")
    order = order[token[order] != NONE]
    columns = [key, device, block, layer, last, last_bytes, ready_s, start_s, end_s]
    return RecordedOperations(*(column[order] for column in columns)), width


class PathRates(NamedTuple):
    """Bandwidth and delay of the paths of tokens, sorted by key: [n] each."""

    key: Integers  # (token * devices + source) * devices + target
    s_per_byte: Floats
    delay_s: Floats


def read_path_rates(records: RecordTables, tokens: RecordedTokens, names: Names) -> PathRates:
    numbers = ("sequence", "step", "messages", "bytes", "transfer_s", "delay_s")
    parts: list[list[NDArray[Any]]] = [[np.empty(0, np.int64)] * 6 + [np.empty(0)] * 2]
    for table in records.read("links", ("source", "target", *numbers)):
        columns = [column_of(table, name) for name in numbers]
        parts.append([names.device(table, "source"), names.device(table, "target"), *columns])
    source, target, sequence, step, messages, size, transfer_s, delay_s = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    n, token = len(names.devices), token_of(tokens, sequence.astype(np.int64), step.astype(np.int64))
    key = (token * n + source) * n + target
    order = np.argsort(key, kind="stable")
    order = order[(token[order] != NONE) & (size[order] > 0)]
    rates = transfer_s[order] / size[order], delay_s[order] / messages[order]
    return PathRates(key[order], *rates)


def read_pauses(records: RecordTables) -> set[tuple[float, float]]:
    """Length and end of the pauses for changes of placement that were committed."""
    found = set[tuple[float, float]]()
    for table in records.read("migrations", ("ended_s", "pause_s", "outcome")):
        for row in table.to_pylist():
            if row["outcome"] == "committed" and row["pause_s"] > 0:
                found.add((row["pause_s"], row["ended_s"]))
    return found
