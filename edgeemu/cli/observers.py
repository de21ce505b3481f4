"""Observers that show a run to its user: text as it is generated, and a progress bar. Know the terminal; no devices."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from edgeemu.cli.page import Page
from edgeemu.report.printable import printable

if TYPE_CHECKING:
    from edgeemu.run.compare import Watch
    from edgeemu.run.observer import Observer


REDRAW_AFTER_S = 0.05  # while the devices compute, and not between a token and the next step's release


@contextmanager
def watch(
    text: TextIO, status: TextIO, *, words: bool = True, several: bool = False, moves: bool = True
) -> Iterator["Observer"]:
    """Open an observer that shows a run: generated text goes to `text`, progress to `status`.

    Without `words` (a simulation has none) a line per sequence gives its latencies instead. With `several` concurrent
    sequences, the text of each is shown when it is complete. Without `moves`, nothing is said of blocks that move.
    """
    page = Page(text)
    if not page.is_terminal:
        plain = (PlainConcurrentObserver if several else PlainObserver)(text, status, words=words, moves=moves)
        try:
            yield plain
        finally:
            plain.end_line()
        return
    observer = (TerminalConcurrentObserver if several else TerminalObserver)(page.console, words=words, moves=moves)
    try:
        with observer.live:
            yield observer
    finally:
        observer.keep_line()


def watch_one_of(text: TextIO, status: TextIO, left: Callable[[int], str]) -> "Watch":
    """Open observers for one run after another, each under a line that names it, and what is `left` to be done.

    Neither the generated text is shown nor what moved.
    """

    @contextmanager
    def watch_this(policy: str, done: int, total: int) -> Iterator["Observer"]:
        more = f"; {words}" if (words := left(done)) else ""
        Page(text).line(f"{policy} (run {done + 1} of {total}{more})", style="bold")
        with watch(text, status, words=False, several=True, moves=False) as observer:
            yield observer

    return watch_this


class _Pace:
    """Latencies of a sequence's tokens so far."""

    def __init__(self) -> None:
        self._first_s = 0.0
        self._others = 0
        self._others_s = 0.0

    def token(self, step: int, latency_s: float) -> None:
        if step == 0:
            self._first_s = latency_s
        else:
            self._others += 1
            self._others_s += latency_s

    def __str__(self) -> str:
        if not self._others:
            return f"first token after {1000 * self._first_s:.0f} ms"
        return f"{1000 * self._others_s / self._others:.0f} ms per token"

    def line(self, index: int) -> str:
        """Line about a complete sequence, where no generated text is shown."""
        text = f"prompt {index + 1}: first token after {1000 * self._first_s:.1f} ms"
        if not self._others:
            return text
        return f"{text}, then {self._others} more, {1000 * self._others_s / self._others:.1f} ms each on average"


class PlainObserver:
    """Observer for pipes, files and logs: lines only, no control codes."""

    def __init__(self, text: TextIO, status: TextIO, *, words: bool = True, moves: bool = True) -> None:
        self._text = text
        self._moves = moves
        self._status = status
        self._words = words
        self._pace = _Pace()
        self._within_line = False

    def phase(self, name: str, done: int, total: int) -> None:
        if done == total:
            line = f"{name}: {done}/{total}" if total > 1 else name
            print(printable(line), file=self._status, flush=True)

    def directory(self, path: Path) -> None:
        print(printable(f"records: {path}"), file=self._status, flush=True)

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        del index, max_tokens
        self._pace = _Pace()
        if self._words:
            print(f"> {printable(prompt)}", file=self._text, flush=True)
            self._within_line = True

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index
        self._pace.token(step, latency_s)
        if self._words:
            print(printable(text), end="", file=self._text, flush=True)

    def moved(self, line: str) -> None:
        """Print what moved, and why, beside the text: on a line of its own also where both go to one place."""
        if self._moves:
            print(printable(f"\n{line}" if self._within_line else line), file=self._status, flush=True)

    def sequence_ended(self, index: int) -> None:
        print("\n" if self._words else self._pace.line(index), file=self._text, flush=True)
        self._within_line = False

    def end_line(self) -> None:
        """Complete the current line of a run that was ended within a sequence."""
        if self._within_line:
            self._within_line = False
            print(file=self._text, flush=True)


class TerminalObserver:
    """Observer for a terminal: text grows above a progress bar. It draws in idle moments, not to delay the run."""

    def __init__(self, console: Console, *, words: bool = True, moves: bool = True) -> None:
        self._console = console
        self._moves = moves
        self._words = words
        self._line = ""  # of the text, the line that is not full yet
        self._notes: list[str] = []  # about moves, not printed yet
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            auto_refresh=False,
        )
        self._bar = self._progress.add_task("", total=1, note="")
        self._pace = _Pace()
        self._due: asyncio.TimerHandle | None = None
        self.live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def phase(self, name: str, done: int, total: int) -> None:
        if done == 0:
            self._progress.reset(self._bar, description=printable(name), total=total, note="")
            self._draw()
        else:
            self._progress.update(self._bar, description=printable(name), completed=done, total=total)
            self._draw_soon()

    def directory(self, path: Path) -> None:
        self._console.print(Text(printable(f"records: {path}"), style="dim"), soft_wrap=True)  # it is to be copied

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        self._pace = _Pace()
        self._progress.reset(self._bar, description=f"prompt {index + 1}", total=max_tokens, note="")
        if self._words:
            self._console.print(Text(f"> {printable(prompt)}", style="bold"))
        self._draw_soon()

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index
        self._line += printable(text)
        self._pace.token(step, latency_s)
        self._progress.update(self._bar, completed=step + 1, note=str(self._pace))
        self._draw_soon()

    def moved(self, line: str) -> None:
        """Print what moved, and why, above the line of text that is not full yet."""
        if self._moves:
            self._notes.append(printable(line))
            self._draw_soon()

    def sequence_ended(self, index: int) -> None:
        self.keep_line()
        self._console.print("" if self._words else self._pace.line(index))
        self._draw_soon()

    def keep_line(self) -> None:
        """Print the incomplete last line too: no more of it will arrive."""
        lines = [*self._take_full_lines(), self._line]
        self._line = ""
        if lines != [""]:
            self._console.print(Text("\n".join(lines)))
        self._print_notes()

    def _print_notes(self) -> None:
        for note in self._notes:
            self._console.print(Text(note, style="yellow"))
        self._notes.clear()

    def _draw_soon(self) -> None:
        """Draw once, shortly, with all that arrives until then; at once where there is no event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._draw()
            return
        if self._due is None or self._due.cancelled():
            self._due = loop.call_later(REDRAW_AFTER_S, self._draw)

    def _draw(self) -> None:
        self._due = None
        if self.live.is_started:
            full = self._take_full_lines()
            self.live.update(Group(Text(self._line), self._progress), refresh=not (full or self._notes))
            if full:
                self._console.print(Text("\n".join(full)))  # above the live part, which is drawn again below it
            self._print_notes()

    def _take_full_lines(self) -> list[str]:
        """Take the lines that no token can change any more, no wider than the terminal; the rest stays in `_line`."""
        *full, self._line = self._line.split("\n")
        width = self._console.width
        while cell_len(self._line) > width:
            fits = next(n for n in range(len(self._line), 0, -1) if cell_len(self._line[:n]) <= width)
            end = self._line.rfind(" ", 0, fits + 1)
            end = end if end > 0 else fits
            full.append(self._line[:end])
            self._line = self._line[end:].removeprefix(" ")
        return full


class _OpenText:
    """Sequence in flight among others: its prompt, its text so far, its latencies."""

    def __init__(self, prompt: str) -> None:
        self.prompt = printable(prompt)
        self.text = ""
        self.pace = _Pace()

    def token(self, step: int, text: str, latency_s: float) -> None:
        self.text += printable(text)
        self.pace.token(step, latency_s)


class PlainConcurrentObserver(PlainObserver):
    """Observer of concurrent sequences without a terminal: each is printed when it is complete."""

    def __init__(self, text: TextIO, status: TextIO, *, words: bool = True, moves: bool = True) -> None:
        super().__init__(text, status, words=words, moves=moves)
        self._open: dict[int, _OpenText] = {}

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        del max_tokens
        self._open[index] = _OpenText(prompt)

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        self._open[index].token(step, text, latency_s)

    def sequence_ended(self, index: int) -> None:
        ended = self._open.pop(index)
        shown = f"> {ended.prompt}\n{ended.text}\n" if self._words else ended.pace.line(index)
        print(shown, file=self._text, flush=True)


class TerminalConcurrentObserver(TerminalObserver):
    """Observer of concurrent sequences on a terminal: a progress bar each, and above them the complete texts."""

    def __init__(self, console: Console, *, words: bool = True, moves: bool = True) -> None:
        super().__init__(console, words=words, moves=moves)
        self._open: dict[int, _OpenText] = {}
        self._bars: dict[int, TaskID] = {}

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        self._progress.update(self._bar, visible=False)
        self._open[index] = _OpenText(prompt)
        self._bars[index] = self._progress.add_task(f"prompt {index + 1}", total=max_tokens, note="")
        self._draw_soon()

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        self._open[index].token(step, text, latency_s)
        self._progress.update(self._bars[index], completed=step + 1, note=str(self._open[index].pace))
        self._draw_soon()

    def sequence_ended(self, index: int) -> None:
        ended = self._open.pop(index)
        self._progress.remove_task(self._bars.pop(index))
        if self._words:
            self._console.print(Group(Text(f"> {ended.prompt}", style="bold"), Text(f"{ended.text}\n")))
        else:
            self._console.print(ended.pace.line(index))
        self._draw_soon()
