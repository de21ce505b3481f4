"""Measures runs that change as they go: adapting, migrating, predicting, simulating. Prints tables; status 1 on a miss.

    python tools/bench/dynamics.py [adapt] [precopy] [predict] [simulate]

Everything goes through the command line. `adapt` paces real devices, so run it on a quiet machine.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import SCENARIOS, Run

SLOW_FROM, SETTLED_FROM = 20, 26  # in slowdown.yaml a device slows at token 20; five tokens later all has settled

SMALL = """
model:
  shape:
    {n_layers: 3, d_model: 128, n_heads: 8, n_kv_heads: 4, head_dim: 16, d_ff: 256, vocab_size: 500, max_context: 128}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.2 GB/s, memory: 16 MiB}
  - {name: b, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 16 MiB}
network:
  default: {bandwidth: 50 Mbit/s, delay: 2 ms}
knowledge: oracle
decisions: {time: 0 ms, interval: 2}
workload:
  prompts: [{tokens: 12}]
  max_tokens: 16
"""
FLASH = ("migration.weights_on_flash=true", "migration.flash_bandwidth=100 MB/s")
SLOWER = "events=[{at_token: 5, device: a, speed: 25 %}]"
KINDS: dict[str, tuple[str, ...]] = {
    "single": ("policy=single",),
    "layers": ("policy=layers",),
    "round-robin": ("policy=round-robin",),
    "greedy, little memory": ("policy=greedy", "devices[0].memory=500 kB"),
    "lookahead": ("policy=lookahead",),
    "resource-aware": ("policy=resource-aware",),
    "dynamic-layers": ("policy=dynamic-layers",),
    "static": ("policy=static",),
    "exact": ("policy=exact",),
    "line": ("policy=round-robin", "network.topology=line"),
    "shared air": ("policy=round-robin", "network.topology=star"),
    "slow interface": ("policy=round-robin", "devices[0].nic=5 Mbit/s"),
    "slow link": ("policy=round-robin", "network.default.bandwidth=2 Mbit/s"),
    "far away": ("policy=layers", "network.default.delay=20 ms"),
    "constant load": ("policy=layers", "devices[1].load=40 %"),
    "changing load": ("policy=layers", "devices[1].load={uniform: {low: 0 %, high: 60 %}, every: 30 ms}"),
    "slowdown, resource-aware": ("policy=resource-aware", SLOWER, *FLASH),
    "slowdown, lookahead": ("policy=lookahead", SLOWER, *FLASH),
    "slowdown, weights sent": ("policy=lookahead", SLOWER, "workload.max_tokens=40"),
    "slowdown, precopy": ("policy=lookahead", SLOWER, "migration.mode=precopy", "workload.max_tokens=40"),
}


def adapt() -> bool:
    """How much of what an oracle's placement gains each policy gains, from five tokens after a device has slowed."""
    scenario = SCENARIOS / "slowdown.yaml"
    static = Run("run", scenario, policy="static")
    oracle = Run("run", scenario, "knowledge=oracle", policy="lookahead")
    lost_ms, gain_ms = static.mean_ms(SETTLED_FROM), static.mean_ms(SETTLED_FROM) - oracle.mean_ms(SETTLED_FROM)
    print("slowdown.yaml, emulated, ms per token     before    after  settled  recovered")
    reached = True
    for name, run in [
        ("static", static),
        ("resource-aware", Run("run", scenario, policy="resource-aware")),
        ("lookahead", Run("run", scenario, policy="lookahead")),
        ("lookahead that is told (the oracle)", oracle),
    ]:
        share = (lost_ms - run.mean_ms(SETTLED_FROM)) / gain_ms
        before_ms, after_ms = run.mean_ms(1, SLOW_FROM), run.mean_ms(SLOW_FROM, SETTLED_FROM)
        print(f"{name:<38} {before_ms:9.1f} {after_ms:8.1f} {run.mean_ms(SETTLED_FROM):8.1f} {share:10.0%}")
        reached &= share >= 0.8 if name in ("resource-aware", "lookahead") else True
    return reached


def precopy() -> bool:
    """How much of a pause that is waited for is hidden by copying in the background."""
    scenario = SCENARIOS / "precopy.yaml"
    paused, hidden = (
        Run("run", scenario, "time.mode=virtual", f"migration.mode={mode}") for mode in ("pause", "precopy")
    )
    pauses_ms = [run.summary["migrations"]["ms"] for run in (paused, hidden)]
    share = 1 - pauses_ms[1] / pauses_ms[0]
    print(f"precopy.yaml: tokens wait {pauses_ms[0]:.0f} ms with pause, {pauses_ms[1]:.0f} ms with precopy")
    print(f"hidden by precopy: {share:.1%} (at least 80%)")
    return share >= 0.8


def predict() -> bool:
    """TPOT of `simulate` against that of paced devices, and whether the same blocks move at the same tokens."""
    reached = True
    print("kind                          simulated      run     off  moves, same")
    with tempfile.TemporaryDirectory() as directory:
        scenario = Path(directory) / "small.yaml"
        scenario.write_text(SMALL, encoding="utf-8")
        for kind, settings in KINDS.items():
            simulated, run = Run("simulate", scenario, *settings), Run("run", scenario, *settings)
            off = simulated.tpot_ms / run.tpot_ms - 1
            ways = [[(row["block"], row["target"]) for row in r.migrations] for r in (simulated, run)]
            same = ways[0] == ways[1]
            print(f"{kind:<28} {simulated.tpot_ms:10.2f} {run.tpot_ms:8.2f} {off:7.2%} {len(ways[1]):6} {same}")
            reached &= abs(off) <= 0.02 and same
    return reached


def simulate() -> bool:
    """How long whole simulations take, with a decision at every token."""
    reached = True
    for name, limit_s in (("one-layer-25.yaml", 5.0), ("thousand.yaml", 60.0)):
        for policy in ("resource-aware", "lookahead"):
            run = Run("simulate", SCENARIOS / name, policy=policy)
            print(
                f"{name}, {policy}: {run.took_s:.1f} s (at most {limit_s:g}), a decision {run.summary['controller_ms']}"
            )
            reached &= run.took_s <= limit_s
    return reached


PARTS: dict[str, Callable[[], bool]] = {"adapt": adapt, "precopy": precopy, "predict": predict, "simulate": simulate}


def main() -> None:
    reached = True
    for name in sys.argv[1:] or PARTS:
        reached &= PARTS[name]()
        print()
    sys.exit(not reached)


if __name__ == "__main__":
    main()
