"""Speed of this host's arithmetic and memory on one thread. Knows NumPy and a clock that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeemu_kernels.linear import Array

MATRIX = 768  # rows and columns of the product: about 10 ms on a 100 GFLOP/s core
STREAM_BYTES = 64 * 1024**2  # beyond the second-level cache of any core
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class HostSpeed:
    gflops: float  # float32 matrix product
    mem_bytes_per_s: float  # reading an array of STREAM_BYTES


def measure(clock: Callable[[], float]) -> HostSpeed:
    """Measure the best of a few rounds; `clock` gives seconds. Takes about 0.1 s, and STREAM_BYTES of memory."""
    square: Array = np.ones((MATRIX, MATRIX), np.float32)
    product: Array = np.empty_like(square)
    product_s = _best(lambda: np.matmul(square, square, out=product), clock)
    stream: Array = np.ones(STREAM_BYTES // 4, np.float32)
    stream_s = _best(lambda: float(np.dot(stream, stream)), clock)
    return HostSpeed(2 * MATRIX**3 / product_s / 1e9, stream.nbytes / stream_s)


def _best(work: Callable[[], object], clock: Callable[[], float]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)
