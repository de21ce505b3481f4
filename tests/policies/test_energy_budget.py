"""Placements within a budget of energy, and what policies are shown of it."""

from dataclasses import replace

import pytest
import uvloop
from support.watching import RecordedRun
from support.watts import scenario

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, all_blocks, ffn, head
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_energy import UnknownEnergyError, step_energy_j, token_energy_j
from edgeemu.run.ask_policy import first_decision, next_decision
from edgeemu.run.make_plan import make_plan
from edgeemu.run.simulated import SimulatedBackend


def test_a_first_placement_above_the_budget_is_infeasible_with_figures() -> None:
    needs_j = token_energy_j(make_plan(scenario()).view, make_plan(scenario()).placement)
    make_plan(scenario(f"energy_budget={1.01 * needs_j} J"))
    for policy in ("round-robin", "layers", "greedy"):
        with pytest.raises(InfeasibleError, match=r"needs [\d.]+ m?J a token, [\d.]+ uJ allowed \(energy_budget\)"):
            make_plan(scenario("energy_budget=4 uJ"), policy)


def test_a_later_placement_above_the_budget_is_not_taken_unless_it_draws_less() -> None:
    plan = make_plan(scenario())
    home = Placement(dict.fromkeys(all_blocks(plan.model.shape), 0))
    some, more = home.moved([head(0, 0)], 1), home.moved([head(0, 0), head(1, 1), ffn(0)], 1)
    drawn = [token_energy_j(plan.view, placement) for placement in (home, some, more)]
    assert drawn[0] < drawn[1] < drawn[2]

    def decided(answer: Placement, current: Placement, budget_j: float) -> tuple[Placement, str]:
        view = replace(plan.view, energy_budget_j=budget_j)
        decision = next_decision(lambda *_: answer, view, current, 1.0)
        return decision.placement, decision.problem

    assert decided(some, home, drawn[1]) == (some, "")
    kept, why = decided(more, home, drawn[1])
    assert kept is home
    assert "the placement needs" in why
    assert decided(some, more, drawn[0]) == (some, ""), "better than what is there, though not good"
    assert decided(more, more, drawn[0]) == (more, "")
    with pytest.raises(InfeasibleError, match="energy_budget"):
        first_decision(lambda *_: more, replace(plan.view, energy_budget_j=drawn[1]), 1.0)


def test_energy_needs_figures_of_the_links_that_are_crossed() -> None:
    plan = make_plan(scenario("network.default.energy={}"))
    home = Placement(dict.fromkeys(all_blocks(plan.model.shape), 0))
    assert step_energy_j(plan.view, home) > 0
    with pytest.raises(UnknownEnergyError, match="no energy per bit on the path from"):
        step_energy_j(plan.view, home.moved([EMBED], 1))
    budgeted = replace(plan.view, energy_budget_j=1e3)
    assert "no energy per bit" in next_decision(lambda *_: plan.placement, budgeted, home, 1.0).problem


@pytest.mark.parametrize("knowledge", ["oracle", "measured"])
def test_a_policy_is_shown_the_figures_at_every_decision(knowledge: str) -> None:
    seen: list[ClusterView] = []

    def look(view: ClusterView, current: Placement | None) -> Placement:
        seen.append(view)
        assert current is not None
        return current

    plan = replace(make_plan(scenario(f"knowledge={knowledge}", "objective=energy", "energy_budget=1 kJ")), decide=look)
    uvloop.run(RecordedRun(plan, SimulatedBackend(plan)).run())
    assert len(seen) == 14
    for view in (plan.view, *seen):
        assert (view.objective, view.energy_budget_j) == ("energy", 1000.0)
        assert [(device.idle_w, device.busy_w) for device in view.devices] == [(2.0, 5.0), (1.0, 7.0), (1.0, 7.0)]
        assert view.j_per_bit(0, 1) == pytest.approx(50e-9)
