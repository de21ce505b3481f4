"""Fleets of small processes: event loops to run them on, and their exits."""

import asyncio
from collections.abc import Awaitable, Callable

from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.fleet import Fleet
from edgeemu.host.owner import read_proc

Runner = Callable[[Awaitable[None]], None]


def alive(pid: int) -> bool:
    """A zombie is not: whoever became its parent reaps it in their own time."""
    try:
        stat = read_proc(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rindex(")") + 2] != "Z"


async def next_exit(fleet: Fleet) -> DeviceExit:
    async with asyncio.timeout(10):
        return await fleet.exits.get()
