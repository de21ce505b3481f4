"""Ratios of single kernels to what bounds them: a read of the same bytes, matrix products, one row. Knows shapes.

Each ratio is taken in one run, in turns: what is compared shares the state of the machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from edgeemu_kernels.compiled import attend, read
from edgeemu_kernels.linear import Array
from edgeemu_kernels.packed import unpack
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource
from edgeemu_kernels.workspace import QUERY_ROWS

PROMPT = 1024  # rows of the measured prefill
ONCE_BYTES = 128 * 2**20  # caches, or weights, that are read before the same again: more than any processor's cache

SMOLLM2 = ModelShape("SmolLM2-135M", 8, 576, 9, 3, 64, 1536, 1000, 8192)
LLAMA_3 = ModelShape("Llama-3-8B", 1, 4096, 32, 8, 128, 14336, 1000, 8192)


class Ratio(NamedTuple):
    """Measured ratio, and the limit that the project sets itself."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.name:<62} {self.value:5.2f}  (at {'least' if self.at_least else 'most'} {self.limit})"


def in_turns(tasks: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median time of each task, s; one after the other, `rounds` times. The first time is not counted."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            start = clock()
            task()
            times[name].append(clock() - start)
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def ratios(rounds: int, clock: Callable[[], float]) -> Iterator[Ratio]:
    """Measure every ratio; `clock` gives seconds of processor time."""
    for shape in (SMOLLM2, LLAMA_3):
        for length in (512, 4096):
            yield _attention(shape, length, rounds, clock)
    yield _prefill(replace(SMOLLM2, n_layers=1), rounds, clock)
    yield from _few_rows(SMOLLM2, rounds, clock)


def _attention(shape: ModelShape, length: int, rounds: int, clock: Callable[[], float]) -> Ratio:
    """Attention of one position over many layers' caches, and a read of as many bytes."""
    n, hd = shape.n_groups, shape.head_dim
    layers = max(2, ONCE_BYTES // (8 * n * length * hd))
    caches = _drawn(layers, 2, n, length, hd)
    queries = _drawn(n, shape.group_size, hd)
    queries /= np.float32(hd**0.5)
    out = np.empty_like(queries)

    def attend_all() -> None:
        for keys, values in caches:
            attend(queries, keys, values, length, out)

    times = in_turns({"attend": attend_all, "read": lambda: read(caches)}, rounds, clock)
    name = f"attention, {shape.name}, {length} positions: share of a read of the cache"
    return Ratio(name, times["read"] / times["attend"], 0.6, at_least=True)


def _prefill(shape: ModelShape, rounds: int, clock: Callable[[], float]) -> Ratio:
    """One layer of a prefill, and its matrix products alone."""
    source = SeededSource(shape, 0)
    n, s, hd = shape.n_groups, shape.group_size, shape.head_dim
    heads, proj, ffn = source.heads(0, range(n)), source.proj(0), source.ffn(0)
    x, mixed, hidden = _drawn(PROMPT, shape.d_model), _drawn(PROMPT, n * s * hd), _drawn(PROMPT, shape.d_ff)
    queries, keys, values = _drawn(n, s * QUERY_ROWS, hd), _drawn(n, PROMPT, hd), _drawn(n, PROMPT, hd)

    def layer() -> None:
        ffn.forward(proj.forward(heads.forward(x, 0, heads.new_cache(PROMPT)), x))

    def products() -> None:
        for weight, rows in ((heads.weights[0], x), (proj.weight, mixed), (ffn.up, x), (ffn.down, hidden)):
            rows @ unpack(weight).T
        for seen in range(QUERY_ROWS, PROMPT + 1, QUERY_ROWS):
            for g in range(n):
                (queries[g] @ keys[g, :seen].T) @ values[g, :seen]

    times = in_turns({"layer": layer, "products": products}, rounds, clock)
    name = f"prefill of {PROMPT}, {shape.name}: over its matrix products"
    return Ratio(name, times["layer"] / times["products"], 1.2)


def _few_rows(shape: ModelShape, rounds: int, clock: Callable[[], float]) -> Iterator[Ratio]:
    """Feed-forward of a few rows, and of one."""
    source = SeededSource(shape, 0)
    ffns = [source.ffn(layer) for layer in range(shape.n_layers)]

    def pass_of(x: Array) -> Callable[[], object]:
        return lambda: [ffn.forward(x) for ffn in ffns]

    tasks = {str(rows): pass_of(_drawn(rows, shape.d_model)) for rows in (1, 2, 4, 8)}
    times = in_turns(tasks, rounds, clock)
    for rows, limit in ((2, 1.3), (4, 1.6), (8, 2.1)):
        yield Ratio(f"feed-forward, {shape.name}, {rows} rows: over one row", times[str(rows)] / times["1"], limit)


def _drawn(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)
