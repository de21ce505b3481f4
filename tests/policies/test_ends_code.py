"""Searches near a placement by machine code look at what NumPy's look at, and end where they end, to the last bit.

Of one layer or two: NumPy skips layers that are alike.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, precise_shapes, shapes, uneven_mesh
from support.drawn_shares import EVERYONE, N, some_shares
from support.plain_judge import PlainJudge
from support.share_changes import ShareChanges
from support.share_needs import PlainNeeds

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import moves
from edgeemu.policies.compiled import devices_code
from edgeemu.policies.compiled.blocks_code import BlocksCode
from edgeemu.policies.compiled.devices_code import all_devices, promising_beside
from edgeemu.policies.compiled.share_code import functions
from edgeemu.policies.search import known_placement, share_changes, share_proposals, share_search, vicinity
from edgeemu.policies.search.change_rule import Prospect, expected
from edgeemu.policies.search.known_placement import Known
from edgeemu.policies.search.share_changes import EXACT
from edgeemu.policies.search.share_search import End
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.outlook import Forecasts, Outlook
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape

PROMPT, TOTAL = 7, 200  # tokens
MESSAGE_ENDS = (0.0, 0.0), (1e-4, 0.0), (5e-5, 3e-8)  # seconds that a message, and each of its bytes, takes a device


def seen(data: st.DataObject, shape: ModelShape, *, busy: bool = False) -> ClusterView:
    """A cluster with drawn memory while a long sequence runs. `busy`: messages may keep some devices busy."""
    view = oracle_view(uneven_mesh(N, data.draw(st.integers(0, 2**32))), PhysicalCosts(shape), None, PROMPT, TOTAL)
    memory = st.just(1 << 40)
    memory = data.draw(st.sampled_from([memory, st.integers(0, 4_000_000) | memory]))
    ends = [data.draw(st.sampled_from(MESSAGE_ENDS)) if busy else (0.0, 0.0) for _ in view.devices]
    devices = tuple(
        replace(each, memory_bytes=data.draw(memory), compute=replace(each.compute, message_s=message_s, byte_s=byte_s))
        for each, (message_s, byte_s) in zip(view.devices, ends, strict=True)
    )
    length, concurrent = data.draw(st.integers(PROMPT, TOTAL - 1)), data.draw(st.sampled_from([(), (20,), (20, TOTAL)]))
    workload = replace(view.workload, length=length, concurrent=concurrent)
    on_flash, star, divide = (data.draw(st.booleans()) for _ in range(3))
    return replace(view, devices=devices, workload=workload, weights_on_flash=on_flash, star=star, divide=divide)


def outlook(data: st.DataObject) -> Outlook:
    """Forecasts of some devices, and perhaps of a link."""

    def forecasts(n: int) -> Forecasts:
        drawn = (1.0, 50.0), (0.5, 3.0), (1.0, 60.0), (0.5, 3.0), (0.5, 3.0)
        *known, one, two = (np.array([data.draw(st.floats(*limits)) for _ in range(n)]) for limits in drawn)
        return Forecasts(*known, np.array([one, two]))

    n, n_links = data.draw(st.integers(0, N)), data.draw(st.sampled_from([0, 0, 1]))
    devices, links = np.array(sorted(data.draw(st.permutations(range(N)))[:n]), np.int64), np.arange(n_links)
    return Outlook(devices, forecasts(n), links, links + 1, forecasts(n_links))


def found(view: ClusterView, known: Known, over: float | None) -> tuple[float, list[End]]:
    """Search for 20 steps to come: the cost of the placement in force, and ends with all that is known of them."""
    prospect = Prospect(view, over, 20, 20.0, 20.0)
    judge = known.judge(prospect)
    before, ends = known.ends(prospect, 0.05)
    for end in ends[:EXACT]:
        end.promised = float(judge.promised(end.shares)[0]) if end.promised is None else end.promised
        end.moving_s = known.moving_s(end)
    return before, ends[:EXACT]


class PlainBlocks:
    """Blocks that placements assign to devices, and their migrations, one by one."""

    def __init__(self, costs: MoveCosts, devices: IntArray, owners: BlockOwners) -> None:
        self._costs, self._devices, self._old = costs, devices, owners
        self._before = owners.on(devices).placement()

    def owners(self, shares: ShareArrays) -> BlockOwners:
        return shares.owners(0, self._old.shape, self._old).on(self._devices)

    def moving_s(self, shares: ShareArrays) -> float:
        return self._costs.moves_s(moves(self._before, self.owners(shares).placement()))


def without_machine_code(patch: pytest.MonkeyPatch) -> None:
    """Have the same computed by NumPy."""

    def changes_of(view: ClusterView) -> ShareChanges:
        shape = view.costs.shape
        return ShareChanges(shape.n_groups, n_shards(shape, Kind.FFN), divide=view.divide)

    patch.setattr(known_placement, "ends_code", lambda *_, **__: None)
    patch.setattr(known_placement, "NeedsCode", PlainNeeds)
    patch.setattr(known_placement.BlocksCode, "of", PlainBlocks)
    for module in (known_placement, share_changes):
        patch.setattr(module, "ShareJudge", PlainJudge)
    for module in (share_search, vicinity):
        patch.setattr(module, "changes_of", changes_of)


@QUICK
@given(st.data())
def test_a_search_looks_at_the_same_and_ends_alike(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=2))
    view = seen(data, shape, busy=data.draw(st.booleans()))
    left_out = data.draw(st.sampled_from([*range(N), N]))
    devices = np.delete(EVERYONE, left_out) if left_out < N else EVERYONE
    current = data.draw(some_shares(shape, len(devices))).placement(0, shape, devices)
    view = replace(view, earlier=(data.draw(some_shares(shape)).placement(0, shape, EVERYONE), current))
    over = data.draw(st.none() | st.floats(1.0, 100.0))
    view = replace(view, outlook=outlook(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_placement, "promising_now", lambda *_: devices)
        quick = Known.of(view, current, divide=view.divide)
        assert quick is not None
        assert quick.code is not None
        ends, beside, placements = found(view, quick, over), quick.near.beside, quick.near.placements
        moved = [(quick.has_room(end), quick.is_slower(end), quick.placement(end)) for end in ends[1]]
        without_machine_code(patch)
        plain = Known.of(view, current, divide=view.divide)
        assert plain is not None
        assert plain.code is None
        known = found(view, plain, over)
        assert [(plain.has_room(end), plain.is_slower(end), plain.placement(end)) for end in known[1]] == moved
        assert placements.shares.keys() == plain.near.placements.shares.keys()
    assert (beside, quick.code.missing_bytes) == (plain.near.beside, plain.near.missing_bytes)
    assert quick.fits == plain.fits
    assert ends[0] == known[0]
    assert [(each.cost, each.promised, each.moving_s) for each in ends[1]] == [
        (each.cost, each.promised, each.moving_s) for each in known[1]
    ]
    assert [each.shares.keys() for each in ends[1]] == [each.shares.keys() for each in known[1]]


@QUICK
@given(st.data())
def test_a_placement_that_is_on_other_devices_too_is_not_known(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=2))
    view, current = seen(data, shape), data.draw(some_shares(shape)).placement(0, shape, EVERYONE)
    devices = np.delete(EVERYONE, data.draw(st.sampled_from(current.devices())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_placement, "promising_now", lambda *_: devices)
        assert Known.of(view, current, divide=view.divide) is None


@QUICK
@given(st.data())
def test_blocks_stay_and_move_as_they_do_one_by_one(data: st.DataObject) -> None:
    shape = data.draw(shapes(max_layers=6) | precise_shapes())
    view = seen(data, shape, busy=data.draw(st.booleans()))
    old, new = data.draw(some_shares(shape)), data.draw(some_shares(shape))
    before, costs = old.placement(0, shape, EVERYONE), MoveCosts(view)
    owners = BlockOwners.of(before, shape)
    assert owners is not None
    assert owners.placement() == before
    code, after = BlocksCode.of(costs, EVERYONE, owners), new.placement(0, shape, EVERYONE, before)
    assert code.moving_s(new) == costs.moves_s(moves(before, after))
    assert code.owners(new).placement() == after
    assert BlockOwners.of(after, shape).numbers.tolist() == code.owners(new).numbers.tolist()


@QUICK
@given(st.data(), st.integers(1, N - 1))
def test_promising_devices_are_the_same(data: st.DataObject, size: int) -> None:
    shape = data.draw(shapes())
    view, current = seen(data, shape), data.draw(some_shares(shape)).placement(0, shape, EVERYONE)
    slowdowns = np.array([data.draw(st.sampled_from([1.0, 2.5])) for _ in range(N)])
    view = view.slowed(slowdowns, view.memory_bytes)
    for others in ([current], []):
        owners = [device for each in others for device in each.owner.values()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(share_proposals, "_most", lambda *_: size)
            known = share_proposals.promising(view, others, 1.0)
        assert promising_beside(view, all_devices(view), np.array([-1, *owners]), size).tolist() == known.tolist()


@QUICK
@given(st.data(), st.floats(1.0, 100.0))
def test_devices_are_expected_to_be_the_same(data: st.DataObject, tokens: float) -> None:
    view = replace(seen(data, data.draw(shapes())), outlook=outlook(data))
    with pytest.MonkeyPatch.context() as patch:
        functions()
        found = expected(view, tokens)
        patch.setattr(devices_code, "functions_made", lambda: None)
        known = expected(view, tokens)
    for each in ("flops_per_s", "mem_bytes_per_s", "overhead_s"):
        assert getattr(found, each).tolist() == getattr(known, each).tolist()
    assert found.devices == known.devices
