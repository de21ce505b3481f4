"""A search on any number of devices finds what it needs ready: it is made before the run, for each number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies import lookahead
from edgeemu.policies.compiled import ends_code, share_code
from edgeemu.policies.compiled.devices_code import all_devices
from edgeemu.policies.compiled.search_room import search_room
from edgeemu.policies.search.going_back import owners_of
from edgeemu.policies.search.known_placement import WORK_TO_CHOOSE, Known
from edgeemu.policies.search.share_proposals import SLOW_LINK, numbers_chosen, promising_now
from edgeemu.policies.view import share_memory
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario

SCENARIO = Path(__file__).parents[2] / "scenarios" / "one-layer-25.yaml"
MADE = search_room, ends_code._sizes_of, share_code._step_sizes, share_code.scratch_for, share_memory.share_bytes


def seen(*settings: str) -> ClusterView:
    """The cluster of 25 devices, when a token has been generated."""
    view = make_plan(load_scenario(SCENARIO, settings), "lookahead").view
    return replace(view, workload=replace(view.workload, length=view.prompt_tokens + 1))


def spread(view: ClusterView, used: int) -> Placement:
    """A placement on so many devices."""
    return Placement({block: at % used for at, block in enumerate(all_blocks(view.costs.shape))})


def test_every_number_of_devices_is_known_before() -> None:
    view = seen()
    slow = replace(view, observed={(0, 1): (SLOW_LINK, SLOW_LINK)})
    chosen = set[int]()
    for each in (view, slow):
        for used in range(1, 26):
            owners = owners_of(placement := spread(view, used), view.costs.shape)
            assert owners is not None
            chosen.add(len(promising_now(each, placement, owners, WORK_TO_CHOOSE, all_devices(each))))
    assert sorted(chosen) == numbers_chosen(view, WORK_TO_CHOOSE)


def test_fewer_devices_take_part_for_the_objective_of_energy() -> None:
    assert len(numbers_chosen(replace(seen(), objective="energy"), WORK_TO_CHOOSE)) == 1


@pytest.mark.parametrize("divide", ["true", "false"])
def test_a_search_on_any_of_them_makes_nothing_that_is_kept(divide: str) -> None:
    view = seen(f"sharding.divide={divide}")
    lookahead.prepare(view)
    made = [each.cache_info().misses for each in MADE]
    owners = owners_of(alone := spread(view, 1), view.costs.shape)
    assert owners is not None
    for n in numbers_chosen(view, WORK_TO_CHOOSE):
        assert Known(view, alone, owners, np.arange(n), divide=view.divide).is_placed
    assert [each.cache_info().misses for each in MADE] == made


@pytest.mark.parametrize("star", [True, False])
def test_messages_of_members_and_of_groups_add_up(star: bool) -> None:
    costs, rows, n = seen().costs, 9, 30
    found = share_memory._messages(costs, rows, n, star=star)
    for members, groups in ((1, 0), (1, 3), (2, 5), (12, 1), (30, costs.shape.n_groups)):
        assert found[members, groups] == costs.collective_inbox_bytes(rows, members, groups, star=star)
    assert (found[0] == costs.inbox_bytes(rows)).all()
