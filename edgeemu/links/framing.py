"""Messages of two frames as one stream of bytes, and back. Knows no sockets, no time, and not what frames mean.

A message is preceded by the lengths of its frames, four bytes each.
"""

from struct import Struct

from edgeemu.links.messages import Frames, WireError

LENGTHS = Struct("<II")
MAX_HEADER_BYTES = 1 << 16  # of a first frame: what is longer is not one


def framed(frames: Frames) -> bytes:
    """Return a message's bytes."""
    header, payload = frames
    return b"".join((LENGTHS.pack(len(header), len(payload)), header, payload))


class Assembler:
    """Puts messages together from the pieces in which a stream of bytes arrives. It holds one message, and a piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = 0

    @property
    def missing_bytes(self) -> int:
        """Bytes that a message which has begun still lacks, as far as that is known; 0: none has begun."""
        return self._needed_bytes - self._held_bytes

    def take(self, piece: bytes) -> list[list[bytes]]:
        """Take the next piece; return the messages that it completes.

        Raises:
            WireError: the stream is not one of messages.
        """
        if self._needed_bytes:
            self._pieces.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes < self._needed_bytes:
                return []
            piece = b"".join(self._pieces)
            self._pieces = []
        messages: list[list[bytes]] = []
        at, end, needed_bytes = 0, len(piece), 0
        while at < end:
            needed_bytes = LENGTHS.size
            if end - at >= LENGTHS.size:
                header_bytes, payload_bytes = LENGTHS.unpack_from(piece, at)
                if header_bytes > MAX_HEADER_BYTES:
                    raise WireError(f"a header of {header_bytes} bytes: the stream is not one of messages")
                needed_bytes += header_bytes + payload_bytes
            if end - at < needed_bytes:
                self._pieces = [piece[at:]]
                break
            header, at = at + LENGTHS.size, at + needed_bytes
            payload = header + header_bytes
            messages.append([piece[header:payload], piece[payload:at]])  # copies begin where numbers may
        self._held_bytes, self._needed_bytes = end - at, needed_bytes if at < end else 0
        return messages
