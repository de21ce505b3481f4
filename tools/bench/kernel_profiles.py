"""Compares two profiles of kernels with each other, and with a stopwatch around the kernels of a decode step.

    python tools/bench/kernel_profiles.py

Both are measured in turns, and the fastest of their turns counts: what disturbs one of them is not its error.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from measure import Figure, edgeemu, report
from threadpoolctl import threadpool_limits

from edgeemu.scenario.catalog import model_entry
from edgeemu_kernels.weights.seeded import SeededSource

MODEL = "smollm2-135m-instruct"
PAST = 4096
TOKENS = 12
PROFILES = 3
STOPWATCH_LIMIT = 0.05
TURNS_LIMIT = 0.10

Rates = dict[str, float]  # GB/s by kernel


def stopwatch() -> Rates:
    """Time one row of feed-forward and of attention in layer after layer, as a script of ten lines does it."""
    source = SeededSource(model_entry(MODEL).model_shape(), seed=0)
    ffns = [source.ffn(layer) for layer in range(source.shape.n_layers)]
    heads = source.heads(0, range(3))
    caches = [heads.new_cache(PAST + TOKENS) for _ in ffns]
    for cache in caches:
        cache.append(*np.random.default_rng(0).random((2, 3, PAST, 64), np.float32))
    x, qkv = np.ones((1, 576), np.float32), np.ones((1, 960), np.float32)
    ffn_s = [timed(ffn.forward, x) for _ in range(TOKENS) for ffn in ffns]
    attention_s = [timed(heads.attend, qkv.copy(), c.length, c) for _ in range(TOKENS) for c in caches]
    return {
        "ffn": ffns[0].weight_bytes / statistics.median(ffn_s) / 1e9,
        "attention": caches[0].nbytes_used / statistics.median(attention_s) / 1e9,
    }


def timed(kernel: Callable[..., object], *arguments: object) -> float:
    """Processor time of one call, in seconds."""
    began_s = time.thread_time()
    kernel(*arguments)
    return time.thread_time() - began_s


def profile() -> Rates:
    """Rates of the same kernels by the command."""
    document = edgeemu("profile", "kernels", "--model", MODEL, "--rows", "1", "--past", str(PAST))
    return {each["kernel"]: each["bytes_per_s"] / 1e9 for each in document["kernels"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    profiles: list[Rates] = []
    watches: list[Rates] = []
    with threadpool_limits(1, "blas"):
        for turn in range(2 * PROFILES + 1):
            (profiles if turn % 2 else watches).append(profile() if turn % 2 else stopwatch())
    figures = []
    for kernel, name in (("ffn", "feed-forward"), ("attention", f"attention after {PAST}")):
        rates = [each[kernel] for each in profiles]
        watched = max(each[kernel] for each in watches)
        against = f"{name}: {max(rates):.1f} GB/s, and {watched:.1f} by a stopwatch"
        figures.append(Figure(against, abs(max(rates) / watched - 1), STOPWATCH_LIMIT, ""))
        figures.append(Figure(f"{name}: two calls differ", max(rates) / min(rates) - 1, TURNS_LIMIT, ""))
    return report(figures, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
