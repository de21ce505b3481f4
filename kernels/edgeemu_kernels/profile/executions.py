"""Kernels of a few layers with random weights, caches and inputs, ready to run. Knows the kernels; no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Proj
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.packed import PackedMatrix
from edgeemu_kernels.profile.cases import Case
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

SEED = 0


class Execution(NamedTuple):
    """Kernel of one layer with its input; `prepare` makes it as it was before the last run."""

    run: Callable[[], object]
    prepare: Callable[[], object]


class Held(Protocol):
    """Kernel of several layers."""

    def executions(self, rows: int) -> list[Execution]:
        """One execution of each layer, on random rows."""
        ...


def hold(shape: ModelShape, cases: Sequence[Case], layers: int) -> Held:
    """Make what the cases of one kernel need: the weights of so many layers, or their caches."""
    first, source, random = cases[0], SeededSource(shape, SEED), _Random(np.random.SFC64(SEED))
    most, every = max(case.rows for case in cases), range(shape.n_groups)
    match first.kernel:
        case "qkv":
            heads = [source.heads(layer, every) for layer in range(layers)]
            return _HeldWeights([each.project for each in heads], shape.d_model, random)
        case "attention":
            return _HeldCaches(shape, first.past, most, layers, random)
        case "proj":
            x = random.array(most, shape.d_model)  # [t, D]
            projs = [partial(_project, source.proj(layer).at(shape), x) for layer in range(layers)]
            return _HeldWeights(projs, shape.n_heads * shape.head_dim, random)
        case "ffn":
            return _HeldWeights([source.ffn(layer).at(shape).forward for layer in range(layers)], shape.d_model, random)
        case "norm":
            return _HeldWeights([random.norm(shape).forward], shape.d_model, random)
        case "lm_head":
            return _HeldWeights([source.lm_head().forward], shape.d_model, random)
        case "decode":
            ups = [source.ffn(layer).up for layer in range(layers)]
            return _HeldWeights([partial(_decode, up) for up in ups if isinstance(up, PackedMatrix)], 1, random)


def _project(proj: Proj, x: Array, attended: Array) -> Array:
    return proj.forward(attended, x[: len(attended)])


def _decode(matrix: PackedMatrix, x: Array) -> Array:  # noqa: ARG001 - it needs none
    """Decode a matrix piece by piece, as its product with several rows does; returns the last piece."""
    return [piece for _, piece in matrix.pieces()][-1]


class _Random:
    """Numbers of about the size that norms give."""

    def __init__(self, bits: np.random.SFC64) -> None:
        self._rng = np.random.Generator(bits)

    def array(self, *shape: int) -> Array:
        made: Array = self._rng.random(shape, np.float32)
        made -= np.float32(0.5)
        return made

    def norm(self, shape: ModelShape) -> Norm:
        bias = self.array(shape.d_model) if shape.norm == "layer" else None
        return Norm(shape.norm, self.array(shape.d_model), bias, shape.norm_eps)


class _HeldWeights:
    """Kernels that read weights and leave their input as it is: [t, width] -> rows of any width."""

    def __init__(self, kernels: Sequence[Callable[[Array], object]], width: int, random: _Random) -> None:
        self._kernels = kernels
        self._width = width
        self._random = random

    def executions(self, rows: int) -> list[Execution]:
        x = self._random.array(rows, self._width)  # [t, width]
        return [Execution(partial(kernel, x), _nothing) for kernel in self._kernels]


def _nothing() -> None:
    """Prepare nothing."""


class _HeldCaches:
    """Attention of all groups after `past` positions, with a cache for each layer."""

    def __init__(self, shape: ModelShape, past: int, rows: int, layers: int, random: _Random) -> None:
        rope = None if shape.positions == "learned" else Rope(shape)
        self._heads = Heads.empty(
            shape, 0, range(shape.n_groups), random.norm(shape), rope
        )  # attention needs no weights
        self._past = past
        self._width = shape.n_groups * (shape.group_size + 2) * shape.head_dim
        self._random = random
        self._caches = [self._heads.new_cache(past + rows) for _ in range(layers)]
        for cache in self._caches:  # also where no row is yet: memory that was never written is not there
            cache.append(*random.array(2, shape.n_groups, past + rows, shape.head_dim))

    def executions(self, rows: int) -> list[Execution]:
        fresh = self._random.array(rows, self._width)  # [t, n*(S+2)*hd]
        return [self._execution(cache, fresh, np.empty_like(fresh)) for cache in self._caches]

    def _execution(self, cache: KVCache, fresh: Array, qkv: Array) -> Execution:
        """Attention of one layer: it writes its rows into the cache, and over its input."""

        def prepare() -> None:
            cache.length = self._past
            np.copyto(qkv, fresh)

        return Execution(lambda: self._heads.attend(qkv, self._past, cache), prepare)
