"""Compares two profiles of kernels with each other, and with a stopwatch around the kernels of a decode step.

    python tools/bench/kernel_profiles.py

The stopwatch runs in a process of its own, as a user's script does. Both are measured in turns, and the median of the
turns counts: other programs that use the memory at the same time slow down whole turns.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from measure import Figure, edgeemu, report
from threadpoolctl import threadpool_limits

from edgeemu.scenario.catalog import model_entry
from edgeemu_kernels.profile.timing import timing
from edgeemu_kernels.weights.seeded import SeededSource

MODEL = "smollm2-135m-instruct"
PAST = 4096
TOKENS = 20
PROFILES = 5
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
        "ffn": ffns[0].weight_bytes / timing(ffn_s).median_s / 1e9,
        "attention": caches[0].nbytes_used / timing(attention_s).median_s / 1e9,
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


def stopwatch_apart() -> Rates:
    """Rates that the stopwatch shows in a process of its own."""
    line = [sys.executable, __file__, "--stopwatch"]
    rates: Rates = json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stopwatch", action="store_true", help="print what the stopwatch shows in this process")
    options = parser.parse_args()
    if options.stopwatch:
        with threadpool_limits(1, "blas"):
            print(json.dumps(stopwatch()))
        return 0
    profiles: list[Rates] = []
    watches: list[Rates] = []
    for _ in range(PROFILES):
        watches.append(stopwatch_apart())
        profiles.append(profile())
    figures = []
    for kernel, name in (("ffn", "feed-forward"), ("attention", f"attention after {PAST}")):
        rates, watched = ([each[kernel] for each in found] for found in (profiles, watches))
        shown, seen = statistics.median(rates), statistics.median(watched)
        against = f"{name}: {shown:.1f} GB/s, and {seen:.1f} by a stopwatch"
        figures.append(Figure(against, abs(shown / seen - 1), STOPWATCH_LIMIT, ""))
        apart = [max(pair) / min(pair) - 1 for pair in itertools.pairwise(rates)]
        figures.append(Figure(f"{name}: two calls differ", statistics.median(apart), TURNS_LIMIT, ""))
    return report(figures, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
