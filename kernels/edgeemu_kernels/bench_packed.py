"""Benchmark of decoding with packed weights: against float32, a read of them, and with rows that are rounded."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.packed import raw_of
from edgeemu_kernels.precision import Precision
from edgeemu_kernels.weights.open_model import Model

PROMPT = list(range(24))
LIMIT = 0.6  # of the float32 step, what the project asks of itself
ROUNDING_LIMIT = 2.3  # of the packed step, where caches and messages are rounded and sums do not depend on the division
ROUNDED_ROWS = "q8_0"

Words = NDArray[np.int64]
READS: tuple[Callable[[Words], object], ...] = (np.maximum.reduce, np.bitwise_or.reduce)


@dataclass(frozen=True, slots=True)
class PackedResult:
    """Medians of the measured times over the rounds."""

    precision: Precision
    weight_bytes: int
    step_s: float
    rounding_step_s: float
    float32_step_s: float
    stream_s: float  # fastest of the reads of all packed weights

    @property
    def of_float32(self) -> float:
        return self.step_s / self.float32_step_s

    @property
    def rounding(self) -> float:
        return self.rounding_step_s / self.step_s

    @property
    def of_stream(self) -> float:
        return self.step_s / self.stream_s


def at_small_precision(model: Model, rows: str = "f32") -> Model:
    """Return the model as its GGUF file has it, or in q8_0 where that is float32 or cannot be.

    `rows`: format of caches and messages.
    """
    try:
        small = model.at_precision("file", rows, rows)
    except ModelFileError:
        return model.at_precision("q8_0", rows, rows)
    is_plain = not small.shape.precision.packs_weights
    return model.at_precision("q8_0", rows, rows) if is_plain else small


def measure_packed(
    packed: Decoder, rounding: Decoder, plain: Decoder, rounds: int, clock: Callable[[], float]
) -> PackedResult:
    """Measure steps with packed weights, also with rounded rows, with float32, and reads of them, by turns."""
    held = [raw_of(matrix) for matrix in packed.weight_arrays()]
    words = [_words(array) for array in held]
    steps: dict[Decoder, list[float]] = {packed: [], rounding: [], plain: []}
    reads: list[list[float]] = [[] for _ in READS]
    token = int(packed.prefill(PROMPT).argmax())
    for other in (rounding, plain):
        other.prefill(PROMPT)
    for _ in range(rounds):
        for decoder, times in steps.items():
            start = clock()
            decoder.step(token)
            times.append(clock() - start)
        for read, times in zip(READS, reads, strict=True):
            start = clock()
            for each in words:
                read(each)
            times.append(clock() - start)
    return PackedResult(
        precision=packed.shape.precision,
        weight_bytes=sum(array.nbytes for array in held),
        step_s=statistics.median(steps[packed]),
        rounding_step_s=statistics.median(steps[rounding]),
        float32_step_s=statistics.median(steps[plain]),
        stream_s=min(map(statistics.median, reads)),
    )


def _words(array: NDArray[np.generic]) -> Words:
    """All of an array's bytes as whole numbers, but the last few."""
    flat = array.reshape(-1).view(np.uint8)
    return flat[: len(flat) // 8 * 8].view(np.int64)
