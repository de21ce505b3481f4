"""Replicas: where they are, what they have after any rounds, and which take the place of what was lost."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, divided_placements, placements, shapes

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, Kind, all_blocks
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.memory import Usage, usages
from edgeemu.placement.placement import Placement
from edgeemu.placement.replica_copies import ReplicaCopies, read_ends
from edgeemu.placement.replicas import Replica, place_replicas, promotion, replica_bytes
from edgeemu.placement.shipments import Shipment
from edgeemu_kernels.shape import ModelShape

LENGTH = 20
ROOMY = 1 << 40
COSTS = PhysicalCosts(LLAMA)


def held_under(placement: Placement, shape: ModelShape, n_devices: int) -> list[Usage]:
    return usages(placement, PhysicalCosts(shape), n_devices, 4, LENGTH, (LENGTH,))


@QUICK
@given(st.data())
def test_replicas_are_on_other_devices_that_have_room_for_them(data: st.DataObject) -> None:
    shape, n_devices = data.draw(shapes()), data.draw(st.integers(2, 5))
    placement = data.draw(st.one_of(placements(shape, n_devices), divided_placements(shape, n_devices)))
    wanted = data.draw(st.integers(1, n_devices - 1))
    alone = [usage.page().total_bytes for usage in held_under(placement, shape, n_devices)]
    room = data.draw(st.sampled_from([sum(alone) // 2, sum(alone), 2 * sum(alone), ROOMY]))
    memory_bytes = [own + room for own in alone]
    try:
        found = place_replicas(
            placement, wanted, held_under(placement, shape, n_devices), memory_bytes, lambda a, b: abs(a - b)
        )
    except InfeasibleError:
        assert room != ROOMY
        return
    assert len(found) == wanted * len(placement.owner)
    assert {replica.block for replica in found} == set(placement.owner)
    assert all(placement.owner[block] != holder for block, holder in found)
    after = held_under(placement, shape, n_devices)
    for device, usage in enumerate(after):
        mine = [block for block, holder in found if holder == device]
        own, added = usage.page(), sum(replica_bytes(block, usage) for block in mine)
        assert own.total_bytes + added <= memory_bytes[device]
        assert usage.page_with(*mine).total_bytes <= memory_bytes[device], "it can run them"


def test_a_device_without_memory_holds_nothing_and_the_nearest_is_taken() -> None:
    placement = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    near = {1: 3.0, 2: 1.0, 3: 2.0}
    memory_bytes = [ROOMY, ROOMY, 0, ROOMY]
    found = place_replicas(placement, 1, held_under(placement, LLAMA, 4), memory_bytes, lambda _, to: near[to])
    assert {holder for _, holder in found} == {3}
    kept = place_replicas(
        placement,
        1,
        held_under(placement, LLAMA, 4),
        [ROOMY] * 4,
        lambda _, to: near[to],
        [Replica(EMBED, 1)],
    )
    assert {holder for _, holder in kept} == {1}, "who has something already keeps it"


def test_what_no_device_has_room_for_alone_is_spread() -> None:
    placement = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    all_bytes = held_under(placement, LLAMA, 3)[0].page().total_bytes
    memory_bytes = [all_bytes, int(0.8 * all_bytes), int(0.8 * all_bytes)]
    found = place_replicas(placement, 1, held_under(placement, LLAMA, 3), memory_bytes, lambda *_: 1.0)
    assert {holder for _, holder in found} == {1, 2}
    with pytest.raises(InfeasibleError, match=r"no room for replicas of .* blocks of device 0; for .*: device 1 would"):
        place_replicas(placement, 2, held_under(placement, LLAMA, 3), memory_bytes, lambda *_: 1.0)


@QUICK
@given(st.data())
def test_a_promotion_has_a_replica_of_everything_that_was_lost_or_there_is_none(data: st.DataObject) -> None:
    n_devices = data.draw(st.integers(2, 5))
    placement = data.draw(placements(LLAMA, n_devices))
    wanted = data.draw(st.integers(1, n_devices - 1))
    found = place_replicas(
        placement, wanted, held_under(placement, LLAMA, n_devices), [ROOMY] * n_devices, lambda a, b: abs(a - b)
    )
    lost = data.draw(st.sets(st.integers(0, n_devices - 1), max_size=n_devices - 1))
    chosen = promotion(placement, lost, found)
    if chosen is None:
        assert len(lost) > wanted
        return
    assert sorted(replica.block for replica in chosen) == sorted(
        block for block, owner in placement.owner.items() if owner in lost
    )
    assert found.issuperset(chosen)
    assert all(replica.holder not in lost for replica in chosen)


@QUICK
@given(st.integers(0, 10**6), st.sampled_from([None, 0, 2]))
def test_replicas_have_the_rows_that_arrived_whatever_order_rounds_take(seed: int, store: int | None) -> None:
    """Tokens, arrivals, rounds that are given up, caches that are shortened and holders that are lost, in any order."""
    draw = random.Random(seed)
    placement = Placement({block: draw.randrange(3) for block in all_blocks(LLAMA)})
    replicas = frozenset(Replica(block, (owner + 1) % 3) for block, owner in placement.owner.items())
    copies = ReplicaCopies(1, placement, replicas, store, unloaded=replicas)
    rows, has = {0: 3, 1: 1}, {replica: {0: 0, 1: 0} for replica in replicas}
    loaded, flying = set[Replica](), dict[int, tuple[int, list[Shipment], list[Replica]]]()
    for _ in range(40):
        what = draw.choice(["token", "round", "round", "arrive", "arrive", "stop", "rewind", "lose", "lose"])
        if what == "token":
            rows[draw.randrange(2)] += 1
        elif what == "round" and (made := copies.next_round(rows)) is not None:
            for holder in {*(shipment.target for shipment in made.shipments), *made.reads}:
                assert holder not in flying, "one round at a time goes to a holder"
                mine = [shipment for shipment in made.shipments if shipment.target == holder]
                flying[holder] = made.number, mine, made.reads.get(holder, [])
                ends = read_ends(made, 1.0, 1e6, COSTS)
                assert (holder in ends) == (holder in made.reads)
        elif what == "arrive" and flying:
            holder = draw.choice(sorted(flying))
            number, shipments, reads = flying.pop(holder)
            copies.arrived(holder, number)
            loaded.update(reads)
            for block, source, _, sequence, first_row, end_row, with_weights, _ in shipments:
                replica = Replica(block, holder)
                if with_weights:
                    assert source == store
                    loaded.add(replica)
                else:
                    assert source == placement.owner[block]
                    assert has[replica][sequence] == first_row, "rows follow those that are there"
                    has[replica][sequence] = end_row
        elif what == "lose":
            lost = draw.randrange(3)
            copies.lost({lost})
            if lost in flying:
                copies.arrived(lost, flying.pop(lost)[0])  # told before it was lost, and heard after
            loaded = {replica for replica in loaded if replica.holder != lost}
            has |= {replica: {0: 0, 1: 0} for replica in replicas if replica.holder == lost}
        elif what == "stop":
            flying.clear()
            copies.stop()
        elif what == "rewind":
            flying.clear()
            copies.stop()
            cut = {sequence: draw.randint(0, end) for sequence, end in rows.items()}
            copies.rewound(cut, 1, rows)
            for replica, there in has.items():
                if replica.block.layer < 1:
                    has[replica] = {sequence: min(end, cut[sequence]) for sequence, end in there.items()}
            rows = {sequence: max(1, cut[sequence]) for sequence in rows}
            has = {each: {n: min(end, rows[n]) for n, end in there.items()} for each, there in has.items()}
            copies.rewound(rows, LLAMA.n_layers, rows)
        assert copies.loaded == loaded
    heads = [replica for replica in replicas if replica.block.kind is Kind.HEAD]
    assert all(copies.rows(head, sequence) == has[head][sequence] for head in heads for sequence in rows)
    assert copies.common_rows(replicas, rows) == {n: min(has[head][n] for head in heads) for n in rows}
