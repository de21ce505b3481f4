"""A model that is too large for this host is refused before it is loaded, with the numbers; a simulation is not."""

from pathlib import Path

import pytest

from edgeemu.host.available_memory import HostMemory, available_memory, group_room_bytes, meminfo_bytes
from edgeemu.host.cgroup_mounts import Version
from edgeemu.run.host_memory import ADDRESS_BYTES, PROCESS_BYTES, RUN_BYTES, why_not_here
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: 4, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 9000, vocab_size: 99, max_context: 64}
devices: [{name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}]
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
workload: {prompts: [{tokens: 8}], max_tokens: 3}
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(parse_scenario(SCENARIO, "s"), "layers")


def test_the_memory_of_all_devices_together_counts(plan: Plan) -> None:
    needed_bytes = sum(page.total_bytes for page in plan.pages) + 2 * PROCESS_BYTES + RUN_BYTES
    assert why_not_here(plan, HostMemory(needed_bytes, "available on this host")) == ""
    why = why_not_here(plan, HostMemory(needed_bytes - 1, "left in the control group /a"))
    assert why.startswith("too large for this host: a run needs 135 MiB of memory (13.3 MiB of weights, 5.50")
    assert "K/V caches, the rest for activations, messages and 2 processes), and 135 MiB are left in the control" in why
    assert "edgeemu simulate needs none" in why


def test_the_address_space_of_each_device_counts(plan: Plan) -> None:
    largest_bytes = max(page.total_bytes for page in plan.pages) + ADDRESS_BYTES
    assert why_not_here(plan, HostMemory(2**40, "", largest_bytes)) == ""
    why = why_not_here(plan, HostMemory(2**40, "", largest_bytes - 1))
    assert why.startswith("too large for this host: the largest device needs 287 MiB of address space, and a process")


def test_literal_costs_are_for_the_simulator() -> None:
    literal = make_plan(parse_scenario(SCENARIO + "cost: literal\n", "s"), "layers")
    assert why_not_here(literal, HostMemory(0, "")) == ""


def test_available_memory_is_that_of_the_host_or_of_a_group(tmp_path: Path) -> None:
    found = available_memory()
    assert 0 < found.available_bytes < 2**50
    assert found.limited_by
    assert meminfo_bytes("MemTotal: 9 kB\nMemFree: 3 kB\nMemAvailable: 5 kB\n") == 5 * 1024
    assert meminfo_bytes("MemTotal: 9 kB\nMemFree: 3 kB\n") == 3 * 1024
    assert group_room_bytes(2, tmp_path) is None


@pytest.mark.parametrize(
    ("version", "limit", "usage", "cached"),
    [
        (2, "memory.max", "memory.current", "inactive_file"),
        (1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_a_group_has_left_what_is_not_used_but_for_cached_files(
    tmp_path: Path, version: Version, limit: str, usage: str, cached: str
) -> None:
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / usage).write_text("700\n")
    (tmp_path / "memory.stat").write_text(f"anon 500\n{cached} 200\n")
    assert group_room_bytes(version, tmp_path) == 500
    (tmp_path / limit).write_text({1: f"{2**63 - 4096}\n", 2: "max\n"}[version])
    assert group_room_bytes(version, tmp_path) is None
