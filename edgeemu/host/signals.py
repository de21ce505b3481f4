"""Signals that end a command: SIGINT (Ctrl-C), SIGTERM, SIGHUP. Knows handlers; no event loop and no command."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from edgeemu.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handled_by(handler: Callable[[int], None]) -> Iterator[None]:
    """Call `handler` in a block for signals that end a command. Those that are ignored, as by nohup, stay ignored.

    The handler runs between two instructions of Python code, also in a block that does not return to an event loop.
    Only the main thread can do this; in another the block runs as it is.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        wanted = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, lambda number, _: handler(number)) for number in wanted}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier or signal.SIG_DFL)


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Raise Interrupted in a block as soon as a signal arrives that ends a command; at its end at the latest.

    Python drops an exception that a handler raises in a destructor, or in what other modules have it call when a
    process forks.
    """
    arrived = list[int]()

    def interrupt(number: int) -> NoReturn:
        arrived.append(number)
        raise Interrupted(number)

    try:
        with handled_by(interrupt):
            yield
    except Interrupted:
        raise
    except BaseException as error:
        if arrived:
            raise Interrupted(arrived[0]) from error
        raise
    if arrived:
        raise Interrupted(arrived[0])
