"""The buffer of a run's records, and the clock that has it written: a killed run loses half a second at most."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgeemu.report.record_buffer import RecordBuffer
from edgeemu.report.record_files import RecordWriter

TICK_S = 0.25  # by the clock; a simulation, which does not wait, writes when there are many rows


@asynccontextmanager
async def buffered(records: RecordWriter) -> AsyncIterator[RecordBuffer]:
    """Buffer rows for a writer, which is closed at the end, and write what waits, also when the run failed."""
    buffer = RecordBuffer(records)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            buffer.tick()

    with records:
        ticking = asyncio.create_task(tick())
        try:
            yield buffer
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            buffer.flush()
