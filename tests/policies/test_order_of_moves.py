"""The order of moves does not keep a block from where it belongs: ends get memory before layers fill it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from edgeemu.placement.blocks import LM_HEAD, Kind
from edgeemu.placement.placement import Placement, moves
from edgeemu.policies.lookahead import place
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario

LAPTOP, NANO, PHONE = 0, 3, 4
SCENARIO = Path(__file__).parents[2] / "scenarios" / "slowdown.yaml"
SETTINGS = ("sharding.divide=false", "workload.prompts=[{tokens: 44}]", "workload.max_tokens=160")


def decided(view: ClusterView, current: Placement, *slowdowns: float) -> Placement:
    """The placement after decisions, each with the laptop so many times as slow as nominally."""
    for slowdown in slowdowns:
        laptop = replace(view.devices[LAPTOP], compute=view.devices[LAPTOP].compute.slowed(slowdown))
        devices = tuple(laptop if i == LAPTOP else device for i, device in enumerate(view.devices))
        current = place(replace(view, devices=devices), current)
    return current


def test_the_output_matrix_goes_where_layers_would_fill_the_memory() -> None:
    plan = make_plan(load_scenario(SCENARIO, SETTINGS), "lookahead")
    assert plan.placement.owner[LM_HEAD] == LAPTOP
    assert decided(plan.view, plan.placement, 2.0, 2.5).owner[LM_HEAD] == NANO
    assert decided(plan.view, plan.placement, 1.37, 1.4).owner[LM_HEAD] == NANO, "layers alone gain more at first"


def test_moves_that_pay_only_beside_others_are_made_with_them() -> None:
    """Receivers read from their storages at once: the phone's layers come while the nano's are read."""
    settings = (*SETTINGS, "migration.weights_on_flash=true", "migration.flash_bandwidth=200 MB/s")
    plan = make_plan(load_scenario(SCENARIO, settings), "lookahead")
    for slowdown in (2.5, 4.0):
        moved = moves(plan.placement, decided(plan.view, plan.placement, slowdown))
        layers = Counter(move.target for move in moved if move.block.kind is Kind.FFN)
        assert layers == {NANO: 9, PHONE: 5}
