"""Encoding and decoding of the messages between controller and device."""

from typing import TypeVar

import msgspec

from edgeemu.device.protocol_in import DeviceConfig, ToDevice
from edgeemu.device.protocol_out import FromDevice
from edgeemu.links.messages import WireError

Message = TypeVar("Message")

_encoder = msgspec.msgpack.Encoder()
_to_device: "msgspec.msgpack.Decoder[ToDevice]" = msgspec.msgpack.Decoder(ToDevice)
_from_device: "msgspec.msgpack.Decoder[FromDevice]" = msgspec.msgpack.Decoder(FromDevice)


def encode(message: ToDevice | FromDevice | DeviceConfig) -> bytes:
    return _encoder.encode(message)


def decode_for_device(frame: bytes) -> ToDevice:
    """Raises: WireError, on anything that is not such a message."""
    return _decoded(_to_device, frame)


def decode_for_controller(frame: bytes) -> FromDevice:
    """Raises: WireError, on anything that is not such a message."""
    return _decoded(_from_device, frame)


def _decoded(decoder: "msgspec.msgpack.Decoder[Message]", frame: bytes) -> Message:
    try:
        return decoder.decode(frame)
    except (ValueError, RecursionError) as error:  # msgspec's own errors, and text that is not UTF-8, are ValueErrors
        raise WireError(f"not a control message of this version: {error}") from error
