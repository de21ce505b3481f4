"""A view that is pickled says the same as before: links, energy, rehearsals; and nobody can write into its links."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.links_at import links_at
from edgeemu.run.make_plan import make_plan, make_rehearsal
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario

SHAPE = "{n_layers: 2, d_model: 16, n_heads: 2, n_kv_heads: 2, head_dim: 8, d_ff: 32, vocab_size: 50, max_context: 64}"
SCENARIO = f"""
model: {{shape: {SHAPE}}}
devices:
  - {{name: pi, profile: raspberry-pi-4, count: 2, gflops: {{lognormal: {{low: 5 GFLOPS, high: 50 GFLOPS}}}}}}
  - {{name: c, profile: jetson-nano}}
network:
  default: {{type: ethernet-100m, delay: {{uniform: {{low: 1 ms, high: 2 ms}}}}}}
  links:
    - between: [pi-1, c]
      bandwidth: 20 Mbit/s
      variation: {{bandwidth: {{uniform: {{low: 0.5, high: 1}}, every: 1 s}}}}
events: [{{at: 2 s, link: [pi-1, pi-2], delay: 9 ms}}]
workload: {{prompts: [{{tokens: 4}}, {{tokens: 3}}], max_tokens: 4}}
policy: greedy
"""
CHANGES = {
    "mesh": (),
    "line": ("network.topology=line", "network.links=[]", "events=[]"),
    "star": ("network.topology=star", "network.links=[]", "events=[]"),
}


@pytest.fixture(params=CHANGES)
def plan(request: pytest.FixtureRequest) -> Plan:
    return make_plan(parse_scenario(SCENARIO, "pickled", CHANGES[request.param]))


def test_a_pickled_view_says_the_same(plan: Plan) -> None:
    rehearse = make_rehearsal(plan.scenario, plan.cluster, plan.computes, plan.view, plan.requests)
    at_3_s = links_at(plan.links, plan.cluster, 3.0).scaled({(0, 2): (1.5, 2.0)})
    for links in (plan.links, at_3_s, LinkMatrix(at_3_s.s_per_bit, at_3_s.scaled({(1, 0): (3.0, 1.0)}).delay_s)):
        view = replace(plan.view, links=links, rehearse=rehearse)
        other = pickle.loads(pickle.dumps(view))
        assert (other.devices, other.workload, other.costs) == (view.devices, view.workload, view.costs)
        for a in range(3):
            np.testing.assert_array_equal(other.bandwidth_from(a), view.bandwidth_from(a))
            np.testing.assert_array_equal(other.links.delay_s.column(a), view.links.delay_s.column(a))
            assert [other.delay_s(a, b) for b in range(3)] == [view.delay_s(a, b) for b in range(3)]
            assert [other.j_per_bit(a, b) for b in range(3) if b != a] == [
                view.j_per_bit(a, b) for b in range(3) if b != a
            ]
        moved = Placement({block: (at + 1) % 3 for block, at in plan.placement.owner.items()})
        for placement in (plan.placement, moved):
            assert other.rehearse(placement) == rehearse(placement)


def test_nobody_writes_into_the_links_of_a_view(plan: Plan) -> None:
    links = links_at(plan.links, plan.cluster, 3.0).scaled({(0, 2): (1.5, 2.0)})
    for matrix in (links.s_per_bit, pickle.loads(pickle.dumps(links.delay_s))):
        for vector in (matrix.row(0), matrix.row(1), matrix.column(2)):
            with pytest.raises(ValueError, match="read-only"):
                vector[0] = 1.0
