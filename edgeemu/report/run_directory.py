"""The directory of a run, and the small files in it that appear complete or not at all."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.report.facts import RunFacts, decode_facts
from edgeemu.report.new_file import complete_file
from edgeemu.report.printable import printable_json
from edgeemu.report.record_files import RunRecords

FACTS = "facts.json"


class RunDirectory:
    """`runs/<scenario>-<UTC time>-<policy>/` and the small files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, base: Path, scenario_name: str, policy: str, started_utc: datetime, *, share: bool = False) -> Self:
        """Make a new directory below `base`; runs that start in the same second get a number at the end.

        It is this user's alone, and so are the files in it; with `share` it is whose the umask says.
        """
        stamp = started_utc.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        named = policy.rpartition("/")[2]  # of a user's file, without its directory
        stem = f"{as_file_name(scenario_name)}-{stamp}-{as_file_name(named)}"
        base.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = base / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir(0o777 if share else 0o700)
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    @classmethod
    def find(cls, path: Path) -> Self:
        """Find the directory of a run that is there.

        Raises:
            RequestError: there is none; the message says what the user may have meant.
        """
        if path.is_dir():
            if (path / FACTS).is_file():
                return cls(path)
            raise RequestError(_why_no_run(path), file=str(path))
        if path.is_file():
            inside = f' (did you mean "{path.parent}"?)' if (path.parent / FACTS).is_file() else ""
            raise RequestError(f"not the directory of a run, but a file{inside}", file=str(path))
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RequestError(f"no such directory{did_you_mean(path.name, siblings)}", file=str(path))

    @property
    def records(self) -> RunRecords:
        """Tables of the run."""
        return RunRecords(self.path)

    def read_facts(self) -> RunFacts:
        """Read the facts of the run.

        Raises:
            RequestError: they are damaged, or of another version.
        """
        return decode_facts((self.path / FACTS).read_bytes(), str(self.path / FACTS))

    def write_facts(self, facts: RunFacts) -> None:
        """Write what is known of the run by now, which no table holds."""
        _write_complete(self.path / FACTS, asdict(facts))

    def read_summary(self) -> dict[str, Any]:
        """Read the figures of a run that has ended.

        Raises:
            RequestError: they are damaged.
        """
        return _read_json(self.path / "summary.json", "the figures of a run")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the figures of the run."""
        _write_complete(self.path / "summary.json", summary)

    def read_meta(self) -> dict[str, Any]:
        """Read the host, the versions and the command line.

        Raises:
            RequestError: they are missing or damaged.
        """
        return _read_json(self.path / "meta.json", "what a run says of its host")

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write the host, the versions and the command line."""
        _write_complete(self.path / "meta.json", meta)

    def write_scenario(self, text: str) -> None:
        """Write the resolved scenario, which runs again to the same cluster."""
        _write_complete(self.path / "scenario.yaml", text)


def _why_no_run(path: Path) -> str:
    if (path / "meta.json").is_file():
        return f"no {FACTS}: the run was made by an older edgeemu, or was killed before it began"
    runs = sorted((other for other in path.iterdir() if (other / FACTS).is_file()), key=lambda run: run.stat().st_mtime)
    latest = f' (did you mean the latest run in it, "{runs[-1]}"?)' if runs else ""
    return f"not the directory of a run{latest}"


def as_file_name(text: str) -> str:
    """Return a text with only letters, digits, dots, underscores and hyphens."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def _read_json(file: Path, what: str) -> dict[str, Any]:
    """Read a JSON object. Raises RequestError: the file is missing or damaged; `what` is in it."""
    try:
        found: Any = json.loads(file.read_bytes())
        if isinstance(found, dict):
            return found
        why = "no object"
    except FileNotFoundError:
        why = "there is no such file"
    except (ValueError, RecursionError) as error:
        why = str(error)
    raise RequestError(f"not {what}: {why}", file=str(file))


def _write_complete(path: Path, content: str | Mapping[str, Any]) -> None:
    """Write a text or a JSON document so that a reader finds the old file or the new one, never half of it."""
    with complete_file(path, text=True) as file:
        if isinstance(content, str):
            file.write(content)
        else:
            file.writelines(json_pieces(content))
            file.write("\n")


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Convert to JSON text. JSON has no NaN and no infinity: they become null."""
    return "".join(json_pieces(value, indent=indent))


def json_pieces(value: Any, *, indent: int | None = 2) -> Iterator[str]:
    """Convert to JSON piece by piece, so that the text of a large document is never in memory as a string."""
    encoder = json.JSONEncoder(indent=indent, ensure_ascii=False, allow_nan=False)
    return map(printable_json, encoder.iterencode(_without_nan(value)))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
