"""Observers that show a run in lines of text, for pipes, files and logs. Know no terminal and no devices."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edgeemu.report.printable import printable

if TYPE_CHECKING:
    from edgeemu.placement.placement import Placement
    from edgeemu.report.usage_rows import StepRows
    from edgeemu.run.plan import Plan


class Pace:
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
        self._pace = Pace()
        self._within_line = False

    def phase(self, name: str, done: int, total: int) -> None:
        if done == total:
            line = f"{name}: {done}/{total}" if total > 1 else name
            print(printable(line), file=self._status, flush=True)

    def planned(self, plan: "Plan") -> None: ...
    def worked(self, rows: "StepRows", now_s: float) -> None: ...
    def moving(self, say: Callable[[], str]) -> None: ...
    def placed(self, placement: "Placement") -> None: ...

    def directory(self, path: Path) -> None:
        print(printable(f"records: {path}"), file=self._status, flush=True)

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        del index, max_tokens
        self._pace = Pace()
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


class OpenText:
    """Sequence in flight among others: its prompt, its text so far, its latencies."""

    def __init__(self, prompt: str) -> None:
        self.prompt = printable(prompt)
        self.text = ""
        self.pace = Pace()

    def token(self, step: int, text: str, latency_s: float) -> None:
        self.text += printable(text)
        self.pace.token(step, latency_s)


class PlainConcurrentObserver(PlainObserver):
    """Observer of concurrent sequences without a terminal: each is printed when it is complete."""

    def __init__(self, text: TextIO, status: TextIO, *, words: bool = True, moves: bool = True) -> None:
        super().__init__(text, status, words=words, moves=moves)
        self._open: dict[int, OpenText] = {}

    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None:
        del max_tokens
        self._open[index] = OpenText(prompt)

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        self._open[index].token(step, text, latency_s)

    def sequence_ended(self, index: int) -> None:
        ended = self._open.pop(index)
        shown = f"> {ended.prompt}\n{ended.text}\n" if self._words else ended.pace.line(index)
        print(shown, file=self._text, flush=True)
