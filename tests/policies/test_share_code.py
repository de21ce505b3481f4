"""Machine code that looks at placements finds what NumPy finds: to the last bit, but for layers that are skipped."""

from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, shapes, uneven_mesh
from support.drawn_shares import EVERYONE, N, some_shares

from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.policies.compiled.share_code import NearCode, NeedsCode, StepCode
from edgeemu.policies.search.share_bounds import StepBounds
from edgeemu.policies.search.share_moves import ShareChanges, neighbours
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import Requirements, ShareNeeds
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape


def seen(data: st.DataObject, shape: ModelShape) -> ClusterView:
    mesh = uneven_mesh(N, data.draw(st.integers(0, 2**32)))
    return replace(oracle_view(mesh, PhysicalCosts(shape), None, 7, 30), star=data.draw(st.booleans()))


def batch(data: st.DataObject, shape: ModelShape) -> ShareArrays:
    return ShareArrays.joined([data.draw(some_shares(shape)) for _ in range(3)])


@QUICK
@given(st.data())
def test_steps_take_as_long(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    times, shares = ShareTimes(seen(data, shape), EVERYONE, 7), batch(data, shape)
    found_s = StepCode(times, shape.n_layers).steps(Folded.of(shares))
    assert found_s == pytest.approx(step_of(times, shares).step_s, rel=1e-12)


@QUICK
@given(st.data())
def test_a_step_that_cannot_be_below_the_limit_is_only_bounded(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=8))
    times, near = ShareTimes(seen(data, shape), EVERYONE, 7), Folded.of(batch(data, shape))
    code, needs = StepCode(times, shape.n_layers), Requirements(np.array([0, 0, 5]), np.array([1.0, 2.0, 3.0]))
    bounds_s = StepBounds(times).least_s(near.shares, near.runs.lengths)
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
    view = replace(seen(data, shape), weights_on_flash=data.draw(st.booleans()))
    devices = tuple(replace(each, memory_bytes=data.draw(st.integers(0, 2_000_000))) for each in view.devices)
    view, near = replace(view, devices=devices), Folded.of(batch(data, shape))
    arguments = ShareMemory(view, EVERYONE), ShareMigrations(MoveCosts(view), EVERYONE, near.unfolded([0]))
    found, known = (each(*arguments).of(near) for each in (NeedsCode, ShareNeeds))
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
