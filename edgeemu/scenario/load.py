"""Reading of scenarios from a file or a text, and writing as YAML."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from edgeemu.errors import RequestError, did_you_mean_path
from edgeemu.scenario.document import Document, Inline, Lines, Position, inline_items, override, read, write
from edgeemu.scenario.files import read_named_text, read_stream, read_text
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.validation import validate

_SHORTHANDS: dict[Position, str] = {
    ("model",): "name",
    ("cost",): "formulas",
    ("network", "default"): "type",
    ("recovery",): "caches",
}


class ScenarioText(NamedTuple):
    """A scenario as it is written: its text, its default name, its file for messages, and where its files are."""

    text: str
    name: str
    file: str
    base: Path | None

    def scenario(self, overrides: Sequence[str] = (), varied: Sequence[str] = ()) -> Scenario:
        """Return the scenario, with settings PATH=VALUE applied: those of `--set`, then those that `--vary` makes.

        Raises `RequestError`.
        """
        return parse_scenario(self.text, self.name, overrides, varied, file=self.file, base=self.base)


def scenario_text(path: Path) -> ScenarioText:
    """Read the text of the scenario in a file. Raises `RequestError`."""
    try:
        text = read_text(path, str(path))
    except OSError as error:
        hint = did_you_mean_path(path, path.parent.glob("*.yaml")) if isinstance(error, FileNotFoundError) else ""
        raise RequestError(f"{(error.strerror or str(error)).lower()}{hint}", file=str(path)) from error
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("._-")[:64] or "scenario"
    return ScenarioText(text, name, str(path), path.parent)


def scenario_text_from(stream: BinaryIO) -> ScenarioText:
    """Read the text that standard input has; file names in it are relative to this directory. Raises `RequestError`."""
    shown = "standard input"
    return ScenarioText(read_stream(stream, shown), "scenario", shown, None)


def load_scenario(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """Read the scenario in a file, with `--set PATH=VALUE` settings applied. Raises `RequestError`."""
    return scenario_text(Path(path)).scenario(overrides)


def parse_scenario(
    text: str,
    name: str = "scenario",
    overrides: Sequence[str] = (),
    varied: Sequence[str] = (),
    *,
    file: str | None = None,
    base: Path | None = None,
) -> Scenario:
    """Read the scenario in a text. `name` is its default name; file names in it are relative to `base`."""
    document = read(text, file or f"{name}.yaml")
    base = base or Path.cwd()
    if document.data is None:
        raise document.error((), "is empty; a scenario names at least a model, devices and a workload")
    _include_placement(document, base)
    for option, setting in [*(("--set", each) for each in overrides), *(("--vary", each) for each in varied)]:
        override(document, setting, _SHORTHANDS, option)
        _include_placement(document, base)
    if isinstance(document.data, dict):
        document.data.setdefault("name", name)
    return validate(Scenario, document, {"base": base}).read_from(document)


def _include_placement(document: Document, base: Path) -> None:
    """Read the file that a scenario names as its placement. Raises `RequestError`."""
    key = "placement"
    file = document.data.get(key) if isinstance(document.data, dict) else None
    if not isinstance(file, str):
        return
    try:
        found = read(read_named_text(file, base), file)
    except ValueError as error:
        raise document.error((key,), str(error)) from error
    if not isinstance(found.data, dict) or list(found.data) != [key] or isinstance(found.data[key], str):
        raise found.error((), f"must have {key}: and nothing else, as edgeemu plan --yaml prints it")
    document.include(key, found)


def to_yaml(scenario: Scenario, links: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Write a scenario as YAML that `parse_scenario` reads back to an equal scenario.

    `links`: its links as they are to be written, if who has made it knows them.
    """
    data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    first = ("between", "from", "to")
    given = data["network"]["links"] if links is None else links
    inline = [Inline({key: link[key] for key in first if key in link} | dict(link)) for link in given]
    lines = inline_items(inline)
    data["network"]["links"] = [] if lines else inline
    return "".join(_section(key, value, lines) for key, value in data.items())


def _section(key: str, value: Any, links: str) -> str:
    """Write one key of a scenario, and the lines of links where they belong."""
    text = write(Lines({key: value}))
    if not links or key != "network":
        return text
    before, empty, after = text.partition("\n  links: []\n")
    assert empty, "the network has no links but these"
    indented = links.replace("\n-", "\n  -")
    return f"{before}\n  links:\n  {indented}{after}"
