"""Machine code that looks at placements finds what NumPy finds: to the last bit, but for layers that are skipped."""

from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, near_mesh, shapes, uneven_mesh
from support.drawn_shares import EVERYONE, N, some_shares
from support.plain_judge import PlainJudge
from support.share_bounds import StepBounds
from support.share_changes import ShareChanges
from support.share_needs import PlainNeeds

from edgeemu.placement.arrays import FloatArray
from edgeemu.placement.blocks import Kind, all_blocks, n_shards
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement, moves
from edgeemu.policies.compiled.near_code import BestOf, DescentCode, NearCode
from edgeemu.policies.compiled.share_code import NeedsCode, StepCode, functions
from edgeemu.policies.compiled.share_descent import NONE
from edgeemu.policies.search.expected_gain import expected_gain, may_pay
from edgeemu.policies.search.share_moves import all_around, neighbours
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.share_memory import ShareMemory, all_fits, counts_to_the_byte
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import Requirements
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape

MAKERS = NearCode, ShareChanges
MESSAGE_ENDS = (0.0, 0.0), (1e-4, 0.0), (5e-5, 3e-8)  # seconds that a message, and each of its bytes, takes a device


def with_loads(data: st.DataObject, view: ClusterView) -> ClusterView:
    """The view of devices that messages may keep busy, with other sequences that may run beside."""
    ends = data.draw(st.just([(0.0, 0.0)] * N) | st.lists(st.sampled_from(MESSAGE_ENDS), min_size=N, max_size=N))
    devices = tuple(
        replace(each, compute=replace(each.compute, message_s=message_s, byte_s=byte_s))
        for each, (message_s, byte_s) in zip(view.devices, ends, strict=True)
    )
    concurrent = data.draw(st.sampled_from([(), (20,), (20, 30)]))
    return replace(view, devices=devices, workload=replace(view.workload, concurrent=concurrent))


def seen(data: st.DataObject, shape: ModelShape) -> ClusterView:
    mesh = uneven_mesh(N, data.draw(st.integers(0, 2**32)))
    view = oracle_view(mesh, PhysicalCosts(shape), None, 7, 30)
    return with_loads(data, replace(view, star=data.draw(st.booleans())))


def seen_with_memory(data: st.DataObject, shape: ModelShape) -> ClusterView:
    view = replace(seen(data, shape), weights_on_flash=data.draw(st.booleans()))
    sizes = st.integers(0, 2_000_000)
    devices = tuple(
        replace(each, memory_bytes=data.draw(sizes), installed_bytes=data.draw(sizes)) for each in view.devices
    )
    return replace(view, devices=devices)


def batch(data: st.DataObject, shape: ModelShape) -> ShareArrays:
    return ShareArrays.joined([data.draw(some_shares(shape)) for _ in range(3)])


@QUICK
@given(st.data())
def test_steps_take_as_long(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    view, shares = seen(data, shape), batch(data, shape)
    found_s = StepCode(view, EVERYONE, 7).steps(Folded.of(shares))
    assert found_s == pytest.approx(PlainJudge(view, EVERYONE, 1).round_s(shares), rel=1e-12)


@QUICK
@given(st.data())
def test_a_step_that_cannot_be_below_the_limit_is_only_bounded(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    view, near = seen(data, shape), Folded.of(batch(data, shape))
    code, needs = StepCode(view, EVERYONE, 7), Requirements(np.array([0, 0, 5]), np.array([1.0, 2.0, 3.0]))
    bounds_s = StepBounds(ShareTimes(view, EVERYONE, 7)).least_s(near.shares, near.runs.lengths)
    none = code.costs(near, needs, 0.5, -1.0, 100.0)
    assert none.tolist() == [bounds_s[0] + 0.5, bounds_s[1] + 1.0, 100.0 + 5 + 1.5]
    limit = float(bounds_s[0]) + 0.6
    some = code.costs(near, needs, 0.5, limit, 100.0)
    steps_s = code.steps(near)
    assert some[0] == steps_s[0] + 0.5
    assert some[1] == (steps_s[1] if bounds_s[1] < (limit - 1.0) * (1 + 1e-9) else bounds_s[1]) + 1.0


@QUICK
@given(st.data())
def test_memory_and_migrations_are_the_same(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    view, near = seen_with_memory(data, shape), Folded.of(batch(data, shape))
    arguments = ShareMemory(view, EVERYONE), ShareMigrations(MoveCosts(view), EVERYONE, near.unfolded([0]))
    found, known = (each(*arguments).of(near) for each in (NeedsCode, PlainNeeds))
    assert found.missing_bytes.tolist() == known.missing_bytes.tolist()
    assert found.moves_s.tolist() == known.moves_s.tolist()


@QUICK
@given(st.data(), st.booleans())
def test_neighbours_are_the_same_in_the_same_order(data: st.DataObject, divide: bool) -> None:
    shape = data.draw(shapes(max_layers=8))
    base = data.draw(some_shares(shape))
    sizes = shape.n_groups, n_shards(shape, Kind.FFN)
    found, known = (neighbours(each(*sizes, divide=divide), base) for each in (NearCode, ShareChanges))
    for one, other in zip_longest(found, known):
        for part in ("embed", "lm_head", "heads", "proj", "units"):
            assert getattr(one.shares, part).tolist() == getattr(other.shares, part).tolist()


@QUICK
@given(st.data())
def test_the_vicinity_is_the_same_in_the_same_order(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    around, others = next(all_around(data.draw(some_shares(shape)))), batch(data, shape)
    others, sizes = around.runs.folded(others), (shape.n_groups, n_shards(shape, Kind.FFN))
    (found, beside), (known, number) = (each(*sizes, divide=True).vicinity(around, others) for each in MAKERS)
    assert found.keys() == known.keys()
    assert beside == number


def assert_best(found: BestOf, near: Folded, costs: FloatArray) -> None:
    """Check that the first of the placements that cost least was found, and what it costs."""
    assert found.near.unfolded([found.at]).keys() == near.unfolded([int(costs.argmin())]).keys()
    assert found.cost == costs.min()


@QUICK
@given(st.data(), st.floats(0.0, 2.0), st.floats(0.0, 1.0))
def test_the_best_is_found_where_all_costs_are_known(data: st.DataObject, price: float, share: float) -> None:
    shape = data.draw(shapes(max_layers=8))
    view, near = seen_with_memory(data, shape), Folded.of(batch(data, shape))
    steps, base = StepCode(view, EVERYONE, 7), near.unfolded([0])
    needs = NeedsCode(ShareMemory(view, EVERYONE), ShareMigrations(MoveCosts(view), EVERYONE, base))
    changes = NearCode(shape.n_groups, n_shards(shape, Kind.FFN), divide=True)
    code = DescentCode(steps, needs, changes, price, 1e6)
    costs = steps.costs(near, needs.of(near), price, np.inf, 1e6)
    assert code.costs(near, np.inf).tolist() == costs.tolist()
    limit = float(np.quantile(costs, share))
    best = [at for at in costs.argsort(kind="stable").tolist() if costs[at] < limit]
    begun = [*[at for at in best if at < 2], *[at for at in best if at >= 2][:1]]
    assert code.best_near(near, 2, limit) == [(at, costs[at]) for at in begun]
    for around in all_around(base):
        near = Folded(changes.near(around), around.runs)
        known = needs.of(near)
        costs = steps.costs(near, known, price, np.inf, 1e6)
        found = code.best_change(around, np.inf)
        assert_best(found, near, costs)
        assert (found.changes, found.fitting) == (len(near), (known.missing_bytes == 0).sum())
        assert code.best_change(around, float(costs.min())).at == NONE


@QUICK
@given(st.data(), st.floats(0.0, 2.0), st.floats(0.0, 1.0))
def test_only_what_is_below_a_limit_has_to_be_right(data: st.DataObject, price: float, share: float) -> None:
    """Changes of one layer, where each way through it can be the longest."""
    shape = data.draw(shapes(max_layers=1))
    view, base = seen_with_memory(data, shape), data.draw(some_shares(shape))
    begin = data.draw(some_shares(shape))
    needs = NeedsCode(ShareMemory(view, EVERYONE), ShareMigrations(MoveCosts(view), EVERYONE, begin))
    steps, changes = StepCode(view, EVERYONE, 7), NearCode(shape.n_groups, n_shards(shape, Kind.FFN), divide=True)
    code, (around,) = DescentCode(steps, needs, changes, price, 1e6), all_around(base)
    near = Folded(changes.near(around), around.runs)
    costs = steps.costs(near, needs.of(near), price, np.inf, 1e6)
    limit = float(np.quantile(costs, share))
    found, below = code.costs(near, limit), costs < limit
    assert found[below].tolist() == costs[below].tolist()
    assert (found[~below] >= limit).all()
    best = code.best_change(around, limit)
    if below.any():
        assert_best(best, near, costs)
    else:
        assert (best.at, best.cost) == (NONE, limit)


def wide_layer(data: st.DataObject) -> tuple[ClusterView, ModelShape]:
    """One layer of at least as many groups as there are devices, which are alike and have memory for everything."""
    n_kv_heads = data.draw(st.integers(N, 16))
    shape = replace(data.draw(shapes(max_layers=1)), n_kv_heads=n_kv_heads, n_heads=n_kv_heads, d_ff=64, d_model=512)
    mesh = near_mesh(N, data.draw(st.integers(0, 2**32)))
    view = replace(oracle_view(mesh, PhysicalCosts(shape), None, 7, 30), weights_on_flash=data.draw(st.booleans()))
    return with_loads(data, view), shape


def divided(data: st.DataObject, shape: ModelShape) -> ShareArrays:
    """A placement of which all devices have parts."""

    def counts(total: int) -> list[int]:
        cuts = sorted(data.draw(st.lists(st.integers(1, total - 1), min_size=N - 1, max_size=N - 1, unique=True)))
        return np.diff([0, *cuts, total]).tolist()

    heads, units = np.array([[counts(shape.n_kv_heads)]]), np.array([[counts(shape.ffn_units)]])
    return replace(data.draw(some_shares(shape)), heads=heads, proj=np.array([[-1]]), units=units)


def some_moved(data: st.DataObject, base: ShareArrays) -> ShareArrays:
    """A placement, or the same with some parts on other devices."""
    for _ in range(data.draw(st.integers(0, 3))):
        base = base.taken([0])
        source, target = data.draw(st.permutations(range(N)))[:2]
        for each in (base.heads, base.units):
            moved = data.draw(st.integers(0, max(0, each[0, 0, source] - 1)))
            each[0, 0, [source, target]] += -moved, moved
    return base


def assert_all_best_are_found(
    view: ClusterView, begin: ShareArrays, base: ShareArrays, share: float, *, divide: bool
) -> None:
    """Check the best changes of a placement, whatever the price of moves from another one."""
    shape = view.costs.shape
    needs = NeedsCode(ShareMemory(view, EVERYONE), ShareMigrations(MoveCosts(view), EVERYONE, begin))
    steps, changes = StepCode(view, EVERYONE, 7), NearCode(shape.n_groups, n_shards(shape, Kind.FFN), divide=divide)
    (around,) = all_around(base)
    near, itself = Folded(changes.near(around), around.runs), Folded(base, around.runs)
    for price in (0.0, 1e-3, 3e-3, 0.01, 0.03, 2.0):
        code = DescentCode(steps, needs, changes, price, 1e6)
        costs = steps.costs(near, needs.of(near), price, np.inf, 1e6)
        for limit in (share * float(code.costs(itself, np.inf)[0]), (1.0 + 1e-6) * float(costs.min())):
            best = code.best_change(around, limit)
            assert (best.changes, best.fitting) == (len(near), len(near))
            if costs.min() < limit:
                assert_best(best, near, costs)
            else:
                assert (best.at, best.cost) == (NONE, limit)


@QUICK
@given(st.data(), st.floats(0.9, 1.1))
def test_shifts_that_are_left_out_are_not_the_best(data: st.DataObject, share: float) -> None:
    view, shape = wide_layer(data)
    base = divided(data, shape)
    assert_all_best_are_found(view, some_moved(data, base), base, share, divide=True)


@QUICK
@given(st.data(), st.floats(0.9, 1.1))
def test_nor_are_they_where_parts_of_a_layer_are_whole(data: st.DataObject, share: float) -> None:
    view, shape = wide_layer(data)
    base = divided(data, shape)
    proj, at_ffn = (data.draw(st.integers(0, N - 1)) for _ in range(2))
    whole = np.array([[shape.ffn_units * np.eye(N, dtype=np.int64)[at_ffn]]])
    begin = some_moved(data, replace(base, proj=np.array([[proj]])))
    if data.draw(st.booleans()):  # heads, or units, on few devices
        base = some_moved(data, base)
    kinds = {"projection": {"proj": np.array([[proj]])}, "units": {"units": whole}}
    changed = data.draw(st.sampled_from([["projection"], ["units"], ["projection", "units"]]))
    base = replace(base, **{name: value for kind in changed for name, value in kinds[kind].items()}).normal()
    may_stay_whole = len(changed) == len(kinds)
    divide = data.draw(st.booleans()) if may_stay_whole else True
    assert_all_best_are_found(view, base if data.draw(st.booleans()) else begin, base, share, divide=divide)


@QUICK
@given(st.data())
def test_placements_fit_where_devices_count_no_more_than_they_have(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=3))
    view, shares = seen_with_memory(data, shape), data.draw(some_shares(shape))
    placement = shares.placement(0, shape, EVERYONE)
    assert all_fits(view, placement) == view.holds(placement)
    needed = [view.held_bytes(placement).get(device, 0) for device in range(N)]
    just = tuple(replace(each, memory_bytes=size) for each, size in zip(view.devices, needed, strict=True))
    if counts_to_the_byte(view, placement):
        assert ShareMemory(view, EVERYONE).need_bytes(shares)[0].tolist() == needed
        assert all_fits(replace(view, devices=just), placement)


@QUICK
@given(st.data())
def test_a_change_that_surely_does_not_pay_does_not(data: st.DataObject) -> None:
    functions()
    shape = data.draw(shapes(max_layers=3))
    view = replace(seen(data, shape), weights_on_flash=data.draw(st.booleans()))
    view = replace(view, workload=replace(view.workload, length=data.draw(st.integers(7, 29)), concurrent=()))
    slow = {(a, b): (1.0, data.draw(st.sampled_from([1.0, 30.0]))) for a in range(N) for b in range(N) if a != b}
    view = replace(view, links=view.links.scaled(slow))
    old, new = (data.draw(some_shares(shape)).placement(0, shape, EVERYONE) for _ in range(2))
    before_s, after_s, moved_s = expected_gain(view, old, new)
    assert before_s is not None
    assert after_s is not None
    for steps in (1, 64, 10_000):
        if steps * (before_s - after_s) > moved_s:
            assert may_pay(view, old, new, moves(old, new), steps)


def test_a_change_over_a_link_that_is_too_slow_does_not_pay() -> None:
    functions()
    shape = LLAMA
    view = replace(oracle_view(near_mesh(N, 0), PhysicalCosts(shape), None, 7, 30), weights_on_flash=True)
    view = replace(view, workload=replace(view.workload, length=20))
    there, here = view.layer_times_s.argsort()[[0, -1]].tolist()  # the fastest, the slowest
    old, new = (Placement(dict.fromkeys(all_blocks(shape), device)) for device in (here, there))
    assert may_pay(view, old, new, moves(old, new), 10_000)
    view = view.relinked(view.links.scaled({(here, there): (1.0, 1e9)}))
    assert not may_pay(view, old, new, moves(old, new), 10_000)


@QUICK
@given(st.data())
def test_what_surely_has_room_is_not_refused(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    view, old, new = seen_with_memory(data, shape), data.draw(some_shares(shape)), data.draw(some_shares(shape))
    view = replace(view, workload=replace(view.workload, length=data.draw(st.integers(7, 30))))
    arguments = ShareMemory(view, EVERYONE), ShareMigrations(MoveCosts(view), EVERYONE, old)
    found, known = (each(*arguments).has_room(new) for each in (NeedsCode, PlainNeeds))
    assert found == known
    before = old.placement(0, shape, EVERYONE)
    if found:
        assert not refusing_devices(view, before, new.placement(0, shape, EVERYONE, before))
