"""Memory that systems keep, in plans and in the errors of what does not fit."""

import json
from contextlib import closing

import pytest

from edgeemu.errors import InfeasibleError
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan_tables import plan_document, plan_lines, plan_tables
from edgeemu.run.reserved_memory import kept_by_systems
from edgeemu.scenario.load import parse_scenario

# Weights of 7.5 GiB or so: more than the system of a Raspberry Pi 5 leaves of its 8 GiB, and less than those.
TEXT = """
model:
  shape: {n_layers: 35, d_model: 4096, n_heads: 32, n_kv_heads: 8, head_dim: 128, d_ff: 14336, vocab_size: 512,
    max_context: 64}
precision: {weights: q8_0}
devices: [{name: pi, profile: raspberry-pi-5MEMORY}]
policy: single
workload: {prompts: [{tokens: 2}], max_tokens: 2}
"""
KEPT = "their systems keep 812 MiB on pi (memory_reserved)"


def text(memory: str = "", layers: int = 35) -> str:
    return TEXT.replace("MEMORY", memory).replace("n_layers: 35", f"n_layers: {layers}")


def test_systems_that_keep_the_same_are_told_together():
    assert kept_by_systems([("a", 0), ("b", 0)]) == ""
    kept = kept_by_systems([("a", 2**20), ("b", 0), ("c", 2**30), *((f"d{n}", 2**20) for n in range(4))])
    assert kept == "their systems keep 1 MiB on a, d0, d1 and 2 more, 1 GiB on c (memory_reserved)"


def test_what_fits_only_without_a_system_does_not_fit():
    with closing(make_plan(parse_scenario(text(", memory: 8 GiB")))) as alone:
        assert 8 * 2**30 > alone.pages[0].total_bytes > 8 * 2**30 - 812 * 2**20
        assert plan_document(alone, None)["placement"][0]["memory"]["reserved_bytes"] == 0
    with pytest.raises(InfeasibleError, match="single") as refused:
        make_plan(parse_scenario(text()))
    assert str(refused.value).endswith(f"Of the memory of these devices, {KEPT}.")


def test_a_plan_says_what_systems_keep():
    made = make_plan(parse_scenario(text(layers=20)))
    assert plan_tables(made, None)[0].rows[0][-1] == "7.21 GiB"
    assert f"memory: of the devices' own, {KEPT}" in list(plan_lines(made, None))
    memory = json.loads(json.dumps(plan_document(made, None)))["placement"][0]["memory"]
    assert (memory["cap_bytes"], memory["reserved_bytes"]) == ((8192 - 812) * 2**20, 812 * 2**20)
    made.close()


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("{name: pi, profile: raspberry-pi-5}", ""),
        ("{name: nano, profile: jetson-nano, count: 2}", "nano-1, nano-2"),
        ("{name: nano, profile: jetson-nano, memory: 3 GiB}", ""),
        ("{name: nano, profile: jetson-nano, memory_reserved: 1 GiB}", ""),
    ],
)
def test_a_plan_says_of_whose_system_nothing_is_known(device: str, told: str) -> None:
    one = text(layers=2) + "network: {default: ethernet-1g}\n"
    scenario = one.replace("{name: pi, profile: raspberry-pi-5}", device)
    with closing(make_plan(parse_scenario(scenario))) as made:
        lines = [line for line in plan_lines(made, None) if "counts as free" in line]
    assert lines == (
        [f"memory: what their systems keep is not known of {told}: all of it counts as free"] if told else []
    )
