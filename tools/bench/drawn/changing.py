"""A random cluster that changes while a text is generated, by its number, and the simulated run of a policy on it.

3-5 devices, 4-12 layers of 8 KV groups, width 512-1,024, links of 0.1-5 ms and 50-1,000 Mbit/s, 64 tokens. All devices
together have 1.2-3 times the memory that the model needs. Other work takes 0-20 % of each device, drawn anew all the
time. At the eighth token the fastest device loses half to nine tenths of its speed; in every third instance it has it
back at the fortieth, and in every third the link from it to the second fastest gets slower instead.
"""

import asyncio
import json
import random
from functools import partial
from typing import Any

from drawn.instance import drawn_links, log_uniform
from edgeemu.errors import InfeasibleError
from edgeemu.run.compare import bounds
from edgeemu.run.controller import Controller
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

TOKENS, CHANGE, BACK = 64, 8, 40
GROUPS, HEAD_DIM = 8, 64


class Latencies(Silent):
    """Adds up the latencies of all tokens, what they waited for moves included."""

    def __init__(self) -> None:
        self.total_s, self.tokens = 0.0, 0

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, step, text
        self.total_s += latency_s
        self.tokens += 1


def changing(number: int) -> Scenario:
    """Draw the instance with this number."""
    return _scenario(number, _document(number))


def _scenario(number: int, document: dict[str, Any]) -> Scenario:
    return parse_scenario(json.dumps(document), f"changing-{number}")


def token_s(scenario: Scenario, policy: str) -> float | None:
    """Mean time of a token under a policy, the first included; None: it finds no placement."""
    watched = Latencies()
    try:
        plan = make_plan(scenario, policy)
    except InfeasibleError:
        return None
    try:
        asyncio.run(Controller(plan, SimulatedBackend(plan), watched, watched).run())
    finally:
        plan.close()
    return watched.total_s / watched.tokens


def possible_s(number: int) -> float:
    """Mean time of a token that no placement can beat: proven for the cluster before and after the change, unloaded."""
    document = _document(number)
    events = document.pop("events")
    usual = bounds(_scenario(number, document))
    changed = bounds(_scenario(number, _changed(document, events[0])))
    assert usual is not None, "all devices together have room"
    assert changed is not None
    slow = (events[1]["at_token"] if len(events) > 1 else TOKENS) - CHANGE
    return (usual.ttft_s + (TOKENS - slow - 1) * usual.tpot_s + slow * changed.tpot_s) / TOKENS


def _changed(document: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """The scenario as it is from an event on."""
    if "link" in event:
        links = [
            link | {"delay": event["delay"]} if set(link["between"]) == set(event["link"]) else link
            for link in document["network"]["links"]
        ]
        return document | {"network": document["network"] | {"links": links}}
    share = float(event["speed"].split()[0]) / 100

    def slowed(device: dict[str, Any]) -> dict[str, Any]:
        if device["name"] != event["device"]:
            return device
        values = {key: device[key].split() for key in ("gflops", "mem_bandwidth", "overhead")}
        values["overhead"][0] = float(values["overhead"][0]) / share**2
        return device | {key: f"{share * float(value):.6f} {unit}" for key, (value, unit) in values.items()}

    return document | {"devices": [slowed(device) for device in document["devices"]]}


def _document(number: int) -> dict[str, Any]:
    """The scenario of an instance as plain data. The order of the draws is part of it."""
    chance = random.Random(f"changing clusters {number}")

    between = partial(log_uniform, chance)
    n_devices, n_layers = chance.choice((3, 4, 5)), chance.choice((4, 6, 8, 12))
    d_model, vocab_size = GROUPS * HEAD_DIM * chance.choice((1, 2)), round(between(1_000, 8_000))
    d_ff = 4 * d_model
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": d_model // HEAD_DIM, "n_kv_heads": GROUPS}
    shape |= {"head_dim": HEAD_DIM, "d_ff": d_ff, "vocab_size": vocab_size, "max_context": 256}
    speeds = [between(0.2, 1.0) for _ in range(n_devices)]
    shares = [chance.uniform(0.3, 1.0) for _ in range(n_devices)]
    needs_bytes = 4 * (n_layers * (4 * d_model**2 + 3 * d_model * d_ff) + 2 * vocab_size * d_model)
    memory_bytes = needs_bytes * chance.uniform(1.2, 3.0)
    devices = [
        {
            "name": f"d{index}",
            "gflops": f"{50 * speed:.3f} GFLOPS",
            "mem_bandwidth": f"{12 * speed:.3f} GB/s",
            "overhead": "20 us",
            "memory": f"{memory_bytes * share / sum(shares) / 1e6:.3f} MB",
            "load": {"uniform": {"low": "0 %", "high": "20 %"}, "every": "20 ms"},
        }
        for index, (speed, share) in enumerate(zip(speeds, shares, strict=True))
    ]
    links = drawn_links(chance, n_devices, (50, 1_000), (0.1, 5))
    second, fastest = sorted(range(n_devices), key=lambda index: speeds[index])[-2:]
    left = f"{100 * chance.uniform(0.1, 0.5):.1f} %"
    events: list[dict[str, Any]] = [{"at_token": CHANGE, "device": f"d{fastest}", "speed": left}]
    if number % 3 == 1:
        events.append({"at_token": BACK, "device": f"d{fastest}", "speed": "100 %"})
    if number % 3 == 2:
        events = [{"at_token": CHANGE, "link": [f"d{fastest}", f"d{second}"], "delay": "20 ms"}]
    return {
        "model": {"shape": shape},
        "devices": devices,
        "network": {"default": "ethernet-1g", "links": links},
        "migration": {"weights_on_flash": True, "flash_bandwidth": "500 MB/s"},
        "events": events,
        "decisions": {"interval": 4},
        "workload": {"prompts": [{"tokens": 32}], "max_tokens": TOKENS},
    }
