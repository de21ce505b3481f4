"""How good the policies are, and how fast they decide. Prints two tables, or one JSON document with --json.

Gaps: instances are drawn as in the head-level paper (arXiv 2505.02533): 3-5 devices, compute log-normal within
5-50 GFLOPS, memory log-normal within 2-8 GB, bandwidth uniform within 1-10 Gbit/s; one layer of 32 heads, width 2048;
64 tokens of prompt; at each step background load takes uniformly 0-20 % of every device's compute and memory. Costs are
physical. Every policy places, then decides at each step, with its own migrations; its cost is the sum of all steps and
migrations, and the gap is how much more that is than the exact policy's, which takes the optimum of each decision.
Latency is 0, as in the paper, unless --delay-ms says otherwise. The model has 256 tokens, so that the embedding and the
output matrix, which the paper has not, weigh nothing.

Times are of the thread's own CPU clock, one core. First placements are those that users get, rehearsals included, each
of another cluster, with nothing kept from the one before; what planning does besides takes `plan` ms. Later decisions
are those of a simulation under changing load, also with divided layers, and where many blocks move at once: each makes
the view of what was measured, asks the policy, and checks its answer. Not counted is what the simulator takes to draw
the load, and Python's garbage collector is off meanwhile: when it runs depends on all that the process has made. Status
1 if the p99 of later decisions is above a row's limit.
"""

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.keyed_random import draw_lognormal, draw_uniform, uniform
from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies import policy
from edgeemu.policies.view.cluster_view import ClusterView, DeviceView, NoBetterPlacement, WorkloadView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.memory_arrays import cached_sizes
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.policies.view.step_time import step_s
from edgeemu.report.rows import Row, TableName
from edgeemu.run.backend import DeviceState
from edgeemu.run.controller import Controller
from edgeemu.run.decider import Decision
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import load_scenario
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import Step
from edgeemu_kernels.shape import ModelShape

OTHERS = ("greedy", "round-robin", "static", "dynamic-layers", "layers", "single")
TIMED = ("resource-aware", "lookahead")
PROMPT_TOKENS = 64
SCENARIOS = Path(__file__).parents[2] / "scenarios"
UNLIMITED = 1e15  # bytes/s: the paper's devices have arithmetic only


class Timed(NamedTuple):
    """A scenario whose decisions are timed, with the limit of the p99 of later ones."""

    title: str
    file: str
    limit_ms: float
    settings: tuple[str, ...] = ("devices[0].load={uniform: {low: 0 %, high: 20 %}, every: 20 ms}",)
    policies: tuple[str, ...] = TIMED
    part: float = 1.0  # of the decisions that are asked for


ALONE = ("lookahead",)
HEAVY = "devices[0].load={uniform: {low: 0 %, high: 90 %}, every: 100 ms}"
OVERLOADED = "devices[0].load={uniform: {low: 0 %, high: 95 %}, every: 20 s}"
EACH_TOKEN = ("decisions={interval: 1, time: 0 s}", "events=[]")
ON_FLASH = ("migration.weights_on_flash=true", "migration.flash_bandwidth=3 GB/s")
DECISIONS = (
    Timed("one layer", "one-layer-25.yaml", 1.0),
    Timed("one layer, divided", "one-layer-25.yaml", 20.0, ("sharding.divide=true", HEAVY), ALONE),
    Timed("divided, shares move", "slowdown.yaml", 30.0, (*EACH_TOKEN, HEAVY), ALONE),
    Timed("80 layers", "thousand.yaml", 50.0, part=0.05),
    Timed("80 layers, heads move", "thousand.yaml", 100.0, (*ON_FLASH, OVERLOADED), ALONE, part=0.05),
)


def paper_shape(n_layers: int = 1, d_model: int = 2048, n_heads: int = 32) -> ModelShape:
    """The paper's blocks: multi-head attention, a feed-forward block of 4 D, and next to no vocabulary."""
    head_dim, d_ff = d_model // n_heads, 4 * d_model
    return ModelShape("paper", n_layers, d_model, n_heads, n_heads, head_dim, d_ff, 256, 4096, activation="gelu")


def paper_view(seed: int, n_devices: int, shape: ModelShape, total_tokens: int, delay_s: float = 0.0) -> ClusterView:
    """A cluster as the paper draws it, without load."""
    devices = tuple(
        DeviceView(
            f"d{i}",
            Compute(draw_lognormal(uniform(seed, "compute", str(i)), 5e9, 50e9), UNLIMITED, 0.0),
            int(draw_lognormal(uniform(seed, "memory", str(i)), 2e9, 8e9)),
        )
        for i in range(n_devices)
    )

    def bandwidth_bps(a: int, b: int) -> float:
        return draw_uniform(uniform(seed, "bandwidth", str(min(a, b)), str(max(a, b))), 1e9, 10e9)

    links = LinkMatrix.of_pairs(n_devices, bandwidth_bps, lambda *_: delay_s)
    return ClusterView(PhysicalCosts(shape), devices, links, WorkloadView(PROMPT_TOKENS, total_tokens, PROMPT_TOKENS))


def loaded(view: ClusterView, seed: int, step: int, most: float = 0.2) -> ClusterView:
    """The cluster some steps later, with background load on every device."""

    def left(device: DeviceView, what: str) -> float:
        return 1.0 - draw_uniform(uniform(seed, what, device.name, str(step)), 0.0, most)

    devices = tuple(
        DeviceView(
            device.name,
            replace(device.compute, flops_per_s=device.compute.flops_per_s * left(device, "load")),
            int(device.memory_bytes * left(device, "memory load")),
        )
        for device in view.devices
    )
    return replace(view, devices=devices, workload=replace(view.workload, length=view.prompt_tokens + step))


def trajectory_s(name: str, views: Sequence[ClusterView]) -> float | None:
    """Time of all steps and migrations under a policy; None if it finds no first placement."""
    decide, current, total_s = policy(name), None, 0.0
    for view in views:
        try:
            found: Placement = decide(view, current)
        except InfeasibleError:
            return None
        except NoBetterPlacement:
            assert current is not None
            found = current
        if current is not None:
            total_s += migration_s(view, current, found)
        total_s += step_s(view, found)
        current = found
    return total_s


def instance(seed: int, steps: int, delay_s: float) -> list[ClusterView]:
    n_devices = 3 + seed % 3
    view = paper_view(seed, n_devices, paper_shape(), PROMPT_TOKENS + steps, delay_s)
    return [loaded(view, seed, step) for step in range(steps)]


def gaps(names: Sequence[str], instances: int, steps: int, delay_s: float) -> dict[str, dict[str, float | int]]:
    """Policy -> mean, median, p95 and largest gap to the exact policy; and how often it found no placement."""
    found: dict[str, list[float]] = {name: [] for name in names}
    missed = dict.fromkeys(names, 0)
    worse = []
    for seed in range(instances):
        views = instance(seed, steps, delay_s)
        optimum_s = trajectory_s("exact", views)
        assert optimum_s is not None, "the paper's instances have room"
        costs_s: dict[str, float] = {}
        for name in names:
            cost_s = trajectory_s(name, views)
            if cost_s is None:
                missed[name] += 1
            else:
                costs_s[name] = cost_s
                found[name].append(cost_s / optimum_s - 1.0)
        others = [cost_s for name, cost_s in costs_s.items() if name != "lookahead"]
        if "lookahead" in costs_s and others:
            worse.append(costs_s["lookahead"] / min(others) - 1.0)
    table: dict[str, dict[str, float | int]] = {
        name: {
            "mean": float(np.mean(values)),
            "p50": float(np.median(values)),
            "p95": float(np.quantile(values, 0.95)),
            "max": float(np.max(values)),
            "without_placement": missed[name],
        }
        for name, values in found.items()
        if values
    }
    if worse:
        table["lookahead"]["worst_against_best_other"] = float(np.max(worse))
    return table


class Silent:
    """Watches and records nothing."""

    def phase(self, name: str, done: int, total: int) -> None: ...
    def directory(self, path: Path) -> None: ...
    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None: ...
    def token(self, index: int, step: int, text: str, latency_s: float) -> None: ...
    def moved(self, line: str) -> None: ...
    def sequence_ended(self, index: int) -> None: ...
    def append(self, table: TableName, rows: Sequence[Row]) -> None: ...


def decision_times(name: str, case: Timed, decisions: int) -> dict[str, float | str]:
    """Milliseconds of CPU of first placements, each of another plan, and of the decisions of a simulation."""
    first, planned_s = [], []
    for seed in range(max(3, decisions // 20)):
        cached_sizes.cache_clear()  # nothing is kept from one cluster to the next
        before_s = time.thread_time()
        plan = make_plan(load_scenario(SCENARIOS / case.file, [f"seed={seed}", *case.settings]), name)
        first.append(plan.placed_in_s)
        planned_s.append(time.thread_time() - before_s - first[-1])
    settings = [f"workload.max_tokens={decisions + 1}", *case.settings]
    plan = make_plan(load_scenario(SCENARIOS / case.file, settings), name)
    again, changes = later_decisions(plan)
    shape = plan.model.shape
    row: dict[str, float | str] = {
        "case": case.title,
        "devices": len(plan.cluster.devices),
        "blocks": shape.n_layers * (shape.n_groups + 2),
        "plan_ms": 1e3 * float(np.median(planned_s)),
        "limit_ms": case.limit_ms,
        "changes": changes,
    }
    for key, values in (("first", first), ("again", again)):
        row[f"{key}_p50_ms"] = 1e3 * float(np.median(values))
        row[f"{key}_p99_ms"] = 1e3 * float(np.quantile(values, 0.99))
    return row


def later_decisions(plan: Plan) -> tuple[list[float], int]:
    """Seconds of CPU of the later decisions of a simulation, and how many of them changed the placement."""
    backend = SimulatedBackend(plan)
    controller = Controller(plan, backend, Silent(), Silent())
    decide, states = controller.decider.decide, backend.states
    took, drawn, changes = list[float](), [0.0], [0]  # drawn: seconds of CPU for the load of all devices

    async def drawing(at_s: float) -> list[DeviceState]:
        before_s = time.thread_time()
        try:
            return await states(at_s)
        finally:
            drawn[0] += time.thread_time() - before_s

    async def timed(due: Due, steps: Sequence[Step], current: Placement) -> Decision | None:
        gc.disable()
        before_s, drawn[0] = time.thread_time(), 0.0
        try:
            decision = await decide(due, steps, current)
        finally:
            took.append(time.thread_time() - before_s - drawn[0])
            gc.enable()
        changes[0] += decision is not None and decision.placement is not current
        return decision

    backend.states = drawing  # type: ignore[method-assign]
    controller.decider.decide = timed  # type: ignore[method-assign]
    asyncio.run(controller.run())
    return took, changes[0]


def exact_times(n_devices: int, decisions: int) -> dict[str, float]:
    """Seconds that the exact policy takes for a first placement of one layer of 32 heads."""
    took = []
    for seed in range(decisions):
        view = paper_view(seed, n_devices, paper_shape(), PROMPT_TOKENS + 100)
        before_s = time.perf_counter()
        placement = policy("exact")(view, None)
        took.append(time.perf_counter() - before_s)
        assert view.holds(placement)
        PlacementArrays.of(placement, view.costs.shape)
    return {"devices": n_devices, "median_s": float(np.median(took)), "max_s": max(took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--steps", type=int, default=5, help="decisions of each instance")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--decisions", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    names = (*TIMED, *OTHERS)
    document = {
        "gaps": gaps(names, asked.instances, asked.steps, asked.delay_ms / 1e3),
        "decisions": {
            name: [
                decision_times(name, case, max(3, round(asked.decisions * case.part)))
                for case in DECISIONS
                if name in case.policies
            ]
            for name in TIMED
        },
        "exact": [exact_times(n, 10) for n in (3, 5, 8, 10)],
    }
    late = any(row["again_p99_ms"] > row["limit_ms"] for rows in document["decisions"].values() for row in rows)
    if asked.json:
        print(json.dumps(document, indent=2))
        raise SystemExit(int(late))
    print(
        f"Gap to the exact policy, {asked.instances} instances x {asked.steps} decisions, {asked.delay_ms} ms latency"
    )
    print(f"{'policy':<16}{'mean':>9}{'p50':>9}{'p95':>9}{'max':>9}{'no placement':>14}")
    for name, row in document["gaps"].items():
        cells = "".join(f"{100 * row[key]:8.2f}%" for key in ("mean", "p50", "p95", "max"))
        print(f"{name:<16}{cells}{row['without_placement']:>14}")
    worst = document["gaps"]["lookahead"]["worst_against_best_other"]
    print(f"lookahead, at worst against the best other: {100 * worst:.2f} %")
    print("\nDecision, ms of one core")
    titles = ("plan", "first p50", "p99", "later p50", "p99", "limit")
    columns = "".join(f"{title:>10}" for title in titles)
    print(f"{'policy':<16}{'case':<24}{'devices':>8}{'blocks':>8}{'changes':>9}{columns}")
    for name, rows in document["decisions"].items():
        for row in rows:
            keys = ("plan_ms", "first_p50_ms", "first_p99_ms", "again_p50_ms", "again_p99_ms", "limit_ms")
            times = "".join(f"{row[key]:10.2f}" for key in keys)
            print(f"{name:<16}{row['case']:<24}{row['devices']:>8}{row['blocks']:>8}{row['changes']:>9}{times}")
    print("\nexact, one layer of 32 heads: s")
    for row in document["exact"]:
        print(f"{row['devices']:>3} devices: median {row['median_s']:.3f}, max {row['max_s']:.3f}")
    raise SystemExit(int(late))


if __name__ == "__main__":
    main()
