"""Functions of time: their values, in every order of asking, and the integral and its inverse."""

from itertools import pairwise
from math import ceil, inf
from statistics import mean, stdev

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.variation import (
    MIN_SHARE,
    STANDSTILL,
    Constant,
    Faulted,
    LeftByLoad,
    Product,
    Repeated,
    Scaled,
    Trace,
    Uniform,
    Variation,
    Walk,
    done_s,
    falling,
    faulted,
    finish,
    product,
    scaled,
    share_at,
    value,
    with_level,
    without_faults,
)

shares = st.floats(0, 1)
seeds = st.integers(0, 2**63 - 1)
instants = st.floats(0, 30)


@st.composite
def traces(draw: st.DrawFn, levels: st.SearchStrategy[float]) -> Trace:
    times_s = sorted(draw(st.sets(instants, min_size=1, max_size=6)))
    return Trace(tuple(times_s), tuple(draw(levels) for _ in times_s))


@st.composite
def walks(draw: st.DrawFn, levels: st.SearchStrategy[float] = shares) -> Walk:
    low, middle, high = sorted(draw(levels) for _ in range(3))
    every_s = draw(st.floats(0.05, 2))
    return Walk(middle, draw(shares), low, high, every_s, every_s * draw(st.floats(0.1, 20)), draw(seeds))


def any_of(levels: st.SearchStrategy[float]) -> st.SearchStrategy[Variation]:
    """Variations of every kind, and combinations of them."""
    simple = st.one_of(
        st.builds(Constant, levels),
        traces(levels),
        st.builds(Uniform, levels, levels, st.floats(0.05, 2), seeds),
        walks(levels),
    )
    return st.recursive(
        simple,
        lambda inner: st.one_of(
            st.builds(LeftByLoad, inner),
            st.builds(Product, st.lists(inner, min_size=1, max_size=3).map(tuple)),
            st.builds(scaled, inner, instants, levels),
            st.builds(faulted, inner, instants, instants, levels),
        ),
        max_leaves=4,
    )


variations = any_of(shares)
workable = any_of(st.floats(0.3, 0.7))  # neither these nor what they leave makes a second of work last for weeks


@QUICK
@given(variations, instants)
def test_a_piece_holds_until_later_and_its_value_is_that_of_every_instant_in_it(variation: Variation, at_s: float):
    level, until_s = variation.piece(at_s)
    assert until_s > at_s
    assert 0 <= level <= 1
    between_s = (at_s + min(until_s, at_s + 100)) / 2
    if at_s < between_s < until_s:
        assert value(variation, between_s) == level


@QUICK
@given(variations, instants, instants)
def test_a_value_depends_on_nothing_but_time_and_survives_the_wire(
    variation: Variation, first_s: float, second_s: float
):
    there = msgspec.msgpack.decode(msgspec.msgpack.encode(variation), type=Variation)
    asked = [value(variation, first_s), value(variation, second_s)]
    assert [value(there, second_s), value(there, first_s)] == asked[::-1]


@QUICK
@given(workable, instants, st.floats(0, 5))
def test_work_ends_when_the_integral_of_the_share_equals_it(share: Variation, start_s: float, nominal_s: float):
    end_s = finish(share, start_s, nominal_s)
    assert end_s - start_s >= nominal_s - 1e-9
    assert done_s(share, start_s, end_s) == pytest.approx(nominal_s, rel=1e-9, abs=1e-9)


@QUICK
@given(workable, instants, st.floats(0, 5), st.floats(0, 5))
def test_more_work_and_a_later_start_end_later_and_work_can_be_parted(
    share: Variation, start_s: float, first_s: float, more_s: float
):
    end_s = finish(share, start_s, first_s)
    assert finish(share, start_s, first_s + more_s) >= end_s
    assert finish(share, start_s + more_s, first_s) >= end_s - 1e-9
    assert finish(share, end_s, more_s) == pytest.approx(finish(share, start_s, first_s + more_s), rel=1e-9)


@QUICK
@given(st.floats(STANDSTILL, 1), instants, st.floats(0, 5))
def test_a_constant_share_divides(level: float, start_s: float, nominal_s: float):
    assert finish(Constant(level), start_s, nominal_s) == start_s + nominal_s / level
    assert finish(None, start_s, nominal_s) == start_s + nominal_s


def test_a_share_of_nothing_still_ends():
    assert finish(Constant(0.0), 1.0, 1.0) == pytest.approx(1.0 + 1.0 / STANDSTILL)


def test_nothing_is_done_in_an_outage_and_all_after_it() -> None:
    share = Trace((0.0, 1.0, 500.0), (1.0, 0.0, 0.5))
    assert finish(share, 0.5, 0.5) == 1.0
    assert finish(share, 0.5, 1.0) == 501.0
    assert finish(share, 3.0, 0.0) == 3.0
    assert done_s(share, 0.5, 499.0) == 0.5
    assert done_s(share, 0.5, 501.0) == 1.0


def test_work_through_very_many_pieces_ends_soon_at_their_mean() -> None:
    blinking = Repeated(Trace((0.0, 1e-3), (1e-3, 0.0)), 2e-3)
    assert finish(blinking, 0.0, 1.0) == pytest.approx(1.0 / 0.5e-3, rel=1e-3)
    dark = Product((blinking, Trace((0.0, 1.0), (1.0, 0.0))))
    assert 1e5 < finish(dark, 2.0, 1.0) < 1.1 / STANDSTILL
    assert share_at(Constant(0.0), 0.0) == STANDSTILL
    assert value(LeftByLoad(Constant(1.0)), 0.0) == MIN_SHARE
    assert share_at(None, 0.0) == 1.0


def test_the_integral_over_pieces_by_hand():
    """Half speed for 2 s, then a quarter, then all: 1 s of work until 2 s, 0.5 s until 4 s, 1.5 s more."""
    share = Trace((0.0, 2.0, 4.0), (0.5, 0.25, 1.0))
    assert finish(share, 0.0, 1.0) == 2.0
    assert finish(share, 0.0, 3.0) == 5.5
    assert finish(share, 3.0, 1.0) == 4.75
    assert finish(share, 7.0, 1.0) == 8.0


def test_a_trace_holds_its_first_value_before_and_its_last_after():
    trace = Trace((1.0, 2.0), (0.3, 0.6))
    assert [trace.piece(t_s) for t_s in (0.0, 1.0, 1.5, 2.0, 99.0)] == [
        (0.3, 2.0),
        (0.3, 2.0),
        (0.3, 2.0),
        (0.6, inf),
        (0.6, inf),
    ]


# -- random processes -------------------------------------------------------------------------------------------


def test_a_uniform_process_has_an_independent_value_at_every_step():
    varying = Uniform(0.2, 0.6, 0.1, 7)
    levels = [value(varying, 0.1 * step + 0.05) for step in range(4000)]
    assert len(set(levels)) == 4000
    assert 0.2 <= min(levels) < 0.21
    assert 0.59 < max(levels) <= 0.6
    assert mean(levels) == pytest.approx(0.4, abs=0.01)
    assert levels[:100] != [value(Uniform(0.2, 0.6, 0.1, 8), 0.1 * step + 0.05) for step in range(100)]


def test_a_walk_has_its_mean_its_spread_and_its_memory():
    """In an Ornstein-Uhlenbeck process, the correlation over one relaxation time is 1/e."""
    varying = Walk(0.5, 0.1, -9.0, 9.0, 0.1, 1.0, 11)
    levels = [value(varying, 0.1 * step + 0.05) for step in range(40_000)]
    assert mean(levels) == pytest.approx(0.5, abs=0.01)
    assert stdev(levels) == pytest.approx(0.1, rel=0.05)
    shifted = [(a - 0.5) * (b - 0.5) for a, b in zip(levels, levels[10:], strict=False)]
    assert mean(shifted) / 0.1**2 == pytest.approx(0.368, abs=0.06)


def test_the_blocks_in_which_a_walk_is_computed_cannot_be_seen():
    """A step over the border of a block is as small as any other: the walk goes on from where it was."""
    every_s, relaxation_s, spread = 0.1, 5.0, 0.1
    varying = Walk(0.5, spread, 0.2, 0.7, every_s, relaxation_s, 3)
    levels = [value(varying, every_s * step + 0.05) for step in range(2000)]
    steps = [abs(b - a) for a, b in pairwise(levels)]
    borders = [steps[n] for n in range(127, 1999, 128)]
    typical = spread * (2 * every_s / relaxation_s) ** 0.5
    assert max(steps) < 5 * typical
    assert mean(borders) < 2 * mean(steps)
    assert 0.2 <= min(levels) <= max(levels) <= 0.7


@QUICK
@given(walks(), instants)
def test_a_walk_keeps_within_its_bounds(walk: Walk, at_s: float):
    assert walk.low <= value(walk, at_s) <= walk.high


# -- what events do -------------------------------------------------------------------------------------------


@QUICK
@given(variations, instants, st.floats(0.01, 1), instants)
def test_an_event_multiplies_from_its_instant_on_and_changes_nothing_before(
    base: Variation, event_s: float, factor: float, at_s: float
):
    expected = value(base, at_s) * (factor if at_s >= event_s else 1.0)
    if not isinstance(base, Scaled):
        assert value(scaled(base, event_s, factor), at_s) == expected


@QUICK
@given(st.lists(st.tuples(instants, st.floats(0.01, 1)), min_size=1, max_size=5, unique_by=lambda e: e[0]), instants)
def test_events_replace_each_other_in_the_order_of_time_not_of_calls(events: list[tuple[float, float]], at_s: float):
    varying: Variation | None = None
    for event_s, factor in events:
        varying = scaled(varying, event_s, factor)
    before = [event for event in sorted(events) if event[0] <= at_s]
    assert value(varying, at_s) == (before[-1][1] if before else 1.0)


def test_an_event_at_the_same_instant_replaces_the_one_before():
    varying = scaled(scaled(None, 2.0, 0.5), 2.0, 0.25)
    assert (value(varying, 1.9), value(varying, 2.0)) == (1.0, 0.25)


# -- faults ---------------------------------------------------------------------------------------------------


@QUICK
@given(variations, st.lists(st.tuples(instants, instants, shares), max_size=5), instants)
def test_a_fault_counts_from_its_beginning_to_its_end_and_with_all_others_of_that_time(
    variation: Variation, faults: list[tuple[float, float, float]], at_s: float
):
    made = variation
    for begin_s, end_s, factor in faults:
        made = faulted(made, begin_s, end_s, factor)
    expected = value(variation, at_s)
    for begin_s, end_s, factor in faults:
        expected *= factor if begin_s <= at_s < end_s else 1.0
    assert value(made, at_s) == pytest.approx(expected)
    if faults and not isinstance(variation, Faulted):
        assert without_faults(made) == variation


@QUICK
@given(st.lists(st.tuples(instants, st.floats(0.1, 3)), max_size=5), instants, instants, instants)
def test_events_do_not_end_an_outage_and_hold_after_it(
    events: list[tuple[float, float]], begin_s: float, end_s: float, at_s: float
):
    scaled_only: Variation | None = None
    first = faulted(None, begin_s, end_s)
    for event_s, factor in events:
        scaled_only, first = scaled(scaled_only, event_s, factor), scaled(first, event_s, factor)
    last = faulted(scaled_only, begin_s, end_s)
    assert value(first, at_s) == value(last, at_s) == (0.0 if begin_s <= at_s < end_s else value(scaled_only, at_s))


def test_a_device_that_stands_still_does_the_rest_afterwards_or_never():
    assert finish(faulted(None, 2.0, 5.0), 1.0, 1.5) == 5.5
    assert finish(faulted(faulted(None, 2.0, 5.0), 4.0, 7.0), 1.0, 1.5) == 7.5
    assert finish(faulted(Constant(0.5), 2.0, inf), 1.0, 0.5) == 2.0
    assert finish(faulted(None, 2.0, inf), 1.0, 1.5) == pytest.approx(2.0 + 0.5 / STANDSTILL)


def test_a_level_is_set_from_an_instant_on():
    trace = with_level(with_level(None, 2.0, 0.02, 0.005), 5.0, 0.04, 0.005)
    assert [value(trace, t_s) for t_s in (0.0, 2.0, 4.9, 5.0)] == [0.005, 0.02, 0.02, 0.04]
    assert value(with_level(None, 0.0, 0.02, 0.005), 0.0) == 0.02


@QUICK
@given(st.floats(0, 10), st.floats(0, 10), st.floats(0.05, 1))
def test_throttling_falls_linearly_to_what_remains(after_s: float, over_s: float, to: float):
    assume(over_s == 0 or over_s > 1e-3)
    varying = falling(after_s, over_s, to)
    before_s = after_s * 0.999
    assert before_s == after_s or value(varying, before_s) == 1.0  # equal at 0 and at the smallest floats
    assert value(varying, after_s + over_s) == pytest.approx(to)
    middle = value(varying, after_s + over_s / 2)
    assert to <= middle <= 1
    if over_s:
        assert middle == pytest.approx((1 + to) / 2, abs=1 / 20)
        fallen = done_s(varying, after_s, after_s + over_s)
        assert fallen == pytest.approx(over_s * (1 + to) / 2, rel=1e-6)  # as if the line were straight


def test_products_of_nothing_are_nothing():
    assert product(None, None) is None
    assert product(None, Constant(0.5)) == Constant(0.5)
    assert product(Constant(0.5), Constant(0.5)) == Constant(0.25)
    varying = Uniform(0.0, 1.0, 1.0, 3)
    assert product(None, varying) is varying
    both = product(Constant(0.5), varying)
    assert both is not None
    assert value(both, 0.3) == pytest.approx(0.5 * value(varying, 0.3))


def test_a_links_delay():
    added = Trace((0.0, 1.0), (0.0, 0.01))
    varies = LinkVariation(delay_s=with_level(None, 2.0, 0.05, 0.002), added_delay_s=added)
    assert [varies.delay_at(t_s, 0.002) for t_s in (0.0, 1.0, 2.0)] == pytest.approx([0.002, 0.012, 0.06])
    assert LinkVariation().delay_at(9.0, 0.002) == 0.002


def test_an_instant_on_the_border_of_a_step_belongs_to_the_later_one():
    """Whatever the rounding of step * every: 0.1 has no exact double."""
    varying = Uniform(0.0, 1.0, 0.1, 1)
    for step in range(3000):
        at_s = step * 0.1
        _, until_s = varying.piece(at_s)
        assert until_s == (step + 1) * 0.1
        assert ceil(until_s / 0.1 - 1e-6) == step + 1
