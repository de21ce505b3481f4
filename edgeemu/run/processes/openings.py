"""Sequences as device processes open them: which are open, and which devices have not opened them yet."""

from edgeemu.device import protocol_in, protocol_out
from edgeemu.run.processes.session import Session


class Openings:
    """The open sequences of a run. One begins when every device that moves has opened it."""

    def __init__(self, session: Session) -> None:
        self._session, self._presence = session, session.presence
        self._requests: dict[int, protocol_in.Open] = {}  # by open sequence
        self._owed: dict[int, set[int]] = {}  # by open sequence: devices whose answers are still to come

    async def open(self, request: protocol_in.Open) -> None:
        """Have all devices open a sequence; whether they have is awaited when it begins."""
        self._requests[request.sequence] = request
        self._owed[request.sequence] = set(self._presence.answering())
        await self._session.send_all(request)

    async def open_all(self, device: int) -> None:
        """Have a device open all sequences that are open; return when it has. Its process has opened none."""
        for sequence, request in self._requests.items():
            self._owed[sequence].add(device)
            await self._session.send(device, request)
        answers, owed = self._presence.answers, self._owed.values()
        await self._session.handle_until(
            protocol_out.Opened, lambda: not answers(device) or not any(device in devices for devices in owed)
        )

    async def wait(self, sequence: int) -> None:
        """Return when the devices that move have opened a sequence."""
        owed, moves = self._owed.get(sequence, ()), self._presence.moves
        await self._session.handle_until(protocol_out.Opened, lambda: not any(map(moves, owed)))

    def opened(self, message: protocol_out.Opened) -> None:
        """Take a device's answer."""
        self._owed.get(message.sequence, set()).discard(self._presence.number(message.name))

    def write_off(self, device: int) -> None:
        """Expect no answer from a device that is gone: another process may take its place, which was asked nothing."""
        for devices in self._owed.values():
            devices.discard(device)

    def close(self, sequence: int) -> None:
        """Forget a sequence that has ended."""
        self._owed.pop(sequence, None)
        self._requests.pop(sequence, None)
