"""The order of moves does not keep a block from where it belongs: ends get memory before layers fill it."""

import json
from dataclasses import replace

from edgeemu.placement.blocks import LM_HEAD
from edgeemu.placement.placement import Placement
from edgeemu.policies.lookahead import place
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.oracle import slowed
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

LAPTOP, NANO = 0, 3
SCENARIO = {
    "model": "smollm2-135m-instruct",
    "devices": [
        {"name": "laptop", "gflops": "50 GFLOPS", "mem_bandwidth": "10 GB/s", "memory": "300 MiB"},
        {"name": "pi", "count": 2, "gflops": "24 GFLOPS", "mem_bandwidth": "5.5 GB/s", "memory": "400 MiB"},
        {"name": "nano", "gflops": "100 GFLOPS", "mem_bandwidth": "8 GB/s", "memory": "460 MiB"},
        {"name": "phone", "gflops": "20 GFLOPS", "mem_bandwidth": "6 GB/s", "memory": "300 MiB"},
    ],
    "network": {"default": {"bandwidth": "1 Gbit/s", "delay": "100 us"}},
    "sharding": {"divide": False},
    "migration": {"weights_on_flash": True, "flash_bandwidth": "3 GB/s"},
    "workload": {"prompts": [{"tokens": 44}], "max_tokens": 160},
}


def decided(view: ClusterView, current: Placement, *slowdowns: float) -> Placement:
    """The placement after decisions, each with the laptop so many times as slow as nominally."""
    for slowdown in slowdowns:
        laptop = replace(view.devices[LAPTOP], compute=slowed(view.devices[LAPTOP].compute, slowdown))
        devices = tuple(laptop if i == LAPTOP else device for i, device in enumerate(view.devices))
        current = place(replace(view, devices=devices), current)
    return current


def test_the_output_matrix_goes_where_layers_would_fill_the_memory() -> None:
    plan = make_plan(parse_scenario(json.dumps(SCENARIO)), "lookahead")
    assert plan.placement.owner[LM_HEAD] == LAPTOP
    assert decided(plan.view, plan.placement, 2.0, 2.5).owner[LM_HEAD] == NANO
    assert decided(plan.view, plan.placement, 1.37, 1.4).owner[LM_HEAD] == NANO, "layers alone gain more at first"
