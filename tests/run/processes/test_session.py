"""The controller's end of its connections with devices: what wakes it, what waits, and what is raised where."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import RunError
from edgeemu.host.device_exit import DeviceExit
from edgeemu.links.framing import framed
from edgeemu.links.messages import WireError
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.run.processes.presence import Presence
from edgeemu.run.processes.session import Session, Unasked

TOKEN = protocol_out.Token("pi", 0, 1, 7, 0.5, 1.5)
LARGE = protocol_in.Start(0, 1, 1, 0.0, 4, list(range(10**6)))


class Ends(NamedTuple):
    """A session with one device, whose end of the connections the test holds, and what the session hands on."""

    session: Session
    device: UnixSockets
    unasked: list[Unasked]

    def tell(self, frame: bytes) -> None:
        self.device.push(self.session.control_address, framed([b"", frame]))


@asynccontextmanager
async def joined(directory: Path) -> AsyncIterator[Ends]:
    unasked: list[Unasked] = []
    exits: asyncio.Queue[DeviceExit] = asyncio.Queue()
    session = Session(directory, exits, Presence(["pi"]), unasked.append, lambda *_: RunError("it died"))
    async with session:
        with closing(UnixSockets(session.requests_address(0))) as device:
            yield Ends(session, device, unasked)


def report(step: int) -> protocol_out.Report:
    return protocol_out.Report("pi", 0, step, 1, [], 0, 0)


async def arrived(session: Session, count: int) -> None:
    """Return when so many messages are there."""
    while len(session._inbox) < count:
        await asyncio.sleep(0.001)


def test_reports_wake_only_those_who_wait_for_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with joined(tmp_path) as ends:
            waiting = asyncio.create_task(ends.session.receive(protocol_out.Token))
            await asyncio.sleep(0)
            for step in range(3):
                ends.tell(codec.encode(report(step)))
            await arrived(ends.session, 3)
            assert ends.unasked == []
            ends.tell(codec.encode(TOKEN))
            assert await waiting == TOKEN
            assert ends.unasked == [report(0), report(1), report(2)]
            ends.tell(codec.encode(report(3)))
            assert await ends.session.receive(protocol_out.Report) == report(3)

    asyncio.run(main())


def test_reports_are_handed_on_though_the_awaited_message_does_not_come(tmp_path: Path) -> None:
    async def main() -> None:
        async with joined(tmp_path) as ends:
            ends.tell(codec.encode(report(0)))
            await arrived(ends.session, 1)
            assert await ends.session.receive_within(protocol_out.Token, 0.05) is None
            assert ends.unasked == [report(0)]

    asyncio.run(main())


def test_a_device_that_is_behind_is_waited_for(tmp_path: Path) -> None:
    """It does not read for some time, and gets all requests in their order."""

    async def main() -> None:
        async with joined(tmp_path) as ends:
            sending = asyncio.create_task(send(ends.session))
            await asyncio.sleep(0.02)
            assert not sending.done()
            received: list[protocol_in.ToDevice] = []
            while len(received) < 101:
                received += [codec.decode_for_device(frame) for _, frame in ends.device.take()]
                await asyncio.sleep(0)
            assert received == [LARGE, *map(protocol_in.Close, range(100))]
            await sending

    async def send(session: Session) -> None:
        await session.send(0, LARGE)
        for sequence in range(100):
            await session.send(0, protocol_in.Close(sequence))

    asyncio.run(main())


def test_what_is_no_message_is_raised_where_one_is_awaited(tmp_path: Path) -> None:
    async def main() -> None:
        async with joined(tmp_path) as ends:
            ends.tell(b"no message")
            with pytest.raises(WireError, match="not a control message"):
                await ends.session.receive(protocol_out.Token)
            ends.device.push(ends.session.control_address, bytes(range(100, 120)))
            with pytest.raises(WireError, match="the stream is not one of messages"):
                await ends.session.receive(protocol_out.Token)

    asyncio.run(main())


def test_a_device_that_is_gone_is_told_by_its_exit(tmp_path: Path) -> None:
    async def main() -> None:
        async with joined(tmp_path) as ends:
            ends.device.close()
            await ends.session.send(0, protocol_in.Stop())
            ends.session._exits.put_nowait(DeviceExit("pi", 1, 1))
            with pytest.raises(RunError, match="it died"):
                await ends.session.receive(protocol_out.Bye)

    asyncio.run(main())
