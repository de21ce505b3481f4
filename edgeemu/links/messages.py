"""Messages between devices, as frames. Knows no sockets, no processes and no time.

Data is two frames: a header of fixed size, so that the size of a message is known before it is sent, and the array's
bytes. So is a chunk of a shipment. Messages between controller and device are in `device/`.
"""

from struct import Struct

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.placement.program import MessageKind
from edgeemu.placement.shipments import Shipment

_HEADER = Struct(
    "<4sBBhIIiIIddIIHd2x"
)  # magic, kind, dtype, layer, source, sequence, step, epoch, rows, times, position, rows of the step, part, sent
_MAGIC = b"emu1"
_DTYPES = (np.dtype("<f4"), np.dtype("<i8"), np.dtype("u1"), np.dtype("<i4"))
_IDS = np.dtype("<i8")
_KINDS = {int(kind): kind for kind in MessageKind}
assert _HEADER.size == MESSAGE_HEADER_BYTES


Frames = list[bytes | memoryview]


class WireError(EdgeemuError):
    """Frames that are not a message of this version."""


class Data(msgspec.Struct, frozen=True, eq=False):
    """An activation or a token between two devices. `position` is the first row's place in the sequence.

    `arrival_s` is what the sender knows of it, until the receiver's links have set it. `sent_s` is when it left, or
    would have left had it waited for others at once and not on its way: of the timeline, as far as that is known, once
    the receiver's links have it; between links of the kernel, of the wall clock.
    """

    kind: MessageKind
    layer: int
    source: int
    sequence: int
    step: int
    epoch: int
    position: int
    departure_s: float
    arrival_s: float
    payload: NDArray[np.generic]  # [rows, width] float32 or int32, [rows, row_bytes] in another format, or ids [rows]
    step_rows: int = 0  # of the step, of which the payload may have some
    part: int = 0
    sent_s: float = 0.0

    @property
    def waited_s(self) -> float:
        """How long it waited for other messages, as far as that is known where it has arrived."""
        return max(0.0, self.sent_s - self.departure_s)


def encode_data(message: Data) -> Frames:
    """Encodes a message as header and payload; the payload is not copied."""
    return encode_stamped(message, message.arrival_s, message.sent_s)


def encode_stamped(message: Data, arrival_s: float, sent_s: float) -> Frames:
    """Encodes a message with other instants than its own."""
    array = message.payload
    values = array.data
    if not values.c_contiguous:
        values = np.ascontiguousarray(array).data
    header = _HEADER.pack(
        _MAGIC,
        message.kind,
        _DTYPES.index(array.dtype),
        message.layer,
        message.source,
        message.sequence,
        message.step,
        message.epoch,
        array.shape[0],
        message.departure_s,
        arrival_s,
        message.position,
        message.step_rows,
        message.part,
        sent_s,
    )
    return [header, values.cast("B")]


def data_bytes(payload: NDArray[np.generic]) -> int:
    """Size of a data message on the wire."""
    return MESSAGE_HEADER_BYTES + payload.nbytes


def decode_data(frames: list[bytes] | list[memoryview]) -> Data:
    """Decodes what `encode_data` made; the payload shares the frame's memory.

    Raises:
        WireError: not two frames, another magic, an unknown type, or a payload that does not fill its rows.
    """
    if len(frames) != 2 or len(frames[0]) != MESSAGE_HEADER_BYTES:
        raise WireError(f"a data message has a header of {MESSAGE_HEADER_BYTES} bytes and a payload")
    (magic, kind_number, dtype_number, layer, source, sequence, step, epoch, rows, departure_s, arrival_s, position,
     step_rows, part, sent_s) = _HEADER.unpack(frames[0])  # fmt: skip
    kind = _KINDS.get(kind_number)
    if magic != _MAGIC or dtype_number >= len(_DTYPES) or kind is None:
        raise WireError(f"not a data message of this version: header starts with {bytes(frames[0][:8])!r}")
    size_bytes, dtype = len(frames[1]), _DTYPES[dtype_number]
    width, rest = divmod(size_bytes, max(1, rows) * dtype.itemsize)
    if rows < 1 or width < 1 or rest or (dtype == _IDS and width != 1):
        raise WireError(f"a payload of {size_bytes} bytes does not fill {rows} rows")
    payload: NDArray[np.generic] = np.ndarray((rows,) if dtype == _IDS else (rows, width), dtype, frames[1])
    return Data(
        kind,
        layer,
        source,
        sequence,
        step,
        epoch,
        position,
        departure_s,
        arrival_s,
        payload,
        step_rows,
        part,
        sent_s,
    )


class ChunkHeader(msgspec.Struct, frozen=True):
    """Header of one chunk of a shipment. On the links it counts as a header of fixed size."""

    epoch: int
    number: int
    shipment: Shipment
    offset: int
    total: int
    crc: int
    departure_s: float = 0.0
    arrival_s: float = 0.0  # as in `Data`
    added_s: float = 0.0  # what the timeline adds to the time that the bytes really take
    sent_s: float = 0.0  # of the wall clock
    lag_s: float = 0.0  # of the wall clock: how late the sender was, which is not the network's time
    to_replica: bool = False  # not of the migration under way


class ShipmentChunk(msgspec.Struct, frozen=True, eq=False):
    """Some bytes of a shipment, with their header."""

    header: ChunkHeader
    payload: bytes | memoryview


def encode_chunk(chunk: ShipmentChunk) -> Frames:
    return [msgspec.msgpack.encode(chunk.header), chunk.payload]


def decode_frames(frames: list[bytes]) -> Data | ShipmentChunk:
    """Decodes a message from another device: data, or a chunk of a shipment.

    Raises:
        WireError: neither.
    """
    if len(frames) == 2 and frames[0][:4] != _MAGIC:
        try:
            return ShipmentChunk(msgspec.msgpack.decode(frames[0], type=ChunkHeader), frames[1])
        except (ValueError, RecursionError) as error:  # msgspec's own, and text that is not UTF-8
            raise WireError(f"neither data nor a chunk: {error}") from error
    return decode_data(frames)
