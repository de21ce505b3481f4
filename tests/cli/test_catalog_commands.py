"""The commands `devices` and `links`: tables of all, one with its sources, JSON of both, and unknown names."""

import json
import re
from io import StringIO

import pytest
from rich.cells import cell_len
from support.commands import Edgeemu

from edgeemu.cli.page import Page
from edgeemu.report.catalog_tables import device_table, link_table
from edgeemu.scenario.catalog import device_profiles, link_types


@pytest.mark.parametrize(
    ("command", "name", "least", "key"),
    [("devices", "raspberry-pi-5", 36, "decode_bandwidth"), ("links", "thunderbolt-4", 13, "bandwidth")],
)
def test_all_are_listed_and_one_is_shown_with_its_sources(
    edgeemu: Edgeemu, command: str, name: str, least: int, key: str
) -> None:
    status, out, _ = edgeemu(command)
    listed = [line.split()[0] for line in out.splitlines()[1:]]
    assert (status, len(listed) >= least, name in listed) == (0, True, True)
    document = json.loads(edgeemu(command, "--json")[1])
    assert [entry["name"] for entry in document] == listed
    one = json.loads(edgeemu(command, name, "--json")[1])
    assert one == next(entry for entry in document if entry["name"] == name)
    assert set(one[key]) == {"value", "source", "label"}
    shown = edgeemu(command, name)[1]
    (row,) = [line for line in shown.splitlines() if line.startswith(f"{key} ")]
    assert f" {one[key]['label']} " in row
    assert row.endswith(one[key]["source"])


@pytest.mark.parametrize(
    ("command", "name", "nearest"),
    [("devices", "raspbery-pi-5", "raspberry-pi-5"), ("links", "ethernet-2g", "ethernet-2.5g")],
)
def test_an_unknown_name_is_answered_with_the_nearest(edgeemu: Edgeemu, command: str, name: str, nearest: str) -> None:
    status, out, err = edgeemu(command, name)
    assert (status, out) == (2, "")
    assert f'"{name}" in the catalog (did you mean "{nearest}"?)' in err


def test_memory_is_that_which_runs_get(edgeemu: Edgeemu) -> None:
    rows = {line.split()[0]: line for line in edgeemu("devices")[1].splitlines()}
    assert " 7.21 GiB " in rows["raspberry-pi-5"]
    assert " 4 GiB " in rows["jetson-nano"]


class Terminal(StringIO):
    """Terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", ["devices", "links"])
def test_a_terminal_of_80_columns_shows_whole_names(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    table = device_table(device_profiles().values()) if command == "devices" else link_table(link_types().values())
    Page(terminal).table(*table)
    lines = terminal.getvalue().splitlines()
    assert all(cell_len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in lines)
    assert all(any(f" {row[0]} " in line for line in lines) for row in table.rows)
    assert "…" not in terminal.getvalue()
