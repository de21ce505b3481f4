"""Progress of a sweep: how many runs are complete, which ended last, and how long the others take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from edgeemu.cli.page import Page
from edgeemu.report.formats import counted, left_text
from edgeemu.report.printable import printable


class SweepProgress:
    """Tells of each run that has ended: in a bar on a terminal, in a line elsewhere."""

    def __init__(self, page: Page, total: int, clock: Callable[[], float]) -> None:
        self._page, self._total, self._clock, self._began_s = page, total, clock, clock()
        self.complete = self._made = self._gone = 0
        columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        # Nothing refreshes it but `ended`: a thread of its own would be copied into the processes of runs.
        self._bar = Progress(*columns, console=page.console, auto_refresh=False, transient=True)
        self._task = self._bar.add_task("", total=total)
        self.live: Live = self._bar.live

    def reused(self, runs: int) -> None:
        """Tell how many runs were complete before."""
        self.complete += runs
        self._page.line(f"{counted(runs, 'run')} of {self._total} {'is' if runs == 1 else 'are'} there already")
        self._draw("")

    def ended(self, words: str, *, stays: bool) -> None:
        """Tell which run has ended, and how long the others take. `stays`: it will be there for the same command."""
        self.complete += 1
        self._made += 1
        self._gone += not stays
        left_s = (self._clock() - self._began_s) / self._made * (self._total - self.complete)
        left = left_text(left_s) if self.complete < self._total else ""
        if self._page.is_terminal:
            self._draw(left)
        else:
            self._page.line(f"run {self.complete} of {self._total}: {'; '.join(filter(None, (words, left)))}")

    def broken_off(self) -> None:
        """Tell what stays of a sweep that ends before its last run."""
        stay = self.complete - self._gone
        are = "is complete and stays" if stay == 1 else "are complete and stay"
        self._page.line(f"{stay} of {counted(self._total, 'run')} {are}; the same command goes on from there")

    def _draw(self, left: str) -> None:
        self._bar.update(self._task, completed=self.complete, description=printable(left))
        self._bar.refresh()


@contextmanager
def sweep_progress(file: TextIO, total: int, clock: Callable[[], float]) -> Iterator[SweepProgress]:
    """Show the progress of a sweep while a block goes on."""
    page = Page(file)
    progress = SweepProgress(page, total, clock)
    if not page.is_terminal:
        yield progress
        return
    with progress.live:
        yield progress
