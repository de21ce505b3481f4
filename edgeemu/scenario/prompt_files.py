"""Files of prompts and of arrival instants."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from edgeemu.quantity import UnitError
from edgeemu.scenario.files import existing
from edgeemu.units import DURATION

PROMPT_KEYS = ("prompt", "text", "tokens", "max_tokens", "stop", "seed", "repeat")  # of a line of JSON


def _lines(given: str | Path, info: ValidationInfo) -> Iterator[tuple[str, str]]:
    """Lines of a file that are not empty, each with its place."""
    try:
        text = existing(given, info).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f'"{given}" is not text in UTF-8') from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{given}:{number}", line.strip()


def read_instants(given: Any, info: ValidationInfo) -> Any:
    """Read a file with one instant a line, in seconds without a unit. Other values are returned unchanged."""
    if not isinstance(given, str | Path):
        return given
    instants = []
    for where, line in _lines(given, info):
        if line.startswith("#"):
            continue
        try:
            instants.append(DURATION.parse(f"{line} s" if line.replace(".", "", 1).isdigit() else line))
        except UnitError as error:
            raise ValueError(f"{where}: {error}") from error
    return [DURATION.format_exact(instant_s) for instant_s in instants]


def read_prompts(given: Any, info: ValidationInfo) -> Any:
    """Read a file with one prompt, or one JSON object, a line. Other values are returned unchanged."""
    if not isinstance(given, str | Path):
        return given
    lines = list(_lines(given, info))
    return [_object(*line) for line in lines] if str(given).endswith(".jsonl") else [line for _, line in lines]


def _object(where: str, line: str) -> dict[str, Any]:
    """Parse and check a line of JSON as a prompt; errors name the file and line."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ValueError(f'{where}: is not an object ({{"prompt": "…"}} or {{"tokens": 64}})')
    if unknown := [key for key in value if key not in PROMPT_KEYS]:
        raise ValueError(f'{where}: unknown key "{unknown[0]}"; known are {", ".join(PROMPT_KEYS)}')
    return {"text" if key == "prompt" else key: item for key, item in value.items()}
