"""Answers for other programs: CSV and LaTeX of every table, and nothing else on standard output."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.cli.table_pages import CsvPage, LatexPage

FORMS = ("--json", "--csv", "--latex")


def test_every_cell_of_csv_is_read_back() -> None:
    rows = [["a,b", 'say "hi"', "line\nbreak"], ["", "–", "\x1b[2J"]]
    page = CsvPage(io.StringIO())
    page.table((">n", "name", "x,y"), rows)
    page.table(("other",), [["1"]], ("other",))
    assert isinstance(page.file, io.StringIO)
    first, second = page.file.getvalue().split("\n\n")
    assert list(csv.reader(io.StringIO(first))) == [
        ["n", "name", "x,y"],
        ["a,b", 'say "hi"', "line�break"],
        ["", "–", "�[2J"],
    ]
    assert second == "other\n1\n"


def test_every_sign_of_latex_is_escaped() -> None:
    page = LatexPage(io.StringIO())
    page.table(("name", ">share"), [["a_b & {c}~^\\ #1 $x", "10 %"], ["[b] --set a<b", "±2 → ≤3"]])
    assert isinstance(page.file, io.StringIO)
    assert page.file.getvalue().splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"name & share \\",
        r"\hline",
        r"a\_b \& \{c\}\textasciitilde{}\textasciicircum{}\textbackslash{} \#1 \$x & 10 \% \\",
        r"{[}b{]} -{}-set a$<$b & $\pm$2 $\rightarrow$ $\leq$3 \\",
        r"\hline",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("command", ["devices", "links", "models", "engines", "policies"])
def test_a_list_is_the_same_in_every_form(edgeemu: Edgeemu, command: str) -> None:
    status, text, _ = edgeemu(command, "--csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    document = json.loads(edgeemu(command, "--json")[1])
    assert status == 0
    assert [next(iter(row.values())) for row in rows] == [entry["name"] for entry in document]
    assert None not in [key for row in rows for key in row]
    latex = edgeemu(command, "--latex")[1].splitlines()
    signs = len(re.findall("[lr]", latex[0].rpartition("{")[2]))
    cells = [len(re.findall(r"(?<!\\)&", line)) + 1 for line in latex if line.endswith(r"\\")]
    assert cells == [signs] * (len(document) + 1)


def test_a_run_has_its_text_and_lines_beside_the_tables(edgeemu: Edgeemu, tiny: str) -> None:
    status, out, err = edgeemu("run", tiny, "--csv")
    assert status == 0
    tables = [list(csv.reader(io.StringIO(text))) for text in out.split("\n\n")]
    assert [table[0][0] for table in tables] == ["emulated", "device"]
    assert all(len(row) == len(table[0]) for table in tables for row in table)
    assert "> (8 random tokens)\n" in err
    assert "\ncertificate: " in err
    directory = err.splitlines()[-1].removeprefix("records: ")
    status, out, err = edgeemu("report", directory, "--latex")
    assert status == 0
    assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == 4
    assert "certificate" not in out
    assert "\ncertificate: " in err


def test_two_forms_are_one_too_many(edgeemu: Edgeemu, tiny: str) -> None:
    for first, second in (FORMS[:2], FORMS[1:]):
        status, _, err = edgeemu("models", first, second)
        assert (status, err) == (2, f"edgeemu: choose one of {first} and {second}\n")
    assert edgeemu("plan", tiny, "--yaml", "--latex")[0] == 2


def test_a_plan_of_many_devices_says_in_a_line_who_holds_nothing(edgeemu: Edgeemu) -> None:
    scenario = Path(__file__).parents[2] / "scenarios" / "lan-25.yaml"
    status, out, _ = edgeemu("plan", str(scenario), "--policy", "single")
    assert status == 0
    assert len(re.findall(r"^edge-\d+ ", out, re.MULTILINE)) == 1
    (line,) = (line for line in out.splitlines() if "hold nothing" in line)
    assert line.startswith("24 devices hold nothing: edge-1, edge-2, ")
    assert line.count("edge-") == 24
    document = json.loads(edgeemu("plan", str(scenario), "--policy", "single", "--json")[1])
    assert len(document["placement"]) == 25
