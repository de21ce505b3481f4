"""Observers that show a run on a terminal: text grows above progress bars, and, where there is room, a live view.

They draw in idle moments, not to delay the run, and a few times a second at most.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from edgeemu.cli.live_panel import LEAST_HEIGHT, LEAST_WIDTH, TEXT_LINES, panel
from edgeemu.cli.plain_observers import OpenText, Pace
from edgeemu.report.formats import left_text
from edgeemu.report.printable import printable
from edgeemu.run.live_state import LiveState

if TYPE_CHECKING:
    from edgeemu.placement.placement import Placement
    from edgeemu.report.usage_rows import StepRows
    from edgeemu.run.plan import Plan

REDRAW_AFTER_S = 0.05  # while the devices compute, and not between a token and the next step's release
LIVE_EVERY_S = 0.25  # at most; a live view takes some milliseconds to draw
KEPT_LINES = 100  # of text, to be printed again when the terminal has another size


class Shown(NamedTuple):
    """Parts of a run that are shown on a terminal."""

    words: bool = True  # the generated text; else latencies
    moves: bool = True  # what moved
    clock: Callable[[], float] | None = None  # that of a live view; None: there is none
    left: Callable[[float | None], str] = left_text  # says how many seconds are left of all


ALL = Shown()


class TerminalObserver:
    """Observer for a terminal: text grows above a progress bar and, if it is large enough, a live view of the run."""

    def __init__(self, console: Console, shown: Shown = ALL) -> None:
        self._console = console
        self._words, self._moves, self._clock, self._left = shown
        self._state: LiveState | None = None
        self._size = console.size
        self._drawn_s = 0.0  # by the event loop's clock
        self._printed: deque[Text] = deque(maxlen=KEPT_LINES)
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
        self._pace = Pace()
        self._due: asyncio.TimerHandle | None = None
        self.live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def phase(self, name: str, done: int, total: int) -> None:
        if done == 0:
            self._progress.reset(self._bar, description=printable(name), total=total, note="")
            self._draw()
        else:
            self._progress.update(self._bar, description=printable(name), completed=done, total=total)
            self._draw_soon()

    def planned(self, plan: "Plan") -> None:
        if self._clock is not None:
            self._state = LiveState(plan, self._clock)

    def directory(self, path: Path) -> None:
        self._print(Text(printable(f"records: {path}"), style="dim", no_wrap=True))  # it is to be copied

    def worked(self, rows: "StepRows", now_s: float) -> None:
        if self._state is not None:
            self._state.worked(rows, now_s)

    def moving(self, say: Callable[[], str]) -> None:
        if self._state is not None:
            self._state.moving = say()
            self._draw_soon()

    def placed(self, placement: "Placement") -> None:
        if self._state is not None:
            self._state.placed(placement)

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        self._pace = Pace()
        self._progress.reset(self._bar, description=f"prompt {index + 1}", total=max_tokens, note="")
        if self._words:
            self._print(Text(f"> {printable(prompt)}", style="bold"))
        if self._state is not None:
            self._state.sequence_started(index)
        self._draw_soon()

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        if self._state is not None:
            self._state.token(index, step, latency_s)
        self._line += printable(text)
        self._pace.token(step, latency_s)
        self._progress.update(self._bar, completed=step + 1, note=str(self._pace))
        self._draw_soon()

    def moved(self, line: str) -> None:
        """Print what moved, and why, above the line of text that is not full yet."""
        if self._state is not None and not self._moves:
            self._state.moved(line)
        if self._moves:
            self._notes.append(printable(line))
            self._draw_soon()

    def sequence_ended(self, index: int) -> None:
        if self._state is not None:
            self._state.sequence_ended(index)
        self.keep_line()
        self._print(Text("" if self._words else self._pace.line(index)))
        self._draw_soon()

    def keep_line(self) -> None:
        """Print the incomplete last line too: no more of it will arrive."""
        lines = [*self._take_full_lines(), self._line]
        self._line = ""
        if lines != [""]:
            self._print(Text("\n".join(lines)))
        self._print_notes()

    def _print(self, text: Text) -> None:
        """Print text above the live part, which is drawn again below it. Text that must not be wrapped is not."""
        self._printed.append(text)
        self._console.print(text, soft_wrap=bool(text.no_wrap))

    def _print_notes(self) -> None:
        for note in self._notes:
            self._print(Text(note, style="yellow"))
        self._notes.clear()

    def _draw_soon(self) -> None:
        """Draw once, shortly, with all that arrives until then; at once where there is no event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._draw()
            return
        if self._due is None or self._due.cancelled():
            wait_s = 0.0 if self._state is None else self._drawn_s + LIVE_EVERY_S - loop.time()
            self._due = loop.call_later(max(REDRAW_AFTER_S, wait_s), self._draw_at, loop.time)

    def _draw_at(self, now_s: Callable[[], float]) -> None:
        self._draw()
        self._drawn_s = now_s()

    def _draw(self) -> None:
        self._due = None
        if not self.live.is_started:
            return
        resized = self._console.size != self._size
        full = self._take_full_lines()
        parts: list[RenderableType] = [Text(self._line), self._progress, *self._live_view()]
        self.live.update(Group(*parts), refresh=not (full or self._notes or resized))
        if resized:
            self._begin_anew()
        if full:
            self._print(Text("\n".join(full)))
        self._print_notes()

    def _live_view(self) -> list[Text]:
        """Lines about devices and links, if the terminal is large enough for them and some text above."""
        width, height = self._console.size
        if self._state is None or width < LEAST_WIDTH or height < LEAST_HEIGHT:
            return []
        self._state.look()
        bars = sum(task.visible for task in self._progress.tasks)
        room = height - 1 - bars - max(TEXT_LINES, height // 4)
        left = self._left(self._state.left_s())
        return panel(self._state, width, room, left, ascii_only=self._console.options.ascii_only)

    def _begin_anew(self) -> None:
        """Draw all on an empty screen: a terminal of another size has broken the lines that it had elsewhere."""
        self._size = self._console.size
        self._console.clear()
        self.live.refresh()
        for text in list(self._printed)[-self._size.height :]:
            self._console.print(text, soft_wrap=bool(text.no_wrap))

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


class TerminalConcurrentObserver(TerminalObserver):
    """Observer of concurrent sequences on a terminal: a progress bar each, and above them the complete texts."""

    def __init__(self, console: Console, shown: Shown = ALL) -> None:
        super().__init__(console, shown)
        self._open: dict[int, OpenText] = {}
        self._bars: dict[int, TaskID] = {}

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        if self._state is not None:
            self._state.sequence_started(index)
        self._progress.update(self._bar, visible=False)
        self._open[index] = OpenText(prompt)
        self._bars[index] = self._progress.add_task(f"prompt {index + 1}", total=max_tokens, note="")
        self._draw_soon()

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        if self._state is not None:
            self._state.token(index, step, latency_s)
        self._open[index].token(step, text, latency_s)
        self._progress.update(self._bars[index], completed=step + 1, note=str(self._open[index].pace))
        self._draw_soon()

    def sequence_ended(self, index: int) -> None:
        if self._state is not None:
            self._state.sequence_ended(index)
        ended = self._open.pop(index)
        self._progress.remove_task(self._bars.pop(index))
        if self._words:
            self._print(Text.assemble((f"> {ended.prompt}\n", "bold"), f"{ended.text}\n"))
        else:
            self._print(Text(ended.pace.line(index)))
        self._draw_soon()
