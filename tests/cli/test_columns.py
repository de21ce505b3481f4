"""Columns that a terminal has no room for are left out, and no cell is cut: what is to be copied stays whole."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from support.builders import QUICK

from edgeemu.cli.columns import LEAST_OF_WORDS, fit
from edgeemu.cli.page import Page
from edgeemu.report.catalog_tables import device_table, figures_table, link_table, model_table
from edgeemu.report.engine_tables import engine_table, engines_table
from edgeemu.report.formats import Table
from edgeemu.scenario.catalog import device_profiles, link_types, model_entries
from edgeemu.scenario.catalog.engines import engine_entries

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

LISTS = {
    "devices": device_table(device_profiles().values()),
    "links": link_table(link_types().values()),
    "models": model_table(model_entries().values()),
    "engines": engines_table(engine_entries().values()),
}
ONES = [figures_table(entry) for entry in (*device_profiles().values(), *link_types().values())]
ONES += [engine_table(entry) for entry in engine_entries().values()]


def on_a_terminal(table: Table, width: int) -> list[str]:
    """Lines that a terminal of that width shows of a table."""
    page = Page(io.StringIO())
    page.is_terminal = True
    page.console = Console(file=page.file, force_terminal=True, width=width, legacy_windows=False)
    page.table(*table)
    assert isinstance(page.file, io.StringIO)
    return CONTROL.sub("", page.file.getvalue()).splitlines()


def cells_of(lines: list[str]) -> list[list[str]]:
    """Cells of the lines between the rules of a table."""
    return [[cell.strip() for cell in line[1:-1].split(line[0])] for line in lines if line[0] in "│┃"]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("name", LISTS)
def test_names_of_the_catalog_are_whole_at_any_width(name: str, width: int) -> None:
    table = LISTS[name]
    lines = on_a_terminal(table, width)
    assert max(map(cell_len, lines)) <= width
    assert "…" not in "".join(lines)
    names = [cells[0] for cells in cells_of(lines) if cells[0]]
    assert names[-len(table.rows) :] == [row[0] for row in table.rows]
    if width == 200:
        assert not any("not shown" in line for line in lines)


@pytest.mark.parametrize("table", ONES, ids=lambda table: table.columns[0])
def test_at_80_columns_a_figure_is_shown_with_its_source(table: Table) -> None:
    assert fit(table, 80).left_out in ([], ["label"])
    lines = on_a_terminal(table, 80)
    assert max(map(cell_len, lines)) <= 80
    sources = "".join(cells[-1] for cells in cells_of(lines)[1:]).replace(" ", "")
    assert sources == "".join(row[3] for row in table.rows).replace(" ", "")


def test_columns_leave_in_the_order_that_the_table_says_and_a_line_tells() -> None:
    table = Table(("name", ">a", ">b", "words"), [["x" * 10, "1" * 10, "2" * 10, "to be or not " * 5]], ("b",))
    assert fit(table, 120).left_out == []
    assert fit(table, 59).left_out == []
    assert [fit(table, width).left_out for width in (58, 46, 32, 13)] == [
        ["b"],
        ["b"],
        ["b", "words"],
        ["a", "b", "words"],
    ]
    assert on_a_terminal(table, 58)[-1] == "not shown: b; a wider terminal has more, and --json all"
    assert on_a_terminal(table, 13)[1].startswith("xxxxxxxxxx  1111111111  2222222222  to be")  # not even two columns


words = st.text("abc ", max_size=60)


@QUICK
@given(st.data(), st.integers(1, 6), st.integers(20, 120))
def test_what_is_shown_fits_and_nothing_in_it_is_broken_but_words(data: st.DataObject, n: int, width: int) -> None:
    columns = [data.draw(st.sampled_from(["", ">"])) + data.draw(st.text("abc ", max_size=20)) for _ in range(n)]
    table = Table(
        columns, data.draw(st.lists(st.tuples(*[words] * n), max_size=4)), data.draw(st.lists(st.sampled_from(columns)))
    )
    places, widths, left_out = fit(table, width)
    assert places[0] == 0
    assert places == sorted(set(places))
    assert len(left_out) <= n - len(places)
    if len(places) > 1:
        assert sum(widths) + 3 * len(widths) + 1 <= width
    for place, mine in zip(places, widths, strict=True):
        cells = [row[place] for row in table.rows]
        if place == 0 or columns[place].startswith(">"):
            assert mine >= max(map(cell_len, cells), default=0)
        else:
            longest = max([cell_len(word) for cell in cells for word in cell.split()], default=0)
            assert mine >= min(longest, max(map(cell_len, cells), default=0))
            assert mine >= min(LEAST_OF_WORDS, max(map(cell_len, cells), default=0))
