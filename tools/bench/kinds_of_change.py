"""Kinds of change for `changes.py`: what happens to five devices while a text is generated, as scenarios."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeemu.cluster.keyed_random import uniform

TOKENS = 160
Event = dict[str, object]

SCENARIO: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "devices": [
        {"name": "laptop", "gflops": "50 GFLOPS", "mem_bandwidth": "10 GB/s", "memory": "300 MiB"},
        {"name": "pi", "count": 2, "gflops": "24 GFLOPS", "mem_bandwidth": "5.5 GB/s", "memory": "400 MiB"},
        {"name": "nano", "gflops": "100 GFLOPS", "mem_bandwidth": "8 GB/s", "memory": "460 MiB"},
        {"name": "phone", "gflops": "20 GFLOPS", "mem_bandwidth": "6 GB/s", "memory": "300 MiB"},
    ],
    "network": {"default": {"bandwidth": "1 Gbit/s", "delay": "100 us"}},
    "sharding": {"divide": False},
    "decisions": {"time": "0 s"},
}
MOVES: dict[str, dict[str, object]] = {
    "cheap": {"weights_on_flash": True, "flash_bandwidth": "3 GB/s"},  # 5 ms a layer
    "dear": {"weights_on_flash": True, "flash_bandwidth": "200 MB/s"},  # 70 ms a layer
}
LINK = ("laptop", "nano")


def device(name: str, speeds: dict[int, float]) -> list[Event]:
    """A device's share of its speed from some tokens on."""
    return [{"at_token": t, "device": name, "speed": f"{100 * speed:.3f} %"} for t, speed in speeds.items()]


def link(values: dict[int, str], what: str, ends: Sequence[str] = LINK) -> list[Event]:
    return [{"at_token": t, "link": list(ends), what: value} for t, value in values.items()]


def wave(tokens: int) -> list[Event]:
    """A square wave of the laptop's speed."""
    return device("laptop", {t: (0.33, 1.0)[(t // tokens - 20 // tokens) % 2] for t in range(20, TOKENS, tokens)})


def bandwidth_trace() -> list[Event]:
    """A rate for every third token, as on a mobile link: a slow random walk of factors between 1 and 1,000 Mbit/s."""
    found, log_rate = {}, 3.0
    for t in range(20, TOKENS, 3):
        log_rate = min(3.0, max(0.0, log_rate + 1.6 * (uniform(7, "trace", str(t)) - 0.5)))
        found[t] = f"{10**log_rate:.3f} Mbit/s"
    return link(found, "bandwidth")


@dataclass(frozen=True)
class Kind:
    """A kind of change: its events, the token of the first, and what else the scenario has."""

    name: str
    events: list[Event]
    first: int = 20
    settings: dict[str, Any] = field(default_factory=dict)
    sequences: int = 1


def random_load() -> list[Event]:
    return device("laptop", {t: 1.0 - 0.5 * uniform(3, "load", str(t)) for t in range(20, TOKENS)})


def busy_nano() -> list[dict[str, object]]:
    """The devices, of which nano is busy with other work at first: for about 20 tokens."""
    return [
        d | ({"load": {"trace": [["0 s", "95 %"], ["2 s", "0 %"]]}} if d["name"] == "nano" else {})
        for d in SCENARIO["devices"]
    ]


KINDS = (
    Kind("a device slows to a third", device("laptop", {20: 0.33})),
    Kind("a device slows and recovers", device("laptop", {20: 0.33, 70: 1.0})),
    Kind("a device is almost lost", device("laptop", {20: 0.05})),
    Kind("a link's rate collapses, recovers", link({20: "2 Mbit/s", 70: "1 Gbit/s"}, "bandwidth")),
    Kind("a link's delay collapses, recovers", link({20: "20 ms", 70: "100 us"}, "delay")),
    Kind("memory shrinks", [{"at_token": 20, "device": "laptop", "memory": "200 MiB"}]),
    Kind("an idle device becomes the best", [], settings={"devices": busy_nano()}),
    Kind("three sequences, a device slows", device("laptop", {20: 0.33}), sequences=3),
    Kind("square wave of 2 tokens", wave(2)),
    Kind("square wave of 5 tokens", wave(5)),
    Kind("square wave of 20 tokens", wave(20)),
    Kind("random load at each token", random_load()),
    Kind("throttling", device("laptop", {t: 1.0 - 0.75 * min(1.0, (t - 20) / 50) for t in range(20, 75, 2)})),
    Kind("a bandwidth trace", bandwidth_trace()),
)

DIVIDED = tuple(
    replace(kind, settings={"sharding": {"divide": True}})
    for kind in KINDS
    if kind.name
    in (
        "a device slows and recovers",
        "a device is almost lost",
        "a link's rate collapses, recovers",
        "a link's delay collapses, recovers",
        "square wave of 20 tokens",
    )
)
REAL = (
    "a device slows and recovers",
    "a link's delay collapses, recovers",
    "memory shrinks",
    "three sequences, a device slows",
    "square wave of 20 tokens",
)


def document(kind: Kind, moves: str, knowledge: str, **more: object) -> str:
    workload = {
        "prompts": [{"tokens": 44}] * kind.sequences,
        "max_tokens": TOKENS,
        "concurrency": kind.sequences,
    }
    return json.dumps(
        SCENARIO
        | {"knowledge": knowledge, "migration": MOVES[moves], "events": kind.events, "workload": workload}
        | kind.settings
        | more
    )
