"""Device processes whose messages to each other all pass the test, which may look at them and alter them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import zmq
import zmq.asyncio

from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend

NOTICE_S = 0.05  # for ZeroMQ to see that a process has ended

Tap = Callable[[list[bytes]], list[bytes] | None]
"""Is given a message's frames; returns those that go on, or None."""


class TappedDevices(ProcessBackend):
    def __init__(self, plan: Plan, tap: Tap) -> None:
        super().__init__(plan, Silent().phase, keep_logits=True)
        self._tap = tap

    @asynccontextmanager
    async def launched(self) -> AsyncIterator[None]:
        context = zmq.asyncio.Context()
        sockets: list[zmq.asyncio.Socket] = []  # kept: one that is garbage is never closed
        try:
            async with super().launched(), self._tapped(context, sockets):
                yield
        finally:
            # ZeroMQ aborts if a receiver dies just when a socket is closed with a message half sent to it: so it has
            # time to see that the devices are gone.
            await asyncio.sleep(NOTICE_S)
            context.destroy(linger=0)

    @asynccontextmanager
    async def _tapped(self, context: zmq.asyncio.Context, sockets: list[zmq.asyncio.Socket]) -> AsyncIterator[None]:
        """Let messages to each device pass the tap."""
        pumps = []
        address_of = self.installed.address
        self.installed.address = lambda device: f"{address_of(device)}-tap"
        for device in range(len(self.plan.cluster.devices)):
            address = address_of(device)
            here, there = context.socket(zmq.PULL), context.socket(zmq.PUSH)
            sockets += [here, there]
            here.bind(f"{address}-tap")
            there.connect(address)
            pumps.append(asyncio.create_task(self._pump(here, there)))
        try:
            yield
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, here: zmq.asyncio.Socket, there: zmq.asyncio.Socket) -> None:
        while True:
            frames = self._tap(await here.recv_multipart())
            if frames is not None:
                await there.send_multipart(frames)
