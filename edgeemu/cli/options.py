"""Options that commands share, and the scenario that they name."""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from edgeemu.scenario.load import ScenarioText
    from edgeemu.scenario.scenario import Scenario

ScenarioFile = Annotated[
    Path,
    typer.Argument(
        metavar="SCENARIO", help="Scenario file in YAML; - reads one from standard input.", show_default=False
    ),
]
ScenarioOrNone = Annotated[
    Path | None,
    typer.Argument(
        metavar="SCENARIO", help="Scenario file in YAML; - reads one from standard input.", show_default=False
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Go on with a run that was killed or failed, from the records in its directory; without SCENARIO.",
        show_default=False,
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="Placement policy: a name (see: edgeemu policies) or FILE.py:NAME. Overrides the scenario's.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the code of a policy file that the scenario names (policy: FILE.py:NAME).")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Set a field of the scenario; may be repeated.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document; everything else to standard error.")]
OutDirectory = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Directory in which the run makes its own directory of records.")
]

Share = Annotated[
    bool, typer.Option("--share", help="Let the umask say who can read the records; else only you can (mode 0700).")
]

Simulated = Annotated[bool, typer.Option("--simulate", help="Simulate instead of starting device processes.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="COLUMN=VALUES",
        help="Read only rows of a CSV file whose column has one of these values (nodes=1,2). May be repeated.",
        show_default=False,
    ),
]


def shown(path: Path) -> str:
    """Name of a scenario file, for a sentence."""
    return "standard input" if str(path) == "-" else str(path)


def read_scenario(path: Path) -> ScenarioText:
    """Read the text of a scenario from its file, or from standard input."""
    from edgeemu.scenario.load import scenario_text, scenario_text_from

    return scenario_text_from(sys.stdin.buffer) if str(path) == "-" else scenario_text(path)


def load(path: Path, settings: list[str] | None) -> Scenario:
    """Load a scenario with the `--set` changes applied, and with today as its date if it names none."""
    return dated(read_scenario(path).scenario(settings or ()))


def dated(scenario: Scenario) -> Scenario:
    """Return a scenario with today as its date if it names none."""
    if scenario.workload.date is not None:
        return scenario
    today = scenario.workload.model_copy(update={"date": date.today().isoformat()})
    return scenario.model_copy(update={"workload": today})


def check_writable(out: Path, option: str = "--out") -> None:
    """Check a directory before anything is started, rather than when the first file is written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f'"{out}" cannot be made: {error.strerror}', field=option) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise RequestError(f'"{out}" cannot be written to', field=option)


def conditions(option: str, given: list[str] | None) -> dict[str, list[str]]:
    """Columns of a CSV file with the values that they may have: `nodes=1,2`. Raises `RequestError`."""
    found = {}
    for text in given or ():
        column, equals, values = text.partition("=")
        if not (column.strip() and equals and values.strip()):
            raise RequestError(f'"{text}" is not COLUMN=VALUE or COLUMN=VALUE,VALUE', field=option)
        found[column.strip()] = [value.strip() for value in values.split(",")]
    return found


def check_file(path: Path, option: str) -> None:
    """Check that a file can be written, before anything that takes long.

    Raises:
        RequestError: it cannot.
    """
    if path.is_dir():
        raise RequestError(f'"{path}" is a directory; name a file', field=option)
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise RequestError(f'"{path}" cannot be written: its directory is missing or not yours', field=option)


def separated(text: str) -> list[str]:
    """Read names that are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
