"""Sequences as device processes open them: which are open, and which devices have not opened them yet."""

from typing import NamedTuple

from edgeemu.device import protocol_in, protocol_out
from edgeemu.run.processes.session import Session


class _Opening(NamedTuple):
    """A request to open a sequence, and the devices whose answers are still to come."""

    request: protocol_in.Open
    owed: set[int]


class Openings:
    """The open sequences of a run. One begins when every device that moves has opened it."""

    def __init__(self, session: Session) -> None:
        self._session, self._presence = session, session.presence
        self._open: dict[int, _Opening] = {}  # by sequence

    async def open(self, request: protocol_in.Open) -> None:
        """Have all devices open a sequence; whether they have is awaited when it begins."""
        self._open[request.sequence] = _Opening(request, set(self._presence.answering()))
        await self._session.send_all(request)

    async def open_all(self, device: int) -> None:
        """Have a device open all sequences that are open; return when it has. Its process has opened none."""
        for opening in self._open.values():
            opening.owed.add(device)
            await self._session.send(device, opening.request)
        answers, all_open = self._presence.answers, self._open.values()
        await self._session.handle_until(
            protocol_out.Opened, lambda: not answers(device) or not any(device in opening.owed for opening in all_open)
        )

    async def wait(self, sequence: int) -> None:
        """Return when the devices that move have opened a sequence."""
        owed, moves = self._open[sequence].owed, self._presence.moves
        await self._session.handle_until(protocol_out.Opened, lambda: not any(map(moves, owed)))

    def opened(self, message: protocol_out.Opened) -> None:
        """Take a device's answer."""
        if message.sequence in self._open:
            self._open[message.sequence].owed.discard(self._presence.number(message.name))

    def write_off(self, device: int) -> None:
        """Expect no answer from a device that is gone: another process may take its place, which was asked nothing."""
        for opening in self._open.values():
            opening.owed.discard(device)

    def close(self, sequence: int) -> None:
        """Forget a sequence that has ended."""
        self._open.pop(sequence, None)
