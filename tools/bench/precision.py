"""Memory of a device that holds weights of 1 GiB of float32 in other formats, and what a token takes.

    python tools/bench/precision.py [--json]

A real process holds them: its peak of resident memory, beyond what an idle device has, is judged against the format's
bytes and what a token needs beside them. Prints a line for each format; status 1 on a miss.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

from measure import Figure, Run, report

SCENARIO = """
name: precision
model:
  shape: {n_layers: 4, d_model: 2048, n_heads: 32, n_kv_heads: 8, head_dim: 64, d_ff: 8192, vocab_size: 16384,
          max_context: 256, tied_embeddings: true}
devices: [{name: board, gflops: 50 GFLOPS, mem_bandwidth: 10 GB/s, memory: 2 GiB}]
policy: single
workload: {prompts: [{tokens: 8}], max_tokens: 4}
time: {mode: virtual}
"""
GIB = 2**30


class Format(NamedTuple):
    """Format of weights, and the most that a device with them may hold, in GiB."""

    name: str
    limit_gib: float


FORMATS = (Format("f32", 1.1), Format("f16", 0.6), Format("q8_0", 0.35), Format("q4_0", 0.2), Format("q4_k", 0.2))


def held(form: Format, scenario: Path) -> Figure:
    """Measure what a device's process holds of the model in a format."""
    run = Run("run", scenario, f"precision.weights={form.name}")
    board = run.summary["memory"]["by_device"]["board"]
    beyond_bytes = board["resident_bytes"] - board["baseline_bytes"]
    weights_gib = board["weights_bytes"] / GIB
    what = f"{form.name}: resident beyond an idle device, {weights_gib:.3f} GiB of weights"
    return Figure(what, beyond_bytes / GIB, form.limit_gib, "GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the memory of weights in several formats.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scenario = Path(directory) / "precision.yaml"
        scenario.write_text(SCENARIO)
        raise SystemExit(report([held(form, scenario) for form in FORMATS], options.json))


if __name__ == "__main__":
    main()
