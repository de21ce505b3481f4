"""Connections between devices: bounded memory on both ends, and nothing lost or out of order."""

import zmq

from edgeemu.links.connections import HIGH_WATER, Connection, PlainInbox


def test_an_inbox_takes_in_so_much_at_once_and_no_more() -> None:
    """However fast a sender is: what was taken and not yet handled is memory that no ledger counts."""
    with zmq.Context() as context:
        inbox = PlainInbox(context, "inproc://inbox")
        connection = Connection(context, "inproc://inbox")
        sent = 0
        while connection.offer([str(sent).encode()]):
            sent += 1
        assert sent > HIGH_WATER
        received: list[int] = []
        while inbox.waiting:
            taken = inbox.take()
            assert len(taken) <= HIGH_WATER
            received += [int(frames[0]) for _, frames in taken]
        assert received == list(range(sent))
        connection.close()
        inbox.close()
