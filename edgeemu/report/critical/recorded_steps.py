"""Columns of the record tables that critical paths are made of, by token. Pure; reads tables."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.lateness import token_keys
from edgeemu.report.statistics import Floats

if TYPE_CHECKING:
    import pyarrow as pa

Integers = NDArray[np.integer[Any]]
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

    def devices_of(self, tables: "Iterable[pa.Table]", column: str) -> Integers:
        """Return the number of the device in each row of some tables."""
        return np.concatenate([np.empty(0, np.int32), *(self.device(table, column) for table in tables)])

    def blocks_of(self, tables: "Iterable[pa.Table]", column: str) -> Integers:
        """Return the number of the block in each row of some tables."""
        return np.concatenate([np.empty(0, np.int32), *(self.block(table, column) for table in tables)])

    def device(self, table: "pa.Table", column: str) -> Integers:
        """Return the number of the device in each row."""
        return _numbered(table, column, self._devices)

    def block(self, table: "pa.Table", column: str) -> Integers:
        """Return the number of the block in each row."""
        return _numbered(table, column, self._blocks)


def _numbered(table: "pa.Table", column: str, known: dict[str, int]) -> Integers:
    chunks = table.column(column).unify_dictionaries().chunks
    parts = [
        np.array([known.setdefault(name, len(known)) for name in chunk.dictionary.to_pylist()], np.int32)[
            chunk.indices.to_numpy()
        ]
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, np.int32), *parts])


def columns_of(tables: "Iterable[pa.Table]", names: Sequence[str]) -> list[NDArray[Any]]:
    """Columns of numbers of all rows of some tables, each as wide as it is stored; of no tables: empty ones."""
    parts = [[column_of(table, name) for name in names] for table in tables]
    return [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.empty(0, np.int64)] * len(names)


def read_tokens(records: RecordTables) -> RecordedTokens:
    columns = ("sequence", "step", "released_s", "emulated_s", "latency_s")
    return RecordedTokens(*columns_of(records.read("tokens", columns), columns))


def token_of(tokens: RecordedTokens, sequence: Integers, step: Integers) -> Integers:
    """Index of each row's token; NONE: the token is not recorded."""
    known, asked = token_keys(tokens.sequence, tokens.step), token_keys(sequence, step)
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
    tables = list(records.read("ops", ("device", "block", *numbers)))
    device, block = names.devices_of(tables, "device"), names.blocks_of(tables, "block")
    sequence, step, layer, number, last, last_bytes, ready_s, start_s, end_s = columns_of(tables, numbers)
    del tables
    width = 1 + int(max(number.max(initial=0), last.max(initial=0)))
    token = token_of(tokens, sequence, step)
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
    tables = list(records.read("links", ("source", "target", *numbers)))
    source, target = (names.devices_of(tables, end) for end in ("source", "target"))
    sequence, step, messages, size, transfer_s, delay_s = columns_of(tables, numbers)
    n, token = len(names.devices), token_of(tokens, sequence, step)
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
