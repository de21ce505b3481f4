"""No control character of a file, a model or a program reaches a terminal, and files keep the text as it is."""

import io
import json
import re
from pathlib import Path

import pytest
import uvloop

from edgeemu.cli import exit as exits
from edgeemu.cli.observers import watch
from edgeemu.cli.page import Page
from edgeemu.errors import RequestError
from edgeemu.report.printable import CONTROLS, printable, printable_cell
from edgeemu.report.run_directory import to_json
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

EVIL = "a\x1b]0;title\x07b\x9b2Jc\x7fd\r\u202egpj.exe\u2069\ud83d!"
STEERS = re.compile("[" + "".join(f"\\U{code:08x}" for code in CONTROLS) + "]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_text_is_left() -> None:
    assert printable(EVIL) == "a�]0;title�b�2Jc�d��gpj.exe��!"
    assert printable("tab\tand\nnewline, Größe 日本 🙂 مرحبا") == "tab\tand\nnewline, Größe 日本 🙂 مرحبا"
    assert printable_cell("x\ny\tz") == "x�y�z"


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_a_page_shows_no_control_character_of_a_name(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    page = Page(file)
    page.line(EVIL)
    page.table([EVIL, ">other"], [[EVIL, "a\nb"]])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())  # our own colors
    assert not STEERS.search(shown)
    assert shown.count("gpj.exe") == 3


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
def test_observers_show_no_control_character(several: bool, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = Terminal() if terminal else io.StringIO()
    status = text if terminal else io.StringIO()
    with watch(text, status, several=several) as observer:
        observer.phase(EVIL, 0, 2)
        observer.phase(EVIL, 2, 2)
        observer.directory(Path(f"runs/{EVIL}"))
        observer.sequence_started(0, EVIL, 2)
        for step, piece in enumerate((EVIL, "\x1b", "[2J\n")):
            observer.token(0, step, piece, 0.1)
        observer.sequence_ended(0)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue() + status.getvalue()).replace("\r", "")
    assert "gpj.exe" in shown
    assert not STEERS.search(shown)


def test_errors_show_none_either_and_their_document_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEEMU_DEBUG", "1")
    assert exits._report(RequestError(EVIL), True) == 2
    out, err = capsys.readouterr()
    assert not STEERS.search(out + err)
    assert json.loads(out)["error"] == EVIL


def test_json_says_the_same_without_control_characters() -> None:
    document = {EVIL: [EVIL, "Größe"]}
    assert not STEERS.search(to_json(document))
    assert "Größe" in to_json(document)
    assert json.loads(to_json(document)) == document


def test_a_directory_with_any_name_takes_records(tmp_path: Path) -> None:
    scenario = parse_scenario(
        "model: {shape: {n_layers: 1, d_model: 8, n_heads: 2, n_kv_heads: 2, head_dim: 4, d_ff: 8, vocab_size: 9,"
        " max_context: 64}}\n"
        "devices: [{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB}]\n"
        "policy: single\nworkload: {prompts: [{tokens: 2}], max_tokens: 2}\n",
        "named",
    )
    out = tmp_path / "o\udcff\x1b[2Jut"
    made = uvloop.run(run_scenario(scenario, policy=None, out=out, observer=Silent(), simulate=True))
    assert json.loads((made.directory / "summary.json").read_text())["tokens"]
