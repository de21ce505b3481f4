"""Text grows line by line above the bar, whatever the model says; tables are plain where there is no terminal."""

import asyncio
import io
import re
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from rich.console import Console

from edgeemu.cli.observers import watch
from edgeemu.cli.page import Page
from edgeemu.cli.plain_observers import PlainObserver
from edgeemu.cli.terminal_observers import REDRAW_AFTER_S, TerminalConcurrentObserver, TerminalObserver
from edgeemu.report.printable import printable

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_model_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\x07\x9b b\tc\nd\r") == "a�[2J�� b\tc\nd�"
    assert printable("Größe 日本 🙂") == "Größe 日本 🙂"


def test_plain_output_is_text_only() -> None:
    text, status = io.StringIO(), io.StringIO()
    watcher = PlainObserver(text, status)
    for done in range(3):
        watcher.phase("start devices", done, 2)
    watcher.sequence_started(0, "Say\x1b[0m hello", 3)
    for step, piece in enumerate((" Hello", ",\n", "you\x1b[31m")):
        watcher.token(0, step, piece, 0.1)
    watcher.sequence_ended(0)
    assert text.getvalue() == "> Say�[0m hello\n Hello,\nyou�[31m\n\n"
    assert status.getvalue() == "start devices: 2/2\n"


def test_what_moved_stands_in_a_line_of_its_own_beside_the_text() -> None:
    text, status = io.StringIO(), io.StringIO()
    for moves in (True, False):
        with watch(text, status, moves=moves) as watcher:
            watcher.sequence_started(0, "go", 2)
            watcher.token(0, 0, "one", 0.1)
            watcher.moved("moved layer 3")
            watcher.token(0, 1, " two", 0.1)
            watcher.sequence_ended(0)
    assert text.getvalue() == "> go\none two\n\n" * 2
    assert status.getvalue() == "\nmoved layer 3\n"


@pytest.mark.parametrize("live", [True, False])
def test_what_moved_stands_above_the_line_that_grows(live: bool) -> None:
    file = io.StringIO()
    watcher = TerminalObserver(Console(file=file, force_terminal=True, width=40, height=20, legacy_windows=False))
    with watcher.live if live else nullcontext():
        watcher.sequence_started(0, "go", 3)
        watcher.token(0, 0, "one\ntwo", 0.1)
        watcher.moved("moved layer 3")
        watcher.token(0, 1, " three", 0.1)
        watcher.sequence_ended(0)
    printed = CONTROL.sub("", file.getvalue()).replace("\r", "")
    assert printed.count("moved layer 3\n") == 1
    assert printed.index("one\n") < printed.index("moved layer 3\n")
    assert "two three\n" in printed


def test_a_run_that_is_ended_within_a_sequence_leaves_a_whole_line() -> None:
    text, status = io.StringIO(), io.StringIO()
    with suppress(KeyboardInterrupt), watch(text, status) as watcher:
        watcher.sequence_started(0, "Say hello", 3)
        watcher.token(0, 0, " Hel", 0.1)
        raise KeyboardInterrupt
    assert text.getvalue() == "> Say hello\n Hel\n"
    with watch(text, status) as watcher:
        watcher.sequence_started(0, "go", 1)
        watcher.token(0, 0, "x", 0.1)
        watcher.sequence_ended(0)
    assert text.getvalue().endswith("> go\nx\n\n")


def shown(pieces: list[str], width: int) -> str:
    """Screen of a terminal of that width when everything is generated."""
    file = io.StringIO()
    watcher = TerminalObserver(Console(file=file, force_terminal=True, width=width, height=20, legacy_windows=False))
    watcher.sequence_started(0, "go", len(pieces))
    for step, piece in enumerate(pieces):
        watcher.token(0, step, piece, 0.1)
        watcher._draw()
    watcher.sequence_ended(0)
    return CONTROL.sub("", file.getvalue())


@pytest.mark.parametrize("width", [20, 33, 80])
def test_no_word_is_lost_however_lines_break(width: int) -> None:
    pieces = [f" word{n}" + ("\n\n" if n % 17 == 0 else "") for n in range(60)] + [
        "x" * 100,
        "日本" * 30,
        "[bold] :smile:",
    ]
    text = shown(pieces, width)
    assert text.startswith("> go\n")
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(text.removeprefix("> go").split()) == "".join("".join(pieces).split())
    if width == 80:
        assert "word5 word6 word7" in text


def test_what_is_to_be_copied_is_not_broken_over_two_lines() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=40, height=20, legacy_windows=False)
    path = Path("a directory of its own") / ("o" * 60) / "quickstart-20260301T123005Z-layers"
    TerminalObserver(console).directory(path)
    page = Page(file)
    page.is_terminal, page.console = True, console
    page.line(f"records: {path}")
    assert CONTROL.sub("", file.getvalue()) == f"records: {path}\n" * 2


def test_drawing_waits_for_a_quiet_moment() -> None:
    file = io.StringIO()
    watcher = TerminalObserver(Console(file=file, force_terminal=True, width=60, legacy_windows=False))

    async def main() -> None:
        with watcher.live:
            watcher.sequence_started(0, "go", 100)
            await asyncio.sleep(2 * REDRAW_AFTER_S)
            before = file.getvalue()
            for step in range(50):
                watcher.token(0, step, f" {step}", 0.1)
            assert file.getvalue() == before  # a token costs the run nothing
            await asyncio.sleep(2 * REDRAW_AFTER_S)
            drawn = CONTROL.sub("", file.getvalue().removeprefix(before))
            assert drawn.count("50/100") == 1
            assert "100 ms per token" in drawn

    asyncio.run(main())


def test_tables_without_a_terminal_are_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    page = Page(file)
    page.table(("name", ">size"), [("日本", "5"), ("pi", "1000")])
    page.line("[bold]done[/bold]", style="green")
    assert file.getvalue() == "name  size\n日本     5\npi    1000\n[bold]done[/bold]\n"


def test_of_several_at_once_each_text_is_shown_when_it_is_whole() -> None:
    text, status = io.StringIO(), io.StringIO()
    with watch(text, status, several=True) as watcher:
        watcher.sequence_started(0, "first", 2)
        watcher.sequence_started(1, "second", 2)
        for step in range(2):
            watcher.token(1, step, f"b{step} ", 0.1)
            watcher.token(0, step, f"a{step} ", 0.1)
        assert text.getvalue() == ""
        watcher.sequence_ended(1)
        watcher.sequence_ended(0)
    assert text.getvalue() == "> second\nb0 b1 \n\n> first\na0 a1 \n\n"


def test_of_several_at_once_a_terminal_has_a_bar_each() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, height=20, legacy_windows=False)
    watcher = TerminalConcurrentObserver(console)
    with watcher.live:
        watcher.sequence_started(0, "first", 2)
        watcher.sequence_started(1, "second", 4)
        watcher.token(1, 0, "b", 0.1)
        watcher._draw()
        bars = CONTROL.sub("", file.getvalue()).splitlines()
        assert any(line.startswith("prompt 1") and "0/2" in line for line in bars)
        assert any(line.startswith("prompt 2") and "1/4" in line for line in bars)
        watcher.sequence_ended(1)
    assert "> second\nb\n" in CONTROL.sub("", file.getvalue()).replace("\r", "")


def test_sentences_are_wrapped_between_words_on_a_terminal_only() -> None:
    path = f"runs/{'x' * 60}"
    for terminal, expected in (
        (True, ["  to be or not", f"    {path}", "    to be"]),
        (False, [f"  to be or not {path} to be"]),
    ):
        page = Page(io.StringIO())
        page.is_terminal = terminal
        page.console = Console(file=page.file, force_terminal=terminal, width=20, color_system=None)
        page.sentence(f"  to be or not {path} to be")
        assert isinstance(page.file, io.StringIO)
        assert page.file.getvalue().splitlines() == expected
