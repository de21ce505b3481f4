"""Speed of this host's arithmetic, memory and caches. Knows NumPy, sysfs and a clock that it is given.

Memory is read as fast as one core can by the dot product of the two halves of an array, each a stream of its own:
within 2 % of a compiled loop over four streams, whichever kernels the BLAS uses. The array is many times the last
cache: at twice its size a third of what is read still comes from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from edgeemu_kernels.linear import Array
from edgeemu_kernels.profile.timing import Timing, timing

MATRIX = 768  # rows and columns of the product: about 10 ms on a 100 GFLOP/s core
STREAM_CACHES = 8  # size of the array that is read, in last-level caches
MIN_STREAM_BYTES, MAX_STREAM_BYTES = 64 * 1024**2, 512 * 1024**2
ROUNDS = 15
CACHE_SAMPLE_BYTES = 16 * 1024**2  # read in one sample of a small working set, again and again
LEAST_WORKING_SET_BYTES = 8 * 1024
GAP_BYTES = 1024 + 64  # between the streams: at a distance of whole pages, lines of both have the same place in a cache
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

Clock = Callable[[], float]


class Cache(NamedTuple):
    """Cache of the first core that holds data."""

    level: int
    size_bytes: int
    shared_by: str  # cores, as the kernel lists them


class CacheBandwidth(NamedTuple):
    """Bandwidth of reading an array again and again."""

    working_set_bytes: int
    read: Timing  # of all of it, once

    @property
    def bytes_per_s(self) -> float:
        return self.working_set_bytes / self.read.median_s


@dataclass(frozen=True, slots=True)
class HostSpeed:
    """Speed of one core, or of as many as the BLAS has threads."""

    gflops: float  # float32 matrix product
    mem_bytes_per_s: float  # reading an array that no cache holds


class HostProbe:
    """Arrays that are multiplied and read, and the times that this took. Holds `stream_bytes` and 7 MB of memory.

    Reading the stream leaves nothing else in the caches, as the other layers of a model do.
    """

    def __init__(self, clock: Clock, stream_bytes: int, threads: int = 1) -> None:
        """`threads` read the stream together; the BLAS has been told how many multiply."""
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._threads = threads
        self._square: Array = np.ones((MATRIX, MATRIX), np.float32)
        self._product: Array = np.empty_like(self._square)
        self._stream: Array = np.ones(stream_bytes // 8 * 2, np.float32)
        self._products_s: list[float] = []
        self._reads_s: list[float] = []
        self.sample()  # the first is slower, and does not count
        self._products_s.clear()
        self._reads_s.clear()

    def sample(self) -> None:
        """Time one product and one read."""
        self._products_s.append(_took_s(self._clock, self._multiply))
        self.evict()

    def evict(self) -> None:
        """Time one read, after which the caches hold nothing else."""
        self._reads_s.append(_took_s(self._clock, self._read))

    @property
    def product(self) -> Timing:
        return timing(self._products_s)

    @property
    def read(self) -> Timing:
        return timing(self._reads_s)

    @property
    def speed(self) -> HostSpeed:
        return HostSpeed(2 * MATRIX**3 / self.product.median_s / 1e9, self._stream.nbytes / self.read.median_s)

    def _multiply(self) -> None:
        np.matmul(self._square, self._square, out=self._product)

    def _read(self) -> None:
        if self._pool is None:
            _read(self._stream)
        else:  # a dot product leaves the interpreter to the other threads
            list(self._pool.map(_read, np.array_split(self._stream, self._threads)))


def _read(stream: Array) -> None:
    half = len(stream) // 2
    np.dot(stream[:half], stream[half : 2 * half])


def measure(clock: Clock, rounds: int = ROUNDS) -> HostSpeed:
    """Measure one core; `clock` gives seconds of this thread. Takes some 0.4 s, and the memory of a `HostProbe`."""
    with threadpool_limits(1, "blas"):  # or the product waits for a second thread that a busy host does not run
        probe = HostProbe(clock, stream_bytes(caches()))
        for _ in range(rounds):
            probe.sample()
        return probe.speed


def stream_bytes(found: list[Cache]) -> int:
    """Size of an array that these caches hold little of."""
    last_bytes = max((cache.size_bytes for cache in found), default=0)
    return min(MAX_STREAM_BYTES, max(MIN_STREAM_BYTES, STREAM_CACHES * last_bytes))


def caches(directory: Path = CACHES) -> list[Cache]:
    """Caches for data by level; none where sysfs does not say."""
    found = []
    for index in sorted(directory.glob("index*")):
        try:
            kind, level, size, shared = (
                (index / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:  # some kernels of virtual machines leave files out
            continue
        if kind != "Instruction" and size.endswith("K"):
            found.append(Cache(int(level), int(size[:-1]) * 1024, shared))
    return sorted(found)


def cache_bandwidths(clock: Clock, largest_bytes: int, rounds: int = ROUNDS) -> Iterator[CacheBandwidth]:
    """Measure reading working sets of 8 KiB, doubled until they are `largest_bytes`."""
    gap = GAP_BYTES // 4
    whole: Array = np.ones(largest_bytes // 4 + gap, np.float32)
    size_bytes = LEAST_WORKING_SET_BYTES
    while size_bytes <= largest_bytes:
        half, times = size_bytes // 8, max(1, CACHE_SAMPLE_BYTES // size_bytes)
        first = np.broadcast_to(whole[:half], (times, half))
        second = np.broadcast_to(whole[half + gap : 2 * half + gap], (times, half))
        sums: Array = np.empty(times, np.float32)

        def read(first: Array = first, second: Array = second, sums: Array = sums) -> None:
            np.vecdot(first, second, out=sums)

        read()
        samples_s = [_took_s(clock, read) for _ in range(rounds)]
        yield CacheBandwidth(size_bytes, timing(samples_s).each(times))
        size_bytes *= 2


def _took_s(clock: Clock, work: Callable[[], None]) -> float:
    start_s = clock()
    work()
    return clock() - start_s
