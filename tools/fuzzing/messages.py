"""Messages as inputs: those between devices, and those between controller and device."""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.links.framing import Assembler, framed
from edgeemu.links.messages import ChunkHeader, Data, ShipmentChunk, WireError, decode_frames, encode_chunk, encode_data
from edgeemu.placement.program import MessageKind
from fuzzing import corpora
from fuzzing.inputs import MAX_BYTES, Editor, Files

MESSAGE_WORDS = [b"\x91" * 5000, b"\x81\xa1a" * 5000, b"\xc1", b"\xdf", b"\xc0"]


@cache
def wire_frames() -> tuple[list[bytes], ...]:
    arrays = [np.arange(3), np.ones((2, 5), np.float32)]
    data = [Data(MessageKind.HIDDEN, 1, 2, 0, 4, 1, 7, 0.5, 0.75, array) for array in arrays]
    chunks = [ShipmentChunk(header, b"weights") for header in corpora.samples(ChunkHeader)]
    frames = [*map(encode_data, data), *map(encode_chunk, chunks)]
    return tuple([bytes(frame) for frame in message] for message in frames)


def make_wire(editor: Editor) -> Files:
    if editor.odds(0.3):
        return {"stream": editor.edited([framed([*frames]) for frames in wire_frames()], MESSAGE_WORDS)}
    message = editor.choose(wire_frames())
    frames = [editor.edited([frame], MESSAGE_WORDS) if editor.odds(0.7) else frame for frame in message]
    if editor.odds(0.05):
        frames = editor.choose([frames[:1], frames * 2, []])
    return {str(n): frame for n, frame in enumerate(frames)}


def decode_wire(directory: Path) -> None:
    files = [file.read_bytes() for file in sorted(directory.iterdir())]
    if (directory / "stream").exists():
        for frames in Assembler().take(files[0]):
            decode_frames(frames)
    else:
        decode_frames(files)


@cache
def control_messages() -> tuple[bytes, ...]:
    kinds = [protocol_in.ToDevice, protocol_out.FromDevice]
    return tuple(codec.encode(message) for kind in kinds for message in corpora.samples(kind))


def packed(tree: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(tree)[:MAX_BYTES]
    except (OverflowError, ValueError, RecursionError):
        return b"\xdd\xff\xff\xff\xff"


@cache
def control_trees() -> list[Any]:
    return [msgspec.msgpack.decode(message) for message in control_messages()]


def make_control(editor: Editor) -> Files:
    if editor.odds(0.5):
        return {"frame": packed(editor.edited_tree(control_trees()))}
    return {"frame": editor.edited(control_messages(), MESSAGE_WORDS)}


def decode_control(directory: Path) -> None:
    frame = (directory / "frame").read_bytes()
    for decode in (codec.decode_for_device, codec.decode_for_controller):
        try:
            decode(frame)
        except WireError as error:
            str(error).encode()
