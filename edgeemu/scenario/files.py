"""Files and directories that a scenario names, relative to its own directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationInfo

from edgeemu.errors import did_you_mean_path


def existing(given: str | Path, info: ValidationInfo, kind: Literal["file", "directory"] = "file") -> Path:
    """The absolute path of a file or directory that a scenario names. Raises ValueError, with the nearest name."""
    path, full = Path(given), absolute(given, info)
    if not (full.is_file() if kind == "file" else full.is_dir()):
        siblings = [path.parent / other.name for other in full.parent.glob("*") if other.is_dir() == (kind != "file")]
        raise ValueError(f'there is no {kind} "{given}"{did_you_mean_path(path, siblings)}')
    return full


def absolute(given: str | Path, info: ValidationInfo) -> Path:
    """The absolute path of a file name in a scenario."""
    return (Path((info.context or {}).get("base") or ".") / Path(given).expanduser()).absolute()


def or_file(what: str) -> Callable[[dict[str, Any]], None]:
    """Extension of a list's JSON schema: the value can also be the name of a file, described by `what`."""

    def extend(schema: dict[str, Any]) -> None:
        forms = schema.pop("anyOf", None) or [
            {key: schema.pop(key) for key in ("type", "items", "minItems") if key in schema}
        ]
        schema["anyOf"] = [{"type": "string", "description": what}, *forms]

    return extend
