"""Shares move although there is no room for what would be best."""

import pytest
from support.several import simulated

from edgeemu.placement.placement import Placement
from edgeemu.policies import lookahead
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.make_plan import make_plan
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


TIGHTER = """
model:
  shape:
    {n_layers: 1, d_model: 512, n_heads: 8, n_kv_heads: 4, head_dim: 64, d_ff: 1536, vocab_size: 4000, max_context: 512,
     tied_embeddings: true}
  weights_seed: 1
devices:
  - {name: a, gflops: 22.5 GFLOPS, mem_bandwidth: 5.49 GB/s, memory: 9436447 B, power: {idle: 1.1 W, busy: 6.7 W}}
  - {name: b, gflops: 19.92 GFLOPS, mem_bandwidth: 7.97 GB/s, memory: 5447274 B, power: {idle: 2.6 W, busy: 8 W}}
  - {name: c, gflops: 21.89 GFLOPS, mem_bandwidth: 3.23 GB/s, memory: 7748500 B, power: {idle: 3.6 W, busy: 8.3 W}}
  - {name: d, gflops: 20.03 GFLOPS, mem_bandwidth: 2.67 GB/s, memory: 9258925 B, power: {idle: 2.5 W, busy: 7 W}}
network:
  default: {bandwidth: 20 Mbit/s, delay: 100 us, energy: {send: 10 nJ/bit, receive: 5 nJ/bit}}
decisions: {interval: 2}
events:
  - {at_token: 14, device: c, speed: 20 %}
  - {at_token: 29, device: c, speed: 100 %}
  - {at_token: 40, device: a, memory: 4718223 B}
workload: {prompts: [{tokens: 7}], max_tokens: 80}
"""


def test_what_devices_have_refused_is_not_searched_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, place = [], lookahead._first

    def counted(view: ClusterView) -> Placement:
        asked.append(view.past)
        return place(view)

    monkeypatch.setattr(lookahead, "_first", counted)
    run = simulated(make_plan(parse_scenario(TIGHTER, "tighter", ())))
    assert [problem for problem in run.problems if "out of memory" in problem]
    assert len(asked) == 2, "before the run, and when the device had lost memory"


LESSENED = """
model:
  shape:
    {n_layers: 1, d_model: 512, n_heads: 8, n_kv_heads: 4, head_dim: 64, d_ff: 1536, vocab_size: 4000, max_context: 512}
  weights_seed: 1
devices:
  - {name: a, gflops: 18.22 GFLOPS, mem_bandwidth: 2.15 GB/s, memory: 14713128 B, power: {idle: 2.5 W, busy: 5.8 W}}
  - {name: b, gflops: 35.92 GFLOPS, mem_bandwidth: 8.37 GB/s, memory: 6295414 B, power: {idle: 2.6 W, busy: 5.4 W}}
  - {name: c, gflops: 26.03 GFLOPS, mem_bandwidth: 6.9 GB/s, memory: 7557446 B, power: {idle: 3.2 W, busy: 7.7 W}}
  - {name: d, gflops: 27.52 GFLOPS, mem_bandwidth: 2.62 GB/s, memory: 12673870 B, power: {idle: 2.3 W, busy: 9 W}}
network:
  default: {bandwidth: 100 Mbit/s, delay: 300 us, energy: {send: 10 nJ/bit, receive: 5 nJ/bit}}
objective: energy
events: [{at_token: 9, device: c, memory: 3778723 B}]
workload: {prompts: [{tokens: 27}], max_tokens: 80}
"""


def test_a_device_that_lost_memory_is_relieved_step_by_step_where_no_single_step_does() -> None:
    plan = make_plan(parse_scenario(LESSENED, "lessened", ()))
    run = simulated(plan)
    assert run.problems == []
    assert len({move.step for move in run.migrations}) > 1
    assert plan.view.devices[2].name == "c"
    assert plan.view.held_bytes(plan.placement)[2] > 3778723
    assert plan.view.held_bytes(run.migrator.placement).get(2, 0) <= 3778723
