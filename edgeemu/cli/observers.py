"""Observers that show a run to its user: the one that suits the terminal, or the pipe. Know no devices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from edgeemu.cli.page import Page
from edgeemu.cli.plain_observers import PlainConcurrentObserver, PlainObserver
from edgeemu.report.formats import duration_text, left_text

if TYPE_CHECKING:
    from edgeemu.cli.expectation import Expectation
    from edgeemu.run.compare import Watch
    from edgeemu.run.observer import Observer


@contextmanager
def watch(
    text: TextIO,
    status: TextIO,
    *,
    words: bool = True,
    several: bool = False,
    moves: bool = True,
    clock: Callable[[], float] | None = None,
    left: Callable[[float | None], str] = left_text,
) -> Iterator["Observer"]:
    """Open an observer that shows a run: generated text goes to `text`, progress to `status`.

    Without `words` (a simulation has none) a line per sequence gives its latencies instead. With `several` concurrent
    sequences, the text of each is shown when it is complete. Without `moves`, nothing is said of blocks that move. With
    a `clock`, a terminal that is large enough has a live view of devices and links, in which `left` says how long all
    takes, from the seconds that the run takes.
    """
    page = Page(text)
    if not page.is_terminal:
        plain = (PlainConcurrentObserver if several else PlainObserver)(text, status, words=words, moves=moves)
        try:
            yield plain
        finally:
            plain.end_line()
        return
    from edgeemu.cli.terminal_observers import (  # a pipe does without
        Shown,
        TerminalConcurrentObserver,
        TerminalObserver,
    )

    kind = TerminalConcurrentObserver if several else TerminalObserver
    observer = kind(page.console, Shown(words, moves, clock, left))
    try:
        with observer.live:
            yield observer
    finally:
        observer.keep_line()


def watch_one_of(text: TextIO, status: TextIO, expectation: "Expectation", clock: Callable[[], float]) -> "Watch":
    """Open observers for one run after another, each under a line that names it, and what is left to be done.

    Neither the generated text is shown nor what moved.
    """

    @contextmanager
    def watch_this(policy: str, done: int, total: int) -> Iterator["Observer"]:
        more = f"; {words}" if (words := expectation.left(done)) else ""
        run = f"run {done + 1} of {total}"
        Page(text).line(f"{policy} ({run}{more})", style="bold")
        later_s = expectation.later_s(done)

        def left(left_s: float | None) -> str:
            if left_s is None:
                return run
            every = "" if later_s is None else f", {duration_text(left_s + later_s)} of all runs"
            return f"{run}: {left_text(left_s)}{every}"

        with watch(text, status, words=False, several=True, moves=False, clock=clock, left=left) as observer:
            yield observer

    return watch_this
