"""Texts at every precision, whatever the policy and the placement, against the undivided reference's.

    python tools/bench/equality.py [--precisions N] [--placements N] [--json]

SmolLM2 answers two prompts on five devices, real processes in virtual time: under every policy (but `exact`, which is
for small clusters) while a device gets slow and blocks move, and from random placements with layers partly divided.
Where caches and messages are float32, all tokens must be equal. Rounded rows turn a last bit into a whole step of their
format, so two ways of computing the same logits differ: the reference's own difference from itself (of a text at once
and of its beginnings) is told beside the margins of its tokens. There nine tenths of the texts must be equal. Prints a
line for each precision; status 1 on a miss.
"""

import argparse
import random
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measure import Figure, Run, report

from edgeemu.policies import POLICIES
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario
from edgeemu_kernels.reference import Reference

SCENARIO = """
name: equality
model: smollm2-135m-instruct
devices:
  - {name: laptop, gflops: 40 GFLOPS, mem_bandwidth: 12 GB/s, memory: 4 GiB}
  - {name: pi-a, gflops: 12 GFLOPS, mem_bandwidth: 4 GB/s, memory: 4 GiB}
  - {name: pi-b, gflops: 12 GFLOPS, mem_bandwidth: 4 GB/s, memory: 4 GiB}
  - {name: jetson, gflops: 30 GFLOPS, mem_bandwidth: 10 GB/s, memory: 4 GiB}
  - {name: phone, gflops: 20 GFLOPS, mem_bandwidth: 8 GB/s, memory: 4 GiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
workload: {prompts: [The capital of France is, "def fibonacci(n):"], chat: false, max_tokens: 8}
time: {mode: virtual}
decisions: {time: 1 ms}
"""
SLOWED = "events=[{at_token: 2, device: laptop, speed: 0.1}]"
DEVICES = ("laptop", "pi-a", "pi-b", "jetson", "phone")
LAYERS, GROUPS = 30, 3


class Precision(NamedTuple):
    """Precision, as a scenario has it."""

    weights: str
    cache: str = "f32"
    messages: str = "f32"

    @property
    def setting(self) -> str:
        return f"precision={{weights: {self.weights}, cache: {self.cache}, messages: {self.messages}}}"

    @property
    def least_equal(self) -> float:
        """Share of the texts that must be equal."""
        return 1.0 if (self.cache, self.messages) == ("f32", "f32") else 0.9


PRECISIONS = (
    Precision("file"),
    Precision("q4_0", "f16", "q8_0"),
    Precision("q8_0"),
    Precision("q4_k"),
    Precision("q6_k", "q8_0", "f16"),
    Precision("f16", "f16", "f16"),
    Precision("bf16"),
    Precision("q4_1", "q4_0", "q4_0"),
)


class Expected(NamedTuple):
    """Tokens of the undivided reference, by prompt, and how far it is from itself: token by token, and all at once."""

    tokens: list[list[int]]
    apart: float  # largest difference of two logits
    margin: float  # median of how far the chosen token's logit is above the next


def expected(precision: Precision) -> Expected:
    """Let the reference answer."""
    plan = make_plan(parse_scenario(SCENARIO, "equality", [precision.setting]), "single")
    reference = Reference(plan.model.open_source())
    tokens, apart, margins = [], 0.0, []
    for request in plan.requests:
        ids = list(request.ids)
        tokens.append(reference.generate(ids, request.max_tokens))
        together = reference.logits(ids + tokens[-1][:-1])  # [positions, vocab]
        for end in range(len(ids), len(together) + 1):
            shorter = reference.logits((ids + tokens[-1])[:end])[-1]  # [vocab]
            apart = max(apart, float(np.abs(shorter - together[end - 1]).max()))
            highest = np.sort(shorter)[-2:]
            margins.append(float(highest[1] - highest[0]))
    return Expected(tokens, apart, float(np.median(margins)))


def random_placement(draw: random.Random) -> str:
    """A placement in YAML: heads, projections and feed-forwards of every layer on any devices, some of them divided."""
    lines = ["embed: " + draw.choice(DEVICES), "lm_head: " + draw.choice(DEVICES), "layers:"]
    for layer in range(LAYERS):
        heads = [draw.choice(DEVICES) for _ in range(GROUPS)]
        held = {name: [g for g in range(GROUPS) if heads[g] == name] for name in heads}
        proj = {name: held[name] for name in held} if draw.random() < 0.5 else draw.choice(DEVICES)
        ffn = dict.fromkeys(draw.sample(DEVICES, 2), "1/2") if draw.random() < 0.5 else draw.choice(DEVICES)
        lines.append(f"  {layer}: {{heads: {_yaml(held)}, proj: {_yaml(proj)}, ffn: {_yaml(ffn)}}}")
    return "placement:\n" + "".join(f"  {line}\n" for line in lines)


def _yaml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
    return str(value)


def tokens_of(run: Run) -> list[list[int]]:
    made: dict[int, list[int]] = {}
    for row in run.tokens:
        made.setdefault(row["sequence"], []).append(row["token"])
    return [made[sequence] for sequence in sorted(made)]


def equal_texts(precision: Precision, directory: Path, placements: int) -> Figure:
    """Count the texts that are the reference's."""
    right = expected(precision)
    print(f"{precision.setting}: reference from itself {right.apart:.2g} in a logit, median margin {right.margin:.2g}")
    scenario = directory / "equality.yaml"
    scenario.write_text(SCENARIO)
    policies = sorted(POLICIES.keys() - {"given", "exact"})
    runs = [Run("run", scenario, precision.setting, SLOWED, policy=name) for name in policies]
    for number in range(placements):
        written = directory / f"placed-{number}.yaml"
        written.write_text(SCENARIO + random_placement(random.Random(number)))
        runs.append(Run("run", written, precision.setting, policy="given"))
    texts = [text == wanted for run in runs for text, wanted in zip(tokens_of(run), right.tokens, strict=True)]
    what = f"{precision.setting}: texts of {len(runs)} runs that are not the reference's"
    return Figure(what, 100.0 * (1.0 - sum(texts) / len(texts)), 100.0 * (1.0 - precision.least_equal), "%")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares texts at every precision with the reference's.")
    parser.add_argument("--precisions", type=int, default=len(PRECISIONS), help="how many of them")
    parser.add_argument("--placements", type=int, default=10, help="random placements beside the policies")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = [equal_texts(each, Path(made), options.placements) for each in PRECISIONS[: options.precisions]]
    raise SystemExit(report(found, options.json))


if __name__ == "__main__":
    main()
