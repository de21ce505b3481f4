"""Chunks of blocks that move, and test messages, keep processors busy: instants by hand on the simulator's timeline."""

from dataclasses import replace

import pytest
from support.builders import even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change, Link
from edgeemu.placement.blocks import Block, Kind, all_blocks, ffn, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Op
from edgeemu.placement.shipments import Shipment
from edgeemu.timeline.shipping import Round, Shipped
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Step, TokenTime
from edgeemu_kernels.shape import ModelShape

# Small enough to add up on paper: a feed-forward block is four chunks of 100 bytes, each with a header of 64.
PAPER = ModelShape("paper", 1, 4, 2, 2, 2, 8, 16, 64)
LINK = Link(bandwidth_bps=800.0, delay_s=0.25)  # 100 bytes a second
CHUNK_BYTES = 100
WORK_S = {Kind.EMBED: 1.0, Kind.HEAD: 2.0, Kind.PROJ: 1.0, Kind.FFN: 3.0, Kind.LM_HEAD: 4.0}
ENDS = list[tuple[float, float]]
Handled = tuple[int, bool, float, float, float]  # device, sends; ready, begun, done


def busy(overheads_s: ENDS) -> Cluster:
    """Devices with so many seconds per message and per byte."""
    cluster = even_cluster(len(overheads_s), LINK)
    devices = [
        replace(device, message_overhead_s=message_s, byte_overhead_s=byte_s)
        for device, (message_s, byte_s) in zip(cluster.devices, overheads_s, strict=True)
    ]
    return Cluster(cluster.name, cluster.seed, tuple(devices), cluster.topology)


def simulator(overheads_s: ENDS) -> Simulator:
    def duration_s(op: Op, _: Step) -> float:
        assert isinstance(op.kind, Kind)
        return WORK_S[op.kind]

    return Simulator(busy(overheads_s), PhysicalCosts(PAPER), duration_s)


def ship(made: Simulator, block: Block, *ways: tuple[int, int], at_s: float = 10.0) -> Round:
    shipments = [Shipment(block, *way, -1, 0, 0, with_weights=True) for way in ways]
    return made.ship(shipments, at_s, epoch=2, number=1, chunk_bytes=CHUNK_BYTES, flash_s={})


def handled(made: Simulator, *, sent: bool) -> list[Handled]:
    transfers = [(each.device, each.sends, *each.time) for each in made.take_transfers()]
    return [each for each in transfers if each[1] == sent]


def test_chunks_are_prepared_while_the_link_is_taken_and_taken_in_one_after_the_other() -> None:
    made = simulator([(0.5, 0.0), (0.1, 0.01)])
    round_ = ship(made, ffn(0), (0, 1))
    assert made.advance() == Shipped(1, pytest.approx(19.35), round_)
    transfers = made.take_transfers()
    sent = [each.time for each in transfers if each.sends]
    taken = [each.time for each in transfers if not each.sends]
    assert sent == [
        pytest.approx(each)
        for each in ((10.0, 10.0, 10.5), (10.5, 10.5, 11.0), (12.14, 12.14, 12.64), (13.78, 13.78, 14.28))
    ]  # the link takes 1.64 s for a chunk
    assert taken == [
        pytest.approx(each)
        for each in ((12.39, 12.39, 14.13), (14.03, 14.13, 15.87), (15.67, 15.87, 17.61), (17.31, 17.61, 19.35))
    ]
    assert {each.device for each in transfers if each.sends} == {0}


def test_a_processor_slower_than_its_link_sets_the_pace() -> None:
    made = simulator([(2.0, 0.0), (0.0, 0.0)])
    round_ = ship(made, ffn(0), (0, 1))
    assert made.advance() == Shipped(1, pytest.approx(10.0 + 4 * 2.0 + 1.64 + 0.25), round_)
    assert handled(made, sent=False) == []


def test_two_that_send_to_one_wait_for_its_processor() -> None:
    made = simulator([(0.0, 0.0), (0.0, 0.0), (0.5, 0.0)])
    round_ = ship(made, proj(0), (0, 2), (1, 2), at_s=0.0)
    assert made.advance() == Shipped(2, pytest.approx(1.28 + 0.25 + 2 * 0.5), round_)
    transfers = made.take_transfers()
    assert [each.sends for each in transfers] == [False, False]
    assert [each.time for each in transfers] == [
        pytest.approx((1.53, 1.53, 2.03)),
        pytest.approx((1.53, 2.03, 2.53)),
    ]


def test_under_load_a_chunk_takes_longer_too() -> None:
    made = simulator([(0.0, 0.0), (0.5, 0.0)])
    made.change(Change(devices=(1,), speed=0.5), 0.0)
    round_ = ship(made, proj(0), (0, 1), at_s=0.0)
    assert made.advance() == Shipped(1, pytest.approx(1.28 + 0.25 + 1.0), round_)


def test_a_step_goes_before_the_chunks_and_they_before_the_next() -> None:
    """All blocks are on device 0, whose step has something ready until its token; then the chunk is sent."""
    made = simulator([(0.5, 0.0), (0.0, 0.0)])
    program = compile_routes(Placement(dict.fromkeys(all_blocks(PAPER), 0)), PAPER)
    made.start(Step(0, 0, 1, 0), program, 0.0)
    ship(made, proj(0), (0, 1), at_s=2.5)
    token = made.advance()
    assert isinstance(token, TokenTime)
    assert token.sampled_s == 11.0
    made.start(Step(0, 1, 1, 1), program, 11.0)
    assert made.next_token() == TokenTime(Step(0, 1, 1, 1), 11.0 + 0.5 + 11.0)
    assert [each[2:] for each in handled(made, sent=True)] == [(2.5, 11.0, 11.5)]


def test_a_cancelled_round_costs_nothing_more() -> None:
    made = simulator([(0.5, 0.0), (0.5, 0.0)])
    round_ = ship(made, ffn(0), (0, 1))
    assert made.advance(12.5) is None  # the first has arrived, and is being taken in
    round_.cancelled = True
    assert made.advance() is None
    assert len(handled(made, sent=True)) <= 3


def test_test_messages_depart_one_after_the_other_and_are_known_when_taken_in() -> None:
    made = simulator([(0.5, 0.0), (0.1, 0.0)])
    made.probe((0, 1), 1, [68, 164], 0.0, (0, 1))
    made.advance(3.1)
    assert made.take_probed() == []
    made.advance()
    first, second = made.take_probed()
    assert first.sum_s == pytest.approx(0.68 + 0.25)
    assert second.sum_s == pytest.approx(1.64 + 0.25)  # it departs at 1.0, and waits for the first until 1.18
    assert [each.time.end_s for each in made.take_transfers()] == [
        pytest.approx(each) for each in (0.5, 1.0, 1.53, 3.17)
    ]
