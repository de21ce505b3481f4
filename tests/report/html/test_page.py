"""A page is whole, whatever is written on it, and is replaced at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.html_pages import read_page

from edgeemu.report.disk import RecordsError
from edgeemu.report.formats import Table
from edgeemu.report.html.page import OPEN_ROWS, Section, Tile, render, write_page

MARKUP = "<script>alert(1)</script> & <b>"


def test_what_is_written_is_no_markup(tmp_path: Path) -> None:
    table = Table((MARKUP, ">n"), [[MARKUP, "1"]])
    section = Section("one", "One", [MARKUP], [table], texts=[(MARKUP, f"{MARKUP}\x1b[31m")])
    write_page(tmp_path / "page.html", render(MARKUP, MARKUP, [Tile(MARKUP, MARKUP, MARKUP)], [section]))
    page = read_page(tmp_path / "page.html")
    assert page.tags.isdisjoint({"script", "b"})
    assert page.text.count(MARKUP) == 11
    assert page.tables[0] == [[MARKUP, "n"], [MARKUP, "1"]]
    assert "\x1b" not in page.text


def test_an_empty_section_is_left_out_and_a_long_table_is_folded(tmp_path: Path) -> None:
    long = Table(("name",), [["x"]] * (OPEN_ROWS + 1))
    write_page(
        tmp_path / "page.html", render("t", "s", [], [Section("none", "None"), Section("long", "L", (), [long])])
    )
    page = read_page(tmp_path / "page.html")
    assert page.sections == ["long"]
    assert "details" in page.tags


def test_half_a_page_is_none(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("before")

    def broken() -> Iterator[str]:
        yield "<html>"
        raise RecordsError("no space")

    with pytest.raises(RecordsError):
        write_page(file, broken())
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_lines_become_sentences(tmp_path: Path) -> None:
    lines = ["of 45 ms, most", "layers: did not run", "done."]
    write_page(tmp_path / "page.html", render("t", "s", [], [Section("a", "A", lines)]))
    text = read_page(tmp_path / "page.html").text
    assert all(each in text for each in ("Of 45 ms, most.", "layers: did not run.", "done.".capitalize()))
