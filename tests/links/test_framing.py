"""A stream of bytes gives the messages that were put into it, however it is cut; what is no message is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.links.framing import LENGTHS, MAX_HEADER_BYTES, Assembler, framed
from edgeemu.links.messages import WireError

MESSAGES = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=40)), max_size=6)


@QUICK
@given(MESSAGES, st.lists(st.integers(1, 30), min_size=1))
def test_messages_come_whole_and_in_order_however_their_bytes_are_cut(
    sent: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(framed([header, payload]) for header, payload in sent)
    assembler, received, at = Assembler(), list[list[bytes]](), 0
    while at < len(stream):
        size = sizes[len(received) % len(sizes)]
        received += assembler.take(stream[at : at + size])
        at += size
        whole = b"".join(framed([*frames]) for frames in received)
        assert stream.startswith(whole)
        assert (assembler.missing_bytes > 0) == (len(whole) < min(at, len(stream)))  # else nothing has begun
    assert received == [[header, payload] for header, payload in sent]


def test_a_stream_that_has_no_messages_is_refused() -> None:
    with pytest.raises(WireError, match="not one of messages"):
        Assembler().take(LENGTHS.pack(MAX_HEADER_BYTES + 1, 0))
