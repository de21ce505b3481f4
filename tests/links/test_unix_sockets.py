"""Sockets between devices: what the kernel does not take at once follows, in order, and memory is bounded."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeemu.links.framing import framed
from edgeemu.links.interface import LinkLostError
from edgeemu.links.unix_sockets import HIGH_WATER, UnixSockets

LARGE_BYTES = 1 << 20  # more than the kernel keeps of a connection


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"ipc://{tmp_path_factory.mktemp('s')}/there"


@pytest.fixture
def sender(address: str) -> Iterator[UnixSockets]:
    made = UnixSockets(f"{address}-not")
    yield made
    made.close()


@pytest.fixture
def receiver(address: str) -> Iterator[UnixSockets]:
    made = UnixSockets(address)
    yield made
    made.close()


def received(sockets: UnixSockets, number: int) -> list[list[bytes]]:
    """So many messages, as they come."""
    messages: list[list[bytes]] = []
    looks = 0
    while len(messages) < number:
        messages += sockets.take()
        looks += 1
        assert looks < 10_000, "nothing comes any more"
        select.select([], [], [], 5e-4)
    return messages


def test_it_waits_for_messages_and_for_what_else_can_be_read(
    sender: UnixSockets, receiver: UnixSockets, address: str
) -> None:
    other = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        assert not receiver.wait(other, 0.0)
        assert receiver.take() == []
        sender.offer(address, framed([b"a", b"b"]))
        assert not receiver.wait(other, None)  # a connection
        assert receiver.take() == []
        assert not receiver.wait(other, 5.0)
        os.eventfd_write(other, 1)
        assert receiver.wait(other, 5.0)
        assert receiver.take() == [[b"a", b"b"]]
        assert receiver.wait(other, None)  # until it is read
    finally:
        os.close(other)


def test_large_messages_and_those_behind_them_come_in_order(
    sender: UnixSockets, receiver: UnixSockets, address: str
) -> None:
    payloads = [bytes([n]) * (LARGE_BYTES if n % 3 == 0 else n) for n in range(12)]
    for n, payload in enumerate(payloads):
        assert sender.offer(address, framed([bytes([n]), payload]))
    assert received(receiver, len(payloads)) == [[bytes([n]), payload] for n, payload in enumerate(payloads)]
    assert receiver.take() == []


def test_what_waits_is_what_it_was_when_it_was_sent(sender: UnixSockets, receiver: UnixSockets, address: str) -> None:
    """A kernel may compute its next result in the same memory."""
    payload = bytearray(LARGE_BYTES)
    for _ in range(2):
        sender.offer(address, framed([b"", memoryview(payload)]))
    payload[:] = b"x" * LARGE_BYTES
    assert all(message == [b"", bytes(LARGE_BYTES)] for message in received(receiver, 2))


def test_so_much_waits_and_no_more(sender: UnixSockets, receiver: UnixSockets, address: str) -> None:
    sent = 0
    while sender.offer(address, framed([str(sent).encode(), bytes(LARGE_BYTES)])):
        sent += 1
    assert HIGH_WATER <= sent <= HIGH_WATER + 2
    assert not sender.has_room(address)
    assert [int(header) for header, _ in received(receiver, sent)] == list(range(sent))


def test_an_inbox_takes_in_so_much_at_once_and_no_more(
    sender: UnixSockets, receiver: UnixSockets, address: str
) -> None:
    """However fast a sender is: what was taken and not yet handled is memory that no ledger counts."""
    for _ in range(100):
        sender.offer(address, framed([b"", bytes(1000)]))
    most = 0
    came = 0
    while came < 100:
        taken = len(receiver.take())
        most, came = max(most, taken), came + taken
    assert most <= 66


def test_two_that_send_before_they_receive_do_not_wait_for_each_other(
    sender: UnixSockets, receiver: UnixSockets, address: str
) -> None:
    """The first takes in what the second has sent while it waits for room."""
    while receiver.offer(f"{address}-not", framed([b"back", bytes(LARGE_BYTES)])):
        pass
    while sender.offer(address, framed([b"", bytes(LARGE_BYTES)])):
        pass
    taken: list[list[bytes]] = []
    received(receiver, 1)
    taken += sender.push(address, framed([b"", b"last"]))
    taken += received(sender, HIGH_WATER - len(taken))
    assert {header for header, _ in taken} == {b"back"}


def test_a_receiver_that_is_gone_is_noticed(sender: UnixSockets, address: str) -> None:
    receiver = UnixSockets(address)
    assert sender.offer(address, framed([b"", bytes(LARGE_BYTES)]))
    receiver.close()
    with pytest.raises(LinkLostError, match="there is lost"):
        all(sender.offer(address, framed([b"", b""])) for _ in range(HIGH_WATER + 1))
    assert not Path(address.removeprefix("ipc://")).exists()
    with pytest.raises(LinkLostError):
        sender.has_room(address)
    with pytest.raises(LinkLostError):
        sender.has_room(f"{address}-never")


@pytest.mark.parametrize("waits", [False, True], ids=["nothing waits", "more than the kernel takes waits"])
def test_a_receiver_in_the_place_of_one_that_is_gone_is_sent_to_when_that_is_asked_for(
    sender: UnixSockets, address: str, waits: bool
) -> None:
    first = UnixSockets(address)
    sender.offer(address, framed([b"first", bytes(4 * LARGE_BYTES if waits else 1)]))
    sender.forget_broken(address)  # it is there
    while not first.has_some:
        select.select([], [], [], 1e-3)
    first.take()
    first.close()
    sender.forget_broken(address)
    second = UnixSockets(address)
    try:
        assert not second.has_some
        assert sender.offer(address, framed([b"second", b""]))
        assert received(second, 1) == [[b"second", b""]]
    finally:
        second.close()
