"""Measures how long later decisions take while one layer on 25 devices, or 80 layers on 1,000, changes in many ways.

    python tools/bench/later_decisions.py [KIND ...] [--setting NAME ...] [--policy NAME] [--seeds N] [--large]

The kinds are the fourteen of `changes.py`, with the device that has most blocks in the place of its laptop and the one
that has second most in that of its nano; then kinds in which eight devices change, one after the other. The clusters
are those of `scenarios/one-layer-25.yaml`, or with `--large` of `scenarios/thousand.yaml`, by seed; each kind is run in
several settings. Times are what `policies.py` measures: of the thread's own CPU clock, one core.

Status 1 if the p99 of the decisions of all seeds of a row is above its limit.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from kinds_of_change import KINDS, TOKENS, Event, Kind, device, link
from measure import SCENARIOS
from policies import EACH_TOKEN, JITTER, MESSAGES, ON_FLASH, later_decisions

from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import load_scenario

MANY = 8  # devices that change, one after the other
EVERY = 16  # tokens


class Size(NamedTuple):
    """Size of clusters, and the limit of the p99 there."""

    file: str
    limit_ms: float
    tokens: int


SMALL = Size("one-layer-25.yaml", 1.0, TOKENS)
LARGE = Size("thousand.yaml", 50.0, 60)

DIVIDED = "sharding.divide=true"
SETTINGS: dict[str, tuple[str, ...]] = {
    "whole": (),
    "divided": (DIVIDED,),
    "on flash": ON_FLASH,
    "divided, on flash": (DIVIDED, *ON_FLASH),
    "messages cost": (MESSAGES, *ON_FLASH),
    "divided, messages cost": (MESSAGES, DIVIDED, *ON_FLASH),
    "jitter": (JITTER, *ON_FLASH),
    "literal": ("cost=literal", *ON_FLASH),
}
LOAD = "devices[0].load={uniform: {low: 0 %, high: 30 %}, every: 20 ms}"


def in_turn(n: int, names: Sequence[str], what: str) -> list[Event]:
    """Events by which devices, or their links to the one with most blocks, change one after the other."""
    found: list[Event] = []
    for at, name in enumerate(names[1 : n + 1]):
        token = 10 + EVERY * at
        if what == "speed":
            found += device(name, {token: 0.3})
        else:
            found += link({token: "20 Mbit/s"}, "bandwidth", (names[0], name))
    return found


MORE = (
    Kind("eight devices slow", [], settings={"in turn": "speed"}),
    Kind("eight links collapse", [], settings={"in turn": "link"}),
    Kind("memory of eight devices shrinks", [], settings={"in turn": "memory"}),
    Kind("heavy load", [], settings={"load": "devices[0].load={uniform: {low: 0 %, high: 90 %}, every: 100 ms}"}),
)


def ranked(plan: Plan) -> list[str]:
    """Names of all devices, those with most blocks first, then the fastest."""
    blocks, devices = Counter(plan.placement.owner.values()), plan.cluster.devices
    order = sorted(range(len(devices)), key=lambda d: (-blocks[d], -plan.computes[d].flops_per_s))
    return [devices[d].name for d in order]


def held_bytes(plan: Plan, name: str) -> int:
    """Bytes that a device holds at its fullest."""
    at = next(d for d, each in enumerate(plan.cluster.devices) if each.name == name)
    return plan.view.held_bytes(plan.placement).get(at, 1 << 30)


def events_of(kind: Kind, plan: Plan, tokens: int) -> list[Event]:
    """A kind's events, for the devices of a cluster."""
    names = ranked(plan)
    if kind.settings.get("in turn") == "memory":
        shrunk = [(10 + EVERY * at, name) for at, name in enumerate(names[1 : MANY + 1])]
        return [
            {"at_token": token, "device": name, "memory": f"{held_bytes(plan, name) * 6 // 10} B"}
            for token, name in shrunk
            if token < tokens
        ]
    if "in turn" in kind.settings:
        events = in_turn(MANY, names, str(kind.settings["in turn"]))
    elif kind.name == "memory shrinks":
        events = [{"at_token": 20, "device": names[0], "memory": f"{held_bytes(plan, names[0]) * 6 // 10} B"}]
    elif kind.name == "an idle device becomes the best":
        idle = names[-1]
        events = [*device(idle, {1: 0.05}), *device(idle, {20: 1.0})]
    else:
        text = json.dumps(kind.events).replace('"laptop"', f'"{names[0]}"').replace('"nano"', f'"{names[1]}"')
        events = json.loads(text)
    return [event for event in events if int(str(event["at_token"])) < tokens]  # others come too late


def plan_of(size: Size, kind: Kind, setting: str, seed: int, name: str) -> Plan:
    settings = [f"seed={seed}", f"workload.max_tokens={size.tokens}", *SETTINGS[setting]]
    settings += [] if size is LARGE else [LOAD]
    settings += [str(kind.settings["load"])] if "load" in kind.settings else []
    if kind.sequences > 1:
        prompts = ", ".join(["{tokens: 44}"] * kind.sequences)
        settings += [f"workload.prompts=[{prompts}]", f"workload.concurrency={kind.sequences}"]
    settings += EACH_TOKEN
    plan = make_plan(load_scenario(SCENARIOS / size.file, settings), name)
    events = json.dumps(events_of(kind, plan, size.tokens))
    return make_plan(load_scenario(SCENARIOS / size.file, [*settings, f"events={events}"]), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="parts of their names (default: all)")
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="one of them (default: all)")
    parser.add_argument("--policy", default="lookahead", help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="clusters of each row (default: %(default)s)")
    parser.add_argument("--large", action="store_true", help="80 layers on 1,000 devices")
    asked = parser.parse_args()
    size, missed = LARGE if asked.large else SMALL, False
    print(f"{'setting':<24}{'kind':<36}{'changes':>8}{'p50, ms':>9}{'p99, ms':>9}{'most':>9}   limit {size.limit_ms:g}")
    for setting in asked.setting or SETTINGS:
        for kind in (*KINDS, *MORE):
            if asked.kinds and not any(part in kind.name for part in asked.kinds):
                continue
            took, changes = list[float](), 0
            for seed in range(7, 7 + asked.seeds):
                again, changed = later_decisions(plan_of(size, kind, setting, seed, asked.policy))
                took += again
                changes += changed
            p99_ms = 1e3 * float(np.quantile(took, 0.99))
            late = p99_ms > size.limit_ms
            missed |= late
            times = f"{1e3 * median(took):>9.2f}{p99_ms:>9.2f}{1e3 * max(took):>9.2f}"
            print(f"{setting:<24}{kind.name:<36}{changes:>8}{times}{'   LATE' if late else ''}", flush=True)
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
