"""Decisions that are charged: how long they take on the timeline, and whose speed that is."""

import time
from dataclasses import replace

import pytest
from support.moving import SCENARIO, make
from support.moving import simulated as run

from edgeemu.cluster.devices import Compute
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import DecisionRow
from edgeemu.run import make_plan as planning
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario

FIRST_CALL_S = 0.005


class SlowAtFirst:
    """A policy that moves nothing, and whose every other call, the first of each decision, takes some milliseconds."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        self.calls += 1
        ends_s = time.thread_time() + (FIRST_CALL_S if self.calls % 2 else 0.0)
        while time.thread_time() < ends_s:
            pass
        return current


def rows(plan: Plan) -> list[DecisionRow]:
    return run(plan).recorded.rows["decisions"]


def test_a_decision_that_is_measured_is_charged_warm() -> None:
    policy = SlowAtFirst()
    plan = make("decisions.time=measured", decide=policy)
    made = run(plan)
    charged = made.recorded.rows["decisions"]
    assert policy.calls == 2 * len(charged)
    assert all(row.took_s >= FIRST_CALL_S for row in charged)
    assert all(0 < row.charged_s < row.took_s for row in charged), "the first call is not the one that counts"
    at_once = run(make(decide=lambda _, current: current))
    for row in charged:
        late_s, early_s = (
            next(token.latency_s for token in of.tokens if (token.sequence, token.step) == row[:2])
            for of in (made, at_once)
        )
        assert late_s - early_s == pytest.approx(row.charged_s), "the step waits for the decision"


def test_what_is_measured_is_scaled_to_the_device_that_decides() -> None:
    plan = replace(make("decisions.time=measured", decide=SlowAtFirst()), decision_scale=1e6)
    assert all(row.took_s < row.charged_s < 1e6 * row.took_s for row in rows(plan))


def test_a_time_that_is_given_is_charged_and_the_policy_asked_once() -> None:
    policy = SlowAtFirst()
    charged = rows(make("decisions.time=2 ms", decide=policy))
    assert {row.charged_s for row in charged} == {0.002}
    assert policy.calls == len(charged)


def test_the_scale_is_that_of_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_this_host", lambda: Compute(50e9, 1e10, 0.0))

    def scale(*changes: str) -> float:
        made = make_plan(parse_scenario(SCENARIO, "moving", ("decisions.time=measured", *changes)))
        return made.decision_scale

    assert scale() == 1.0
    assert scale("decisions.on=b-2") == 50.0
    share = "devices[0]={name: a, host_fraction: 0.25, memory: 8 MiB}"
    assert scale("decisions.on=a", share) == 4.0
