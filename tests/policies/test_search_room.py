"""Places to write in, for searches: one room for all tokens, and prices of moves in it as they are at each."""

from dataclasses import replace

from support.builders import uneven_mesh, with_workload

from edgeemu.placement.arrays import blocks_of
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.search_room import search_room, ways_in
from edgeemu.policies.compiled.tables import WayTables
from edgeemu.policies.search.known_placement import Known
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.same import Same
from edgeemu_kernels.packed_tuples import fields_of
from edgeemu_kernels.shape import ModelShape

SHAPE = ModelShape("wide", 1, 256, 16, 4, 16, 1024, 8192, 4096, activation="gelu")


def test_the_room_stays_where_sizes_change_with_every_token() -> None:
    """The published costs of blocks grow with the sequence."""
    seen = oracle_view(uneven_mesh(3, 1), PaperCosts(SHAPE), None, 7, 30)
    current = Placement(dict.fromkeys(blocks_of(SHAPE), 0))
    search_room.cache_clear()
    for length in (10, 20):
        later = with_workload(replace(seen, costs=seen.costs.at_step(1, length - 1)), length=length)
        assert Known.of(later, current, divide=False) is not None
    assert search_room.cache_info().misses == 1


def test_prices_of_moves_are_those_that_are_asked_for() -> None:
    room = Same(search_room(SHAPE, 3, 2, ((0, 1),), divide=False))
    seen = oracle_view(uneven_mesh(3, 1), PaperCosts(SHAPE), None, 7, 30)
    for length in (10, 20):
        costs = MoveCosts(with_workload(seen, length=length))
        moved = False, 1e9, *costs.sizes
        ways = fields_of(WayTables, ways_in(room, moved))
        assert (ways.n, ways.n_groups, ways.on_flash, ways.flash_bytes_per_s) == (2, 4, False, 1e9)
        assert tuple(ways)[5:15] == costs.sizes
