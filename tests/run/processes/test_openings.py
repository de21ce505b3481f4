"""Sequences that device processes open: whose answers are awaited when one of them is gone, and when it is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import RunError
from edgeemu.links.framing import framed
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.run.processes.openings import Openings
from edgeemu.run.processes.presence import Presence
from edgeemu.run.processes.session import Session, Unasked

NAMES = ("pi", "board")
LIMIT_S = 5.0


class TwoDevices(NamedTuple):
    """Openings on two devices, whose ends of the connections the test holds."""

    openings: Openings
    session: Session
    ends: list[UnixSockets]

    def answer(self, device: int, sequence: int) -> None:
        """Have a device say that it has opened a sequence."""
        frame = codec.encode(protocol_out.Opened(NAMES[device], sequence))
        self.ends[device].push(self.session.control_address, framed([b"", frame]))

    def lose(self, device: int) -> None:
        self.session.presence.left(device)
        self.openings.write_off(device)


@asynccontextmanager
async def two_devices(directory: Path) -> AsyncIterator[TwoDevices]:
    def on_unasked(message: Unasked) -> None:
        assert isinstance(message, protocol_out.Opened)
        made.openings.opened(message)

    session = Session(directory, asyncio.Queue(), Presence(NAMES), on_unasked, lambda *_: RunError("it died"))
    async with session, asyncio.timeout(LIMIT_S):
        with ExitStack() as stack:
            ends = [stack.enter_context(closing(UnixSockets(session.requests_address(at)))) for at in range(2)]
            made = TwoDevices(Openings(session), session, ends)
            yield made


def opening(sequence: int) -> protocol_in.Open:
    return protocol_in.Open(sequence, 3, 9, 0.0, 0, 1.0, 0)


async def has_ended(task: asyncio.Task[None]) -> bool:
    """Whether a task ends within the time in which messages arrive."""
    await asyncio.wait([task], timeout=0.05)
    return task.done()


def test_a_sequence_waits_for_the_devices_that_are_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_devices(tmp_path) as made:
            await made.openings.open(opening(0))
            waiting = asyncio.create_task(made.openings.wait(0))
            made.answer(0, 0)
            assert not await has_ended(waiting)
            made.answer(1, 0)
            await waiting
            await made.openings.open(opening(1))
            made.answer(1, 1)
            made.lose(0)
            await made.openings.wait(1)

    asyncio.run(main())


def test_a_device_that_is_back_owes_no_answer_of_the_process_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_devices(tmp_path) as made:
            await made.openings.open(opening(0))
            made.answer(1, 0)
            made.lose(0)
            made.session.presence.joined(0, 1)
            await made.openings.wait(0)

    asyncio.run(main())


def test_answers_of_others_count_while_one_that_is_back_opens_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with two_devices(tmp_path) as made:
            for sequence in range(3):
                await made.openings.open(opening(sequence))
            made.openings.close(1)
            made.lose(0)
            made.session.presence.joined(0, 1)
            back = asyncio.create_task(made.openings.open_all(0))
            for sequence in range(3):  # also of the one that has ended meanwhile
                made.answer(1, sequence)
            made.answer(0, 0)
            assert not await has_ended(back)
            made.answer(0, 2)
            await back
            await made.openings.wait(0)
            await made.openings.wait(2)

    asyncio.run(main())
