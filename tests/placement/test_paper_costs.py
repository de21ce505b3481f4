"""The paper's literal costs, with its own numbers: h = 32, D = 2048, L0 = 64 (arXiv 2505.02533, authors' code)."""

from dataclasses import replace

import pytest

from edgeemu.cluster.devices import Compute
from edgeemu.errors import RequestError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, head, proj
from edgeemu.placement.costs import Costs
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies import exact, lookahead, resource_aware
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.policies.view.step_time import StepTimes, step_s
from edgeemu_kernels.shape import ModelShape

SHAPE = ModelShape("paper", 1, 2048, 32, 32, 64, 8192, 8, 4096, activation="gelu")
L, D, d, b = 70, 2048, 64, 4
COSTS = PaperCosts(SHAPE, b, prompt_tokens=64, length=L)


def seen(costs: Costs = COSTS) -> ClusterView:
    devices = tuple(DeviceView(f"d{i}", Compute(speed, 1e15, 0.0), 2**33) for i, speed in enumerate((1e10, 2e10, 3e10)))
    links = LinkMatrix.of_pairs(len(devices), lambda *_: 1e9, lambda *_: 0.0)
    return ClusterView(costs, devices, links, WorkloadView(64, 100, length=L - 1))


def test_memory_and_operations_are_the_published_ones() -> None:
    assert COSTS.weight_bytes(head(0, 0)) == 3 * L * d * b + 3 * D * d * b
    assert COSTS.weight_bytes(proj(0)) == L * D * b
    assert COSTS.weight_bytes(ffn(0)) == 4 * L * D * b
    assert COSTS.weight_bytes(EMBED) == COSTS.weight_bytes(LM_HEAD) == 0
    assert COSTS.kv_bytes(L) == (L - 64) * D * b
    assert COSTS.kv_bytes(64) == 0
    assert COSTS.work(Kind.HEAD, 3, 1, L - 1) == (3 * (3 * L * D * d + L**2 * d), 0.0)
    assert COSTS.work(Kind.PROJ, 1, 1, L - 1) == (L * D**2, 0.0)
    assert COSTS.work(Kind.FFN, 1, 1, L - 1) == (8 * L * D**2, 0.0)
    assert COSTS.attention_bytes(5, 1) == 5 * L * d * b
    assert COSTS.activation_bytes(1) == L * D * b
    later = COSTS.at_step(1, 98)
    assert later.activation_bytes(1) == 99 * D * b
    assert later.weight_bytes(proj(0)) == 99 * D * b
    assert COSTS.at_step(1, L - 1) is COSTS


def test_a_step_is_the_papers_delay() -> None:
    """max over devices of head time and transfers, then proj, transfer and ffn; and x to the heads."""
    view = seen()
    owner = dict.fromkeys(lookahead.place(view).owner, 2)
    heads_on_0 = Placement({**owner, **{head(0, g): 0 for g in range(10)}})
    heads_s = 10 * COSTS.work(Kind.HEAD, 1, 1, L - 1).flops / 1e10
    there_and_back_s = 8 * (L * D * b + 10 * L * d * b) / 1e9
    here_s = 22 * COSTS.work(Kind.HEAD, 1, 1, L - 1).flops / 3e10
    rest_s = (L * D**2 + 8 * L * D**2) / 3e10
    assert step_s(view, heads_on_0) == pytest.approx(max(heads_s + there_and_back_s, here_s) + rest_s)
    moved_s = 8 * 10 * (COSTS.weight_bytes(head(0, 0)) + COSTS.kv_bytes(L - 1)) / 1e9
    assert migration_s(view, Placement(owner), heads_on_0) == pytest.approx(moved_s)


def test_policies_take_them_as_they_take_the_physical_ones() -> None:
    view = seen()
    times = StepTimes(view)
    assert times.head_flops == COSTS.work(Kind.HEAD, 1, 1, L - 1).flops
    best_s = step_s(view, exact.place(view))
    assert step_s(view, lookahead.place(view)) == pytest.approx(best_s, rel=1e-5)
    assert step_s(view, resource_aware.place(view)) < 1.2 * best_s


def test_the_paper_ties_nothing() -> None:
    with pytest.raises(RequestError, match="tie"):
        PaperCosts(replace(SHAPE, tied_embeddings=True))
