"""The directory of a run and the files in it that are written whole."""

import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self


class RunDirectory:
    """`runs/<scenario>-<UTC time>-<policy>/` and the small files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, base: Path, scenario_name: str, policy: str, started_utc: datetime) -> Self:
        """A new directory below `base`; runs that start in the same second get a number at the end."""
        stamp = started_utc.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        stem = f"{_as_file_name(scenario_name)}-{stamp}-{_as_file_name(policy)}"
        base.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = base / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        _write_whole(self.path / "summary.json", to_json(summary) + "\n")

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        _write_whole(self.path / "meta.json", to_json(meta) + "\n")

    def write_scenario(self, text: str) -> None:
        """The resolved scenario, which runs again to the same cluster."""
        _write_whole(self.path / "scenario.yaml", text)


def _as_file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever looks sees the old one or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON text. JSON has no NaN and no infinity: they become null."""
    return json.dumps(_without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
