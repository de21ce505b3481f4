"""Stops a device's process for a while at a random moment of a run, and looks at what the run says then.

    python tools/bench/stalls.py [--trials N] [--links stamped hybrid] [--seed N]

A stall of the host must not be charged to the cluster without a word: TPOT stays within 2 % of the undisturbed run, or
the certificate names the stall. On stamped and on hybrid links, with and without migrations, for 0.6 and 1.5 s. Prints
a line for each kind; status 1 if one trial fails. Without root or user namespaces there are no hybrid links.
"""

import argparse
import asyncio
import os
import random
import re
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgeemu.links.netns.capabilities import probe_host
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

WITHIN = 0.02
STALLS_S = (0.6, 1.5)
TOKENS = 100
DEVICES = ("a", "b", "c")
NAMED = re.compile(r"stood still|moving blocks took the host")

SCENARIO = f"""
name: stalls
model:
  shape: {{n_layers: 6, d_model: 256, n_heads: 8, n_kv_heads: 4, head_dim: 32, d_ff: 768,
    vocab_size: 1000, max_context: 256}}
devices:
{chr(10).join(f"  - {{name: {name}, gflops: 4 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}}" for name in DEVICES)}
network: {{default: {{bandwidth: 100 Mbit/s, delay: 500 us}}}}
policy: layers
workload: {{prompts: [{{tokens: 8}}], max_tokens: {TOKENS}}}
time: {{dilation: 4}}
decisions: {{time: 0 s, interval: 4}}
sharding: {{divide: false}}
migration: {{weights_on_flash: true, flash_bandwidth: 1 GB/s}}
"""
MOVING = ("policy=dynamic-layers", "events=[{at_token: 40, device: b, speed: 25 %}]")


class Stall(NamedTuple):
    """A stop of a device's process: after a token, and so much later."""

    device: str
    token: int
    after_s: float
    lasts_s: float


class Stopper(Silent):
    """Observer of a run that stops a device; without a stall it watches only."""

    def __init__(self, stall: Stall | None) -> None:
        self._stall = stall

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, text, latency_s
        if self._stall is not None and step == self._stall.token:
            pid = process_of(self._stall.device)
            loop = asyncio.get_running_loop()
            loop.call_later(self._stall.after_s, os.kill, pid, signal.SIGSTOP)
            loop.call_later(self._stall.after_s + self._stall.lasts_s, os.kill, pid, signal.SIGCONT)


def process_of(device: str) -> int:
    """Return the process of a device of this program's run: a grandchild with the device's name."""
    parents: dict[int, int] = {}
    named = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid, name = int(path.parent.name), stat[stat.index("(") + 1 : stat.rindex(")")]
        parents[pid] = int(stat[stat.rindex(")") + 2 :].split()[1])
        if name == device:
            named.append(pid)
    (found,) = (pid for pid in named if parents.get(parents[pid]) == os.getpid())
    return found


def summary_of(links: str, changes: Sequence[str], stall: Stall | None) -> dict[str, Any]:
    """Run once; return the summary."""
    scenario = parse_scenario(SCENARIO, "stalls", [f"network.backend={links}", *changes])
    with tempfile.TemporaryDirectory() as out:
        result = asyncio.run(run_scenario(scenario, policy=None, out=Path(out), observer=Stopper(stall)))
    return result.summary


def trial_holds(calm: dict[str, Any], stalled: dict[str, Any]) -> tuple[bool, float]:
    """Whether a stalled run is near the calm one or names the stall; and how far it is off."""
    off = stalled["tpot_ms"]["mean"] / calm["tpot_ms"]["mean"] - 1.0
    named = any(NAMED.search(reason) for reason in stalled["certificate"]["reasons"])
    return abs(off) <= WITHIN or (named and stalled["certificate"]["verdict"] != "PASS"), off


def main() -> None:
    parser = argparse.ArgumentParser(description="Stops devices during runs, and judges what the runs say.")
    parser.add_argument("--trials", type=int, default=10, help="of each kind")
    parser.add_argument("--links", nargs="*", default=["stamped", "hybrid"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    failed = 0
    for links in options.links:
        if links != "stamped" and (why := probe_host().why_not(links)):
            print(f"no {links} links here: {why}")
            continue
        for changes in ((), MOVING):
            calm = summary_of(links, changes, None)
            moved = f"{calm['migrations']['count']} blocks moved" if changes else "no moves"
            for lasts_s in STALLS_S:
                offs, bad, named = [], 0, 0
                for _ in range(options.trials):
                    stall = Stall(draw.choice(DEVICES), draw.randrange(1, TOKENS - 10), 0.03 * draw.random(), lasts_s)
                    summary = summary_of(links, changes, stall)
                    holds, off = trial_holds(calm, summary)
                    offs.append(off)
                    bad += not holds
                    named += any(NAMED.search(reason) for reason in summary["certificate"]["reasons"])
                    if not holds:
                        print(f"  {stall}: {off:+.1%}, {summary['certificate']['reasons']}")
                worst = max(offs, key=abs)
                mark = "MISS" if bad else "ok  "
                print(
                    f"{mark}  {links:8} {moved:16} stall {lasts_s:.1f} s: TPOT at most {worst:+.2%} off, "
                    f"named in {named} of {options.trials}, {bad} silent and off",
                    flush=True,
                )
                failed += bad
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
