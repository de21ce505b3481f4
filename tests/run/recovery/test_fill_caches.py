"""Steps that fill caches have every row once, in order, in as few steps as may be."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgeemu.run.make_plan import make_plan
from edgeemu.run.recovery.fill_caches import filling_of, filling_steps, most_rows
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 99, max_context: 99}
devices: [{name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}]
workload: {prompts: [{tokens: 1}], max_tokens: 80}
"""


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 64))
def test_every_row_is_computed_once(first: int, more: int, most: int) -> None:
    steps = list(filling_steps(7, first, first + more, most))
    assert [row for step in steps for row in range(step.past, step.past + step.rows)] == list(
        range(first, first + more)
    )
    assert all(0 < step.rows <= most for step in steps)
    assert len(steps) == -(-more // most)
    assert [step.step for step in steps] == list(range(-len(steps), 0))
    assert all(one.past + one.rows == following.past for one, following in pairwise(steps))


def test_sequences_without_lost_rows_have_none() -> None:
    found = filling_of({0: (0, 5), 1: (3, 3), 2: (2, 4)}, 3)
    assert {sequence: [step[2:] for step in steps] for sequence, steps in found.items()} == {
        0: [(3, 0), (2, 3)],
        2: [(2, 2)],
    }


def test_as_many_rows_at_once_as_devices_have_memory_for() -> None:
    plan = make_plan(parse_scenario(SCENARIO, "filling"))
    view, needed = plan.view, plan.usages(plan.placement)[0].page().total_bytes
    assert most_rows(view, plan.placement, 60) == 60

    def within(memory_bytes: int) -> int:
        device = replace(view.devices[0], memory_bytes=memory_bytes)
        return most_rows(replace(view, devices=(device,)), plan.placement, 60)

    found = [within(needed + more) for more in (0, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 18)]
    assert found == sorted(found)
    assert set(found) <= {1, 2, 4, 8, 15, 30, 60}
    assert found[0] < 8
    assert found[-1] == 60
