"""Texts at every precision, whatever the policy and the placement, against the undivided model's.

    python tools/bench/equality.py [--precisions N] [--placements N] [--json]

SmolLM2 answers two prompts on five devices, real processes in virtual time: under every policy (but `exact`, which is
for small clusters; some have as many of the devices as suit them) while a device gets slow and blocks move, and from
random placements, every other one with layers partly divided. Texts are compared with those of the undivided decoder,
which has the devices' kernels: all must be equal, at every precision, however layers are divided. Beside it is how far
the reference, which shares no kernel with the decoder, is from it in a logit. Prints a line for each precision; status
1 on a miss.
"""

import argparse
import json
import random
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from measure import Figure, Run, report

from edgeemu.errors import UnsuitableError
from edgeemu.placement.placement import is_divided
from edgeemu.policies import PARTICULAR, POLICIES
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu_kernels.decoder import Decoder
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


PRECISIONS = (
    Precision("file"),
    Precision("q4_0", "f16", "q8_0"),
    Precision("q8_0"),
    Precision("q4_k"),
    Precision("q6_k", "q8_0", "f16"),
    Precision("f16", "f16", "f16"),
    Precision("bf16"),
    Precision("q4_1", "q4_0", "q4_0"),
    Precision("f32", "q8_0", "f32"),
)


class Expected(NamedTuple):
    """Texts of the undivided decoder, by prompt, and how far the reference is from it in the same texts."""

    tokens: list[list[int]]
    apart: float  # largest difference of two logits
    margin: float  # median of how far the chosen token's logit is above the next


def expected(precision: Precision) -> Expected:
    """Let the undivided decoder answer, and the reference score its answers."""
    plan = make_plan(parse_scenario(SCENARIO, "equality", [precision.setting]), "single")
    source = plan.model.open_source()
    decoder, reference = Decoder(source), Reference(source)
    tokens, apart, margins = [], 0.0, []
    for request in plan.requests:
        ids = list(request.ids)
        decoder.reset()
        logits, text = [decoder.prefill(ids)], list[int]()
        while len(text) < request.max_tokens:
            text.append(int(logits[-1].argmax()))
            logits.append(decoder.step(text[-1]))
        tokens.append(text)
        together = reference.logits(ids + text)[len(ids) - 1 :]  # [max_tokens + 1, vocab]
        apart = max(apart, float(np.abs(np.array(logits) - together).max()))
        margins += [float(np.subtract(*np.sort(each)[-1:-3:-1])) for each in logits]
    return Expected(tokens, apart, float(np.median(margins)))


def random_placement(draw: random.Random, *, divide: bool) -> str:
    """A placement in YAML: heads, projections and feed-forwards of every layer on any devices, some of them divided."""
    divided = 0.5 if divide else 0.0  # share
    lines = ["embed: " + draw.choice(DEVICES), "lm_head: " + draw.choice(DEVICES), "layers:"]
    for layer in range(LAYERS):
        heads = [draw.choice(DEVICES) for _ in range(GROUPS)]
        held = {name: [g for g in range(GROUPS) if heads[g] == name] for name in heads}
        proj = {name: held[name] for name in held} if draw.random() < divided else draw.choice(DEVICES)
        ffn = dict.fromkeys(draw.sample(DEVICES, 2), "1/2") if draw.random() < divided else draw.choice(DEVICES)
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


def suiting(policy: str, scenario: Path) -> tuple[str, ...]:
    """Setting with as many of the devices as suit a policy."""
    devices = yaml.safe_load(SCENARIO)["devices"]
    for count in range(len(devices), 0, -1):
        setting = f"devices={json.dumps(devices[:count])}"
        with suppress(UnsuitableError):
            make_plan(load_scenario(scenario, [setting]), policy)
            return (setting,)
    raise AssertionError(f"no number of devices suits {policy}")


def equal_texts(precision: Precision, directory: Path, placements: int) -> list[Figure]:
    """Count the texts that are the undivided decoder's, of runs with complete blocks and with divided layers."""
    right = expected(precision)
    scenario = directory / "equality.yaml"
    scenario.write_text(SCENARIO)
    cases: list[tuple[Path, str, tuple[str, ...]]] = [
        (scenario, name, (SLOWED, *(suiting(name, scenario) if name in PARTICULAR else ())))
        for name in sorted(POLICIES.keys() - {"given", "exact"})
    ]
    for number in range(placements):
        written = directory / f"placed-{number}.yaml"
        written.write_text(SCENARIO + random_placement(random.Random(number), divide=number % 2 == 0))
        cases.append((written, "given", ()))
    texts: dict[bool, list[bool]] = {False: [], True: []}  # whether layers are divided -> whether each text is equal
    for file, name, settings in cases:
        plan = make_plan(load_scenario(file, [precision.setting, *settings]), name)
        made = tokens_of(Run("run", file, precision.setting, *settings, policy=name))
        texts[is_divided(plan.placement, LAYERS)] += [
            text == wanted for text, wanted in zip(made, right.tokens, strict=True)
        ]
    print(
        f"{precision.setting}: {sum(texts[True])} of {len(texts[True])} texts equal with divided layers, "
        f"{sum(texts[False])} of {len(texts[False])} without; the reference is {right.apart:.2g} from the decoder in a "
        f"logit, where the median token is {right.margin:.2g} ahead of the next"
    )
    return [
        Figure(f"{precision.setting}: texts that differ, {what}", 100.0 * (1.0 - sum(each) / len(each)), 0.0, "%")
        for what, each in (("complete blocks", texts[False]), ("divided layers", texts[True]))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares texts at every precision with the reference's.")
    parser.add_argument("--precisions", type=int, default=len(PRECISIONS), help="how many of them")
    parser.add_argument("--placements", type=int, default=10, help="random placements beside the policies")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        chosen = PRECISIONS[: options.precisions]
        found = [figure for each in chosen for figure in equal_texts(each, Path(made), options.placements)]
    raise SystemExit(report(found, options.json))


if __name__ == "__main__":
    main()
