"""Coroutines that a signal cancels, so that they clean up after themselves. Knows event loops; nothing of runs."""

import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from edgeemu.errors import Interrupted
from edgeemu.host.signals import handled_by

ResultT = TypeVar("ResultT")


def until_signal(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end or to a signal, which cancels it; the coroutine then cleans up after itself.

    A second signal leaves at once. Nothing is left running then either: the fork server ends with this process.
    """
    import asyncio

    import uvloop

    caught: list[int] = []

    async def main() -> ResultT:
        task, loop = asyncio.ensure_future(coroutine), asyncio.get_running_loop()

        def on_signal(number: int) -> None:
            if caught:
                os._exit(128 + number)
            caught.append(number)
            loop.call_soon_threadsafe(task.cancel)

        # Not the loop's own handlers: they wait for code that does not return to it, and so would a second signal.
        with handled_by(on_signal):
            return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except BaseException as error:
        if caught:
            raise Interrupted(caught[0]) from error
        raise
    finally:
        coroutine.close()  # if it was not even begun
