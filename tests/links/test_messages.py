"""Messages decode to what was encoded, and no bytes raise anything but the documented errors."""

import math
from collections.abc import Callable
from contextlib import suppress
from enum import EnumType
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.builders import QUICK, divided_placements, scattered, shapes

from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.links import messages
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.program import MessageKind
from edgeemu_kernels.shape import ModelShape

FUZZ = settings(QUICK, max_examples=200)
TO_DEVICE, FROM_DEVICE = get_args(protocol_in.ToDevice), get_args(protocol_out.FromDevice)

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    type(None): st.none(),
    Any: st.one_of(st.integers(0, 9), st.text(max_size=3), st.lists(st.floats(0, 1), max_size=2)),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that a message may have."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind in SCALARS:
        return SCALARS[kind]
    if isinstance(kind, EnumType):
        return st.sampled_from(kind)
    if isinstance(kind, UnionType):
        return st.one_of(*map(values, parts))
    if origin is list:
        return st.lists(values(parts[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=3)
    if origin is tuple and parts[1:] == (...,):
        return st.lists(values(parts[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, parts))
    return records(kind)


@cache
def records(kind: type) -> st.SearchStrategy[Any]:
    """Structs and named tuples; some hold others of their own kind."""
    return st.deferred(lambda: st.builds(kind, **{name: values(part) for name, part in get_type_hints(kind).items()}))


@pytest.mark.parametrize("kind", TO_DEVICE, ids=lambda kind: kind.__name__)
def test_requests_come_back_as_they_were(kind: type) -> None:
    @QUICK
    @given(values(kind))
    def check(message: protocol_in.ToDevice) -> None:
        decoded = codec.decode_for_device(codec.encode(message))
        assert type(decoded) is kind
        assert decoded == message

    check()


@pytest.mark.parametrize("kind", FROM_DEVICE, ids=lambda kind: kind.__name__)
def test_answers_come_back_as_they_were(kind: type) -> None:
    @QUICK
    @given(values(kind))
    def check(message: protocol_out.FromDevice) -> None:
        decoded = codec.decode_for_controller(codec.encode(message))
        assert type(decoded) is kind
        assert decoded == message

    check()


@QUICK
@given(values(protocol_in.DeviceConfig))
def test_what_a_device_is_told_at_birth_comes_back(spec: protocol_in.DeviceConfig) -> None:
    assert msgspec.msgpack.decode(codec.encode(spec), type=protocol_in.DeviceConfig) == spec


@QUICK
@given(st.data(), shapes(), st.integers(0, 99))
def test_operations_come_back_as_they_were(data: st.DataObject, shape: ModelShape, seed: int) -> None:
    divided = data.draw(divided_placements(shape, 3))
    ops = list(compile_routes(divided, shape).ops) + list(compile_routes(scattered(shape, 3, seed), shape).ops)
    sent = codec.encode(protocol_in.Assign(1, {"kind": "seeded"}, ops, []))
    received = codec.decode_for_device(sent)
    assert isinstance(received, protocol_in.Assign)
    assert received.ops == ops
    for op in received.ops:
        assert isinstance(op.emits.kind, MessageKind)


@QUICK
@given(st.one_of(*map(values, TO_DEVICE)), st.one_of(*map(values, FROM_DEVICE)))
def test_the_two_directions_cannot_be_confused(request: protocol_in.ToDevice, answer: protocol_out.FromDevice) -> None:
    with pytest.raises(messages.WireError, match="not a control message of this version: ") as refused:
        codec.decode_for_controller(codec.encode(request))
    assert isinstance(refused.value.__cause__, msgspec.ValidationError)
    with pytest.raises(messages.WireError, match="not a control message of this version: ") as refused:
        codec.decode_for_device(codec.encode(answer))
    assert isinstance(refused.value.__cause__, msgspec.ValidationError)


@FUZZ
@given(st.data(), st.one_of(*map(values, TO_DEVICE)))
def test_broken_control_frames_are_refused_as_such(data: st.DataObject, message: protocol_in.ToDevice) -> None:
    broken = data.draw(damaged(codec.encode(message)))
    decoders: list[Callable[[bytes], object]] = [codec.decode_for_device, codec.decode_for_controller]
    for decode in decoders:
        with suppress(messages.WireError):
            decode(broken)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x81\xa4type\xaa\x80orgetPeak",  # not UTF-8
        b"\x82\xa4type\xa6Assign\xa6source\x81\xa0" + b"\x91" * 100_000,  # deeper than anything can be read
        codec.encode(protocol_in.Close(1)) + b"\0",
    ],
    ids=["empty", "text", "deep", "long"],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(messages.WireError, match="not a control message of this version"):
        codec.decode_for_device(frame)


def damaged(frame: bytes) -> st.SearchStrategy[bytes]:
    """The frame with a byte changed, cut short or lengthened; or anything at all."""

    def changed(at: int, byte: int) -> bytes:
        return frame[:at] + bytes([byte]) + frame[at + 1 :]

    return st.one_of(
        st.binary(max_size=100),
        st.builds(changed, st.integers(0, len(frame) - 1), st.integers(0, 255)),
        st.integers(0, len(frame) - 1).map(lambda length: frame[:length]),
        st.binary(min_size=1, max_size=9).map(lambda more: frame + more),
    )


# -- data -----------------------------------------------------------------------------------------------------------

unsigned = st.integers(0, 2**32 - 1)
activations = arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)))
tokens = arrays.arrays(np.int64, st.tuples(st.integers(1, 5)))
data_messages = st.builds(
    messages.Data,
    kind=st.sampled_from(MessageKind),
    layer=st.integers(-(2**15), 2**15 - 1),
    source=unsigned,
    sequence=unsigned,
    step=st.integers(-(2**31), 2**31 - 1),
    epoch=unsigned,
    position=unsigned,
    departure_s=st.floats(allow_nan=False),
    arrival_s=st.floats(allow_nan=False),
    payload=st.one_of(activations, tokens),
    step_rows=unsigned,
    part=st.integers(0, 2**16 - 1),
)


def encoded(message: messages.Data) -> list[bytes]:
    return [bytes(frame) for frame in messages.encode_data(message)]


@QUICK
@given(data_messages)
def test_data_comes_back_as_it_was(message: messages.Data) -> None:
    frames = encoded(message)
    decoded = messages.decode_data(frames)
    for field in msgspec.structs.fields(messages.Data):
        if field.name != "payload":
            assert getattr(decoded, field.name) == getattr(message, field.name)
    assert isinstance(decoded.kind, MessageKind)
    assert decoded.payload.dtype == message.payload.dtype
    np.testing.assert_array_equal(decoded.payload, message.payload)
    assert encoded(decoded) == frames


@QUICK
@given(data_messages)
def test_the_size_is_known_before_anything_is_sent(message: messages.Data) -> None:
    header, payload = encoded(message)
    assert len(header) == MESSAGE_HEADER_BYTES
    assert len(header) + len(payload) == messages.data_bytes(message.payload)


def some_data(payload: np.ndarray) -> messages.Data:
    return messages.Data(MessageKind.HIDDEN, 1, 0, 0, 0, 1, 0, 0.5, 0.75, payload)


def test_a_view_that_is_not_contiguous_is_sent_as_what_it_shows() -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)  # [4, 6]
    for view in (whole[-1:], whole[:, ::2], whole.T):
        np.testing.assert_array_equal(messages.decode_data(encoded(some_data(view))).payload, view)
    assert messages.data_bytes(whole[:, ::2]) == MESSAGE_HEADER_BYTES + 4 * 3 * 4


def test_the_payload_is_not_copied() -> None:
    array = np.ones((2, 3), np.float32)  # [2, 3]
    _, payload = messages.encode_data(some_data(array))
    assert np.shares_memory(np.frombuffer(payload, np.float32), array)
    frames = encoded(some_data(array))
    assert np.shares_memory(messages.decode_data(frames).payload, np.frombuffer(frames[1], np.uint8))


@FUZZ
@given(st.data(), data_messages)
def test_broken_data_frames_are_refused_as_such(data: st.DataObject, message: messages.Data) -> None:
    header, payload = encoded(message)
    frames = data.draw(
        st.one_of(
            st.lists(st.binary(max_size=80), max_size=3),
            damaged(header).map(lambda broken: [broken, payload]),
            damaged(payload).map(lambda broken: [header, broken]),
            st.just([payload, header]),
        )
    )
    try:
        decoded = messages.decode_data(frames)
    except messages.WireError:
        return
    assert len(frames) == 2  # it was a message after all: then nothing is lost of it
    assert decoded.payload.nbytes == len(frames[1]) > 0
    again = encoded(decoded)
    if not math.isnan(decoded.departure_s + decoded.arrival_s):
        assert again[0][:48] == frames[0][:48]
    assert again[1] == frames[1]


chunks = st.builds(messages.ShipmentChunk, values(messages.ChunkHeader), st.binary(max_size=40))


@QUICK
@given(chunks)
def test_a_chunk_comes_back_as_it_was_and_is_not_taken_for_data(chunk: messages.ShipmentChunk) -> None:
    decoded = messages.decode_frames([bytes(frame) for frame in messages.encode_chunk(chunk)])
    assert isinstance(decoded, messages.ShipmentChunk)
    assert (decoded.header, decoded.payload) == (chunk.header, chunk.payload)


@FUZZ
@given(st.data(), st.one_of(data_messages.map(encoded), chunks.map(messages.encode_chunk)))
def test_broken_frames_from_other_devices_are_refused_as_such(data: st.DataObject, frames: list[bytes]) -> None:
    header, payload = frames
    with suppress(messages.WireError):
        messages.decode_frames(data.draw(damaged(header).map(lambda broken: [broken, payload])))


def test_a_header_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(messages.WireError, match="neither data nor a chunk: "):
        messages.decode_frames([b"\x81\xa1a" * 5000, b""])


WHOLE = encoded(some_data(np.ones((3, 4), np.float32)))
IDS = encoded(some_data(np.array([7, 8], np.int64)))


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "a header of 64 bytes and a payload"),
        (WHOLE[:1], "a header of 64 bytes and a payload"),
        ([*WHOLE, b""], "a header of 64 bytes and a payload"),
        ([WHOLE[0][:-1], WHOLE[1]], "a header of 64 bytes and a payload"),
        ([b"emu0" + WHOLE[0][4:], WHOLE[1]], "not a data message of this version"),
        ([WHOLE[0][:4] + b"\xff" + WHOLE[0][5:], WHOLE[1]], "not a data message of this version"),  # no such kind
        ([WHOLE[0][:5] + b"\x04" + WHOLE[0][6:], WHOLE[1]], "not a data message of this version"),  # no such type
        ([WHOLE[0], WHOLE[1][:-4]], "44 bytes does not fill 3 rows"),
        ([WHOLE[0], b""], "0 bytes does not fill 3 rows"),
        ([IDS[0], IDS[1] + IDS[1]], "32 bytes does not fill 2 rows"),  # ids are one a row
        ([IDS[0], IDS[1][:8]], "8 bytes does not fill 2 rows"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(frames: list[bytes], says: str) -> None:
    with pytest.raises(messages.WireError, match=says):
        messages.decode_data(frames)
