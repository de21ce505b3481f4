"""Device processes whose messages to each other all pass the test, which may look at them and alter them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from edgeemu.links.framing import Assembler, framed
from edgeemu.links.unix_sockets import socket_path
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend

PIECE_BYTES = 1 << 16

Tap = Callable[[list[bytes]], list[bytes] | None]
"""Is given a message's frames; returns those that go on, or None."""


class TappedDevices(ProcessBackend):
    def __init__(self, plan: Plan, tap: Tap) -> None:
        super().__init__(plan, Silent().phase, keep_logits=True)
        self._tap = tap
        self._passing: set[asyncio.Task[None] | None] = set()

    @asynccontextmanager
    async def launched(self) -> AsyncIterator[None]:
        try:
            async with super().launched(), AsyncExitStack() as taps:
                address_of = self.installed.address
                self.installed.address = lambda device: f"{address_of(device)}-tap"
                for device in range(len(self.plan.cluster.devices)):
                    path = socket_path(address_of(device))
                    server = await asyncio.start_unix_server(partial(self._pass, path), f"{path}-tap")
                    await taps.enter_async_context(server)
                yield
        finally:  # the devices are gone, and their connections with them
            await asyncio.gather(*(task for task in self._passing if task is not None))

    async def _pass(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the messages of a connection pass the tap on their way to a device, until one of both has ended."""
        self._passing.add(asyncio.current_task())
        assembler, open_writers = Assembler(), [writer]
        try:
            _, on = await asyncio.open_unix_connection(path)
            open_writers.append(on)
            # uvloop raises RuntimeError for what is done with a closed transport, so they are asked before.
            while not writer.is_closing() and (piece := await reader.read(PIECE_BYTES)) and not on.is_closing():
                for frames in assembler.take(piece):
                    if (passed := self._tap(frames)) is not None:
                        on.write(framed(list(passed)))
                await on.drain()
        except ConnectionError:
            pass  # a device has ended: whoever waits for it is told by its fleet
        finally:
            for each in open_writers:
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()
