"""Shares move although there is no room for what would be best."""

from collections.abc import Sequence

import pytest
from support.several import simulated

from edgeemu.placement.placement import Placement
from edgeemu.policies import lookahead
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario

CHANGED = 35
TIGHT = f"""
model:
  shape:
    {{n_layers: 2, d_model: 512, n_heads: 8, n_kv_heads: 4, head_dim: 64, d_ff: 1536, vocab_size: 4000,
     max_context: 512, tied_embeddings: true}}
devices:
  - {{name: a, gflops: 31.37 GFLOPS, mem_bandwidth: 6.36 GB/s, memory: 7075 kB, power: {{idle: 1.5 W, busy: 6.7 W}}}}
  - {{name: b, gflops: 15.76 GFLOPS, mem_bandwidth: 7.23 GB/s, memory: 10804 kB, power: {{idle: 3.2 W, busy: 5.8 W}}}}
  - {{name: c, gflops: 30.16 GFLOPS, mem_bandwidth: 7.99 GB/s, memory: 5677 kB, power: {{idle: 3 W, busy: 8.4 W}}}}
  - {{name: d, gflops: 12.61 GFLOPS, mem_bandwidth: 3.52 GB/s, memory: 12459 kB, power: {{idle: 2.4 W, busy: 8.1 W}}}}
  - {{name: e, gflops: 20.44 GFLOPS, mem_bandwidth: 3.71 GB/s, memory: 12347 kB, power: {{idle: 2.8 W, busy: 5.1 W}}}}
network:
  default: {{bandwidth: 500 Mbit/s, delay: 300 us, energy: {{send: 10 nJ/bit, receive: 5 nJ/bit}}}}
objective: energy
decisions: {{interval: 2}}
events:
  - {{at_token: {CHANGED}, link: [a, e], bandwidth: 1 Mbit/s}}
  - {{at_token: 6, device: d, memory: 8.72 MB}}
  - {{at_token: 23, device: d, speed: 50 %}}
workload: {{prompts: [{{tokens: 10}}], max_tokens: 80}}
"""


def test_where_devices_would_refuse_the_best_a_small_change_that_they_accept_is_made() -> None:
    run = simulated(make_plan(parse_scenario(TIGHT, "tight", ())))
    assert run.problems == []
    latencies_s = [row.latency_s for row in run.tokens if row.latency_s is not None]
    before, after = latencies_s[CHANGED - 10 : CHANGED - 1], latencies_s[CHANGED + 6 :]
    assert max(latencies_s[CHANGED : CHANGED + 3]) > 5 * max(before), "the link was in use"
    assert max(after) < 2 * max(before)


def one_layer(devices: Sequence[tuple[float, float, int, float, float]], *, tied: bool, **others: str) -> Plan:
    """Plan of a layer on a to d: GFLOPS, GB/s, bytes of memory, watts when idle and when busy. `others`: more keys."""
    listed = "".join(
        f"  - {{name: {name}, gflops: {gflops} GFLOPS, mem_bandwidth: {read} GB/s, memory: {size} B, "
        f"power: {{idle: {idle} W, busy: {busy} W}}}}\n"
        for name, (gflops, read, size, idle, busy) in zip("abcd", devices, strict=True)
    )
    text = (
        "model:\n  weights_seed: 1\n  shape: {n_layers: 1, d_model: 512, n_heads: 8, n_kv_heads: 4, head_dim: 64, "
        f"d_ff: 1536, vocab_size: 4000, max_context: 512, tied_embeddings: {str(tied).lower()}}}\ndevices:\n{listed}"
    )
    return make_plan(parse_scenario(text + "".join(f"{key}: {value}\n" for key, value in others.items()), "one-layer"))


ENERGY = "energy: {send: 10 nJ/bit, receive: 5 nJ/bit}"


def test_what_devices_have_refused_is_not_searched_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, place = [], lookahead._first

    def counted(view: ClusterView) -> Placement:
        asked.append(view.past)
        return place(view)

    monkeypatch.setattr(lookahead, "_first", counted)
    plan = one_layer(
        [
            (22.5, 5.49, 9436447, 1.1, 6.7),
            (19.92, 7.97, 5447274, 2.6, 8.0),
            (21.89, 3.23, 7748500, 3.6, 8.3),
            (20.03, 2.67, 9258925, 2.5, 7.0),
        ],
        tied=True,
        network=f"{{default: {{bandwidth: 20 Mbit/s, delay: 100 us, {ENERGY}}}}}",
        decisions="{interval: 2}",
        events="[{at_token: 14, device: c, speed: 20 %}, {at_token: 29, device: c, speed: 100 %}, "
        "{at_token: 40, device: a, memory: 4718223 B}]",
        workload="{prompts: [{tokens: 7}], max_tokens: 80}",
    )
    run = simulated(plan)
    assert [problem for problem in run.problems if "out of memory" in problem]
    assert len(asked) == 2, "before the run, and when the device had lost memory"


def test_a_device_that_lost_memory_is_relieved_step_by_step_where_no_single_step_does() -> None:
    plan = one_layer(
        [
            (18.22, 2.15, 14713128, 2.5, 5.8),
            (35.92, 8.37, 6295414, 2.6, 5.4),
            (26.03, 6.9, 7557446, 3.2, 7.7),
            (27.52, 2.62, 12673870, 2.3, 9.0),
        ],
        tied=False,
        network=f"{{default: {{bandwidth: 100 Mbit/s, delay: 300 us, {ENERGY}}}}}",
        objective="energy",
        events="[{at_token: 9, device: c, memory: 3778723 B}]",
        workload="{prompts: [{tokens: 27}], max_tokens: 80}",
    )
    run = simulated(plan)
    assert run.problems == []
    assert len({move.step for move in run.migrations}) > 1
    assert plan.view.devices[2].name == "c"
    assert plan.view.held_bytes(plan.placement)[2] > 3778723
    assert plan.view.held_bytes(run.migrator.placement).get(2, 0) <= 3778723
