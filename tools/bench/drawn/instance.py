"""A random cluster with a small model, by its number, and the judge of placements: the simulator.

3-4 devices, 1-3 layers, 4 KV groups, width 512-2,048, links of 0.1-10 ms and 10-1,000 Mbit/s. In two of three instances
all devices together have 1.1-2 times the memory that the model needs, in unequal shares; in the others, plenty.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from math import exp, log
from typing import Any

from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Op, Program
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.rehearsal import Rehearsal
from edgeemu.run.make_plan import make_rehearsal, unplaced
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.prediction import predict_workload
from edgeemu.timeline.scheduler import Scheduler
from edgeemu.timeline.steps import Duration, Step

NEW_TOKENS = 24
GROUPS, HEAD_DIM = 4, 64
PLENTY = "64 GB"


@dataclass(frozen=True)
class Instance:
    """One random cluster with its model and workload. `view` is what a policy gets, rehearsals included."""

    number: int
    scenario: Scenario
    view: ClusterView
    rehearsal: Rehearsal

    @property
    def compiled(self) -> Callable[[Placement], Program]:
        return self.rehearsal.compiled

    @cached_property
    def duration(self) -> Duration:
        """Duration of an operation, each computed once: a long search asks for the same ones again and again."""

        @lru_cache(maxsize=100_000)
        def seconds(alike: _Alike, rows: int, past: int) -> float:
            return self.rehearsal.duration(alike.op, Step(0, 0, rows, past))

        def duration_s(op: Op, step: Step) -> float:
            return seconds(_Alike(op), step.rows, step.past)

        return duration_s

    def latency_s(self, placement: Placement) -> float:
        """Mean seconds per token, the first one included: (TTFT + 23 TPOT) / 24, by the simulator."""
        _, sampled_s = self._simulated(placement, NEW_TOKENS)
        return sampled_s / NEW_TOKENS

    def first_tokens_s(self, placement: Placement) -> tuple[float, float]:
        """Time to the first token, and from it to the second: later ones take a little longer, as caches grow."""
        ttft_s, sampled_s = self._simulated(placement, 2)
        return ttft_s, sampled_s - ttft_s

    def _simulated(self, placement: Placement, tokens: int) -> tuple[float, float]:
        """Instants of the first token and of that with this number."""
        prompt = self.rehearsal.lengths[0]
        schedule, program = Scheduler([prompt], 1), self.compiled(placement)
        cluster, costs = self.rehearsal.cluster, self.view.costs
        (times,) = predict_workload(cluster, costs, program, self.duration, schedule, [tokens])
        return times.sampled_s[0] - times.start_s, times.sampled_s[-1] - times.start_s


class _Alike:
    """An operation as a key: operations of equal cost are equal."""

    __slots__ = ("_hash", "key", "op")

    def __init__(self, op: Op) -> None:
        self.op = op
        last = op.emits.kind, op.emits.layer
        self.key = op.device, op.kind, len(op.groups), op.groups[:1] == (0,), len(op.needs), op.chunk, last
        self._hash = hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and self.key == other.key


def instance(number: int) -> Instance:
    """Draw the instance with this number."""
    scenario = parse_scenario(json.dumps(_document(number)), f"random-{number}")
    setting = unplaced(scenario)
    rehearsal = make_rehearsal(scenario, setting.cluster, setting.computes, setting.view, setting.requests)
    return Instance(number, scenario, replace(setting.view, rehearse=rehearsal), rehearsal)


def log_uniform(chance: random.Random, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return exp(chance.uniform(log(low), log(high)))


def drawn_links(
    chance: random.Random, n_devices: int, mbit_per_s: tuple[float, float], delay_ms: tuple[float, float]
) -> list[dict[str, Any]]:
    """Draw a link between any two devices, of log-uniform rate and delay."""
    return [
        {
            "between": [f"d{a}", f"d{b}"],
            "bandwidth": f"{log_uniform(chance, *mbit_per_s):.3f} Mbit/s",
            "delay": f"{log_uniform(chance, *delay_ms):.3f} ms",
        }
        for a in range(n_devices)
        for b in range(a)
    ]


def _document(number: int) -> dict[str, Any]:
    """The scenario of an instance as plain data. The order of the draws is part of it."""
    chance = random.Random(f"random clusters {number}")

    between = partial(log_uniform, chance)
    n_devices, n_layers = chance.choice((3, 4)), chance.choice((1, 2, 3))
    d_model = 256 * chance.randint(2, 8)
    n_heads = d_model // HEAD_DIM
    d_ff = 256 * round(d_model * chance.choice((8 / 3, 4.0)) / 256)
    vocab_size = round(between(1_000, 16_000))
    prompt_tokens = chance.randint(16, 64)
    devices = [
        {
            "name": f"d{index}",
            "gflops": f"{between(2, 50):.3f} GFLOPS",
            "mem_bandwidth": f"{between(1, 20):.3f} GB/s",
            "overhead": f"{chance.choice((0, 10, 100))} us",
        }
        for index in range(n_devices)
    ]
    links = drawn_links(chance, n_devices, (10, 1_000), (0.1, 10))
    shares = [chance.uniform(0.3, 1.0) for _ in devices]
    pressure = chance.uniform(1.1, 2.0)
    layer = d_model * d_model * (2 + 2 * GROUPS / n_heads) + 3 * d_model * d_ff
    needs_bytes = 4 * (n_layers * layer + 2 * vocab_size * d_model)
    for device, share in zip(devices, shares, strict=True):
        tight = f"{needs_bytes * pressure * share / sum(shares) / 1e6:.3f} MB"
        device["memory"] = tight if number % 3 else PLENTY
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": GROUPS, "head_dim": HEAD_DIM}
    shape |= {"d_ff": d_ff, "vocab_size": vocab_size, "max_context": 128}
    return {
        "model": {"shape": shape},
        "devices": devices,
        "network": {"default": "ethernet-1g", "links": links},
        "workload": {"prompts": [{"tokens": prompt_tokens}], "max_tokens": NEW_TOKENS},
    }
