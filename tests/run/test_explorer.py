"""Links that nothing uses are measured again, after twice as long each time."""

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, shapes, view
from support.drawn_shares import EVERYONE, N, some_shares

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Kind, all_blocks, ffn, shards
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.policies.compiled.share_code import functions
from edgeemu.policies.view.link_factors import Doubtful, LinkFactors, Pair, coded, pairs_of
from edgeemu.run.explorer import FIRST_TOKENS, MOST_TOKENS, Explorer, hopeful, used, used_by_blocks, used_by_shares

LINK = (0, 1)
FACTOR = st.floats(0.1, 50.0)


def doubtful(since: dict[Pair, int]) -> Doubtful:
    links = coded(since)
    return Doubtful(links, np.array([since[pair] for pair in pairs_of(links)], np.int64))


def due(explorer: Explorer, since: dict[Pair, int]) -> set[Pair]:
    return set(pairs_of(explorer.due(doubtful(since), 1)))


def asked_for(explorer: Explorer, links: set[Pair], measuring: Collection[Pair], since: dict[Pair, int]) -> None:
    explorer.asked(coded(links), coded(measuring), doubtful(since))


def test_the_time_to_the_next_measurement_doubles() -> None:
    explorer, asked, since = Explorer(1), [], 0
    for token in range(100):
        if due(explorer, {LINK: since}):
            asked_for(explorer, {LINK}, {LINK}, {LINK: since})
            asked.append(token)
            since = 0
        since += 1
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert asked[0] == FIRST_TOKENS
    assert gaps[:2] == [2 * FIRST_TOKENS, 4 * FIRST_TOKENS]
    assert set(gaps[2:]) == {MOST_TOKENS}


def test_a_link_that_was_good_meanwhile_begins_anew() -> None:
    explorer = Explorer(1)
    assert due(explorer, {LINK: 9}) == {LINK}
    asked_for(explorer, {LINK}, {LINK}, {LINK: 9})
    assert not due(explorer, {LINK: FIRST_TOKENS})
    due(explorer, {})
    assert due(explorer, {LINK: FIRST_TOKENS}) == {LINK}


def test_a_link_is_not_asked_again_while_test_messages_are_under_way() -> None:
    explorer = Explorer(1)
    due(explorer, {LINK: 5})
    asked_for(explorer, {LINK}, {LINK}, {LINK: 5})
    assert not due(explorer, {LINK: 99})
    assert not due(explorer, {LINK: 2}), "measured since, and not for long enough"
    assert due(explorer, {LINK: 2 * FIRST_TOKENS}) == {LINK}


def test_a_link_that_the_policy_does_not_want_is_asked_for_after_twice_as_long() -> None:
    explorer, asked = Explorer(1), []
    for since in range(100):
        if due(explorer, {LINK: since}):
            asked_for(explorer, {LINK}, (), {LINK: since})
            asked.append(since)
    assert asked[:4] == [4, 12, 28, 44]


def test_both_directions_of_a_link_are_asked_for_together() -> None:
    back, explorer, together = (1, 0), Explorer(1), []
    for since in range(60):
        found = {LINK: since} | ({back: since - 3} if since >= 3 else {})
        if pairs := due(explorer, found):
            asked_for(explorer, pairs, (), found)
            together.append(len(pairs))
    assert set(together[2:]) == {2}


@QUICK
@given(st.data())
def test_links_of_undivided_blocks_are_those_of_their_program(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    old, new = (data.draw(placements(shape, 4)) for _ in range(2))
    layouts = (PlacementArrays.of(each, shape) for each in (old, new))
    assert used_by_blocks(*layouts) == used(compile_routes(new, shape), old, new)


@QUICK
@given(st.data())
def test_links_of_shares_are_those_of_their_program(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    old, new = (data.draw(some_shares(shape)).placement(0, shape, EVERYONE) for _ in range(2))
    star = data.draw(st.booleans())
    seen = replace(view(shape, [2**40] * N, [Compute(1e9, 1e9, 0.0)] * N, 9, 30), star=star)
    program = compile_routes(new, shape, "star" if star else "ring")
    functions()
    assert used_by_shares(seen, old, new) == used(program, old, new)


@QUICK
@given(st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.tuples(FACTOR, FACTOR)), st.data())
def test_links_are_hoped_to_be_as_the_scenario_has_them(
    observed: dict[tuple[int, int], tuple[float, float]], data: st.DataObject
) -> None:
    observed = {pair: factors for pair, factors in observed.items() if pair[0] != pair[1]}
    pairs = set(data.draw(st.lists(st.sampled_from(sorted(observed)), unique=True))) if observed else set()
    seen = view(LLAMA, [2**40] * 6, [Compute(1e9, 1e9, 0.0)] * 6, 9, 30)
    slow = replace(seen, links=seen.links.scaled(observed), observed=LinkFactors.of(observed))
    hoped = hopeful(slow, coded(pairs))
    assert dict(hoped.observed) == {pair: each for pair, each in observed.items() if pair not in pairs}
    for a, b in permutations(range(6), 2):
        nominal = seen if (a, b) in pairs else slow
        assert hoped.links.pair(a, b, 8e3) == pytest.approx(nominal.links.pair(a, b, 8e3))


def test_links_are_used_by_steps_and_by_shards_that_move() -> None:
    whole = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    parts = {block: index % 2 for index, block in enumerate(shards(LLAMA, Kind.FFN, 0))}
    rest = {block: 2 for block in whole.owner if block != ffn(0)}
    divided = Placement({**rest, **parts})
    no_steps = Program((), 2, 2)
    assert used(no_steps, whole, divided) == {(0, 1), (0, 2)}, "shards that leave the whole, and all other blocks"
    there, back = {(2, 0), (2, 1)}, {(1, 0), (0, 2)}  # one row goes from each to the next: only prompts need a ring
    assert used(compile_routes(divided, LLAMA), divided, divided) == there | back
