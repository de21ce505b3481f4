"""A process that did not run for a while knows for how long, and charges no message with it."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.cluster.links import Hop, Path
from edgeemu.links.kernel import BULK_SHARE, KernelLinks
from edgeemu.links.messages import ChunkHeader, Data, Frames, ShipmentChunk, encode_chunk, encode_data
from edgeemu.links.stalls import STALL_S, Stalls
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES, head
from edgeemu.placement.program import MessageKind
from edgeemu.placement.shipments import Shipment
from edgeemu.timeline.clock import WallClock

DILATION = 4.0


def beaten(*instants_s: float) -> Stalls:
    stalls = Stalls()
    for instant_s in instants_s:
        stalls.beat(instant_s)
    return stalls


def test_a_gap_between_beats_is_a_stall() -> None:
    stalls = beaten(0.0, 0.01, 0.51, 0.52)
    assert stalls.overlap_s(0.0, 1.0) == pytest.approx(0.5)
    assert stalls.overlap_s(0.2, 0.3) == pytest.approx(0.1)
    assert stalls.overlap_s(0.5, 0.6) == pytest.approx(0.01)
    assert stalls.overlap_s(0.6, 0.7) == 0.0
    assert stalls.take_s() == pytest.approx(0.5)
    assert stalls.take_s() == 0.0


def test_beats_that_are_a_little_late_are_none() -> None:
    assert beaten(*np.arange(0, 2, 0.99 * STALL_S)).take_s() == 0.0


def test_waiting_for_something_else_is_none() -> None:
    stalls = beaten(0.0)
    stalls.pause()
    stalls.beat(5.0)
    assert stalls.take_s() == 0.0


@QUICK
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.floats(0, 5), st.floats(0, 5))
def test_an_overlap_is_within_its_interval(steps_s: list[float], begin_s: float, took_s: float) -> None:
    stalls = beaten(*np.cumsum(steps_s))
    assert 0.0 <= stalls.overlap_s(begin_s, begin_s + took_s) <= took_s + 1e-9


@dataclass
class FakeInbox:
    """An inbox of messages with the instants at which a process received them."""

    stalls: Stalls = field(default_factory=Stalls)
    messages: list[tuple[float, list[bytes]]] = field(default_factory=list)

    def take(self) -> list[tuple[float, list[bytes]]]:
        messages, self.messages = self.messages, []
        return messages


def links_of(inbox: FakeInbox, now_s: list[float]) -> KernelLinks:
    links = KernelLinks(zmq.Context.instance(), inbox, 1, lambda: now_s[0], hybrid=True)  # type: ignore[arg-type]
    links.begin(WallClock(0.0, DILATION))
    return links


def as_received(frames: Frames) -> list[bytes]:
    return [bytes(frame) for frame in frames]


def data(departure_s: float, sent_s: float) -> list[bytes]:
    payload = np.zeros((1, 4), np.float32)
    message = Data(MessageKind.HIDDEN, 0, 1, 0, 1, 1, 3, departure_s, departure_s, payload, 1, 0, sent_s)
    return as_received(encode_data(message))


def chunk(due_s: float, sent_s: float, lag_s: float) -> list[bytes]:
    shipment = Shipment(head(0, 0), 1, 2, 0, 0, 4, with_weights=False)
    header = ChunkHeader(2, 0, shipment, 0, 4, 0, departure_s=due_s, arrival_s=due_s, sent_s=sent_s, lag_s=lag_s)
    return as_received(encode_chunk(ShipmentChunk(header, b"abcd")))


def arrivals_s(inbox: FakeInbox, stamp_s: float, frames: list[bytes]) -> float:
    links = links_of(inbox, [0.0])
    inbox.messages.append((stamp_s, frames))
    (message,) = links.receive()
    return message.header.arrival_s if isinstance(message, ShipmentChunk) else message.arrival_s


def test_a_message_is_not_charged_with_a_stall_of_its_receiver() -> None:
    stalled = beaten(*np.arange(3.0, 4.0, 0.01), 4.002, 5.5, 5.51)  # stood still from 4.002 to 5.5
    calm = arrivals_s(FakeInbox(), 4.004, data(1.0, 4.0))
    late = arrivals_s(FakeInbox(stalled), 5.5, data(1.0, 4.0))
    assert calm == pytest.approx(1.0 + 0.004 / DILATION)
    assert late == pytest.approx(1.0 + 0.002 / DILATION)


def test_a_chunk_is_charged_with_no_stall_of_either_end() -> None:
    due_s, wall_s = 1.0, DILATION * 1.0
    calm = arrivals_s(FakeInbox(), wall_s + 0.004, chunk(due_s, wall_s, 0.0))
    sender = arrivals_s(FakeInbox(), wall_s + 1.504, chunk(due_s, wall_s + 1.5, 1.5))
    receiver = arrivals_s(FakeInbox(beaten(wall_s + 0.004, wall_s + 1.5)), wall_s + 1.5, chunk(due_s, wall_s, 0.0))
    assert calm == sender == receiver == pytest.approx(due_s + 0.004 / DILATION)


def test_a_late_sender_says_how_late_it_was() -> None:
    class Connected:
        has_room = False
        sent: Frames

        def offer(self, frames: Frames) -> None:
            self.sent = frames

    now_s = [DILATION * 1.0 + 0.6]
    links, connected = links_of(FakeInbox(), now_s), Connected()
    links.connect = lambda _: None  # type: ignore[method-assign]
    links._paths[2] = Path((Hop(0, 8e6, 0.0),), 0.0, 0.0)
    links._bulk_connections[2] = connected  # type: ignore[assignment]
    payload = ShipmentChunk(
        ChunkHeader(2, 0, Shipment(head(0, 0), 1, 2, 0, 0, 4, with_weights=False), 0, 4, 0), b"abcd"
    )
    assert links.send_chunk(payload, 0, 2, 1.0) is None
    now_s[0] += 0.08  # the network's time, not the sender's
    connected.has_room = True
    taken_s = links.send_chunk(payload, 0, 2, 1.0)
    header = msgspec.msgpack.decode(connected.sent[0], type=ChunkHeader)
    assert header.lag_s == pytest.approx(0.6)
    assert taken_s == pytest.approx(1.0 + 0.08 / DILATION)
    assert header.arrival_s == pytest.approx(1.0 + 8 * (MESSAGE_HEADER_BYTES + 4) / (BULK_SHARE * 8e6))
