"""Files of prompts and of arrival instants."""

from io import StringIO
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, ValidationInfo

from edgeemu.quantity import UnitError
from edgeemu.scenario.files import base_of, lines_of, read_named_text
from edgeemu.scenario.traces import TimeColumn
from edgeemu.scenario.validation import first_message
from edgeemu_kernels import strict_json

PROMPT_KEYS = ("prompt", "text", "tokens", "max_tokens", "stop", "seed", "repeat")  # of a line of JSON
MAX_LINES = 100_000  # of a file: no more sequences than that fit in a run
_MAX_JSON = 2**20  # characters of a line of JSON, which takes much more memory than its text
_JSON_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv", ".json", ".parquet", ".xlsx", ".xls", ".yaml", ".yml")  # other than a prompt a line

PromptT = TypeVar("PromptT", bound=BaseModel)


def read_instants(given: Any, info: ValidationInfo) -> Any:
    """Read a file with one instant a line, in seconds without a unit. Other values are returned unchanged."""
    if not isinstance(given, str | Path):
        return given
    instants: list[str] = []
    times = TimeColumn("")
    for where, line in lines_of(read_named_text(given, base_of(info)), str(given)):
        if len(instants) == MAX_LINES:
            raise ValueError(f"{where}: has more than {MAX_LINES:,} instants")
        before_s = times.last_s
        try:
            instants.append(times.read(line))
        except UnitError as error:
            raise ValueError(f"{where}: {error}") from error
        if times.last_s < before_s:
            raise ValueError(f"{where}: {line} is earlier than the line before")
    if not instants:
        raise ValueError(f"{given}: has no instants")
    return instants


def read_prompts(given: Any, info: ValidationInfo, prompt: type[PromptT]) -> Any:
    """Read a file with one prompt, or one JSON object, a line, as `prompt`s. Other values are returned unchanged."""
    if not isinstance(given, str | Path):
        return given
    suffix = Path(given).suffix.lower()
    if suffix in _TABLES:
        raise ValueError(
            f"{given}: a {suffix} file is not read; write text with one prompt a line, or JSON lines (.jsonl) such as "
            '{"prompt": "…"} or, in place of columns of lengths, {"tokens": 120, "max_tokens": 16}'
        )
    prompts: list[PromptT] = []
    for number, line in enumerate(StringIO(read_named_text(given, base_of(info))), start=1):
        if not line.strip():
            continue
        if len(prompts) == MAX_LINES:
            raise ValueError(f"{given}:{number}: has more than {MAX_LINES:,} prompts")
        try:
            data = _object(line) if suffix in _JSON_LINES else {"text": line.strip()}
            prompts.append(prompt.model_validate(data))
        except ValidationError as error:
            raise ValueError(f"{given}:{number}: {first_message(error)}") from error
        except ValueError as error:
            raise ValueError(f"{given}:{number}: {error}") from error
    if not prompts:
        raise ValueError(f"{given}: has no prompts")
    return prompts


def _object(line: str) -> dict[str, Any]:
    """Parse and check a line of JSON as a prompt. Raises ValueError."""
    if len(line) > _MAX_JSON:
        raise ValueError(f"has {len(line):,} characters; at most {_MAX_JSON:,} are read of a line of JSON")
    try:
        value = strict_json.loads(line)
    except JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ValueError('is not an object ({"prompt": "…"} or {"tokens": 64})')
    if unknown := [key for key in value if key not in PROMPT_KEYS]:
        raise ValueError(f'unknown key "{unknown[0][:40]}"; known are {", ".join(PROMPT_KEYS)}')
    if "prompt" in value and "text" in value:
        raise ValueError('"prompt" and "text" mean the same; give one of them')
    return {"text" if key == "prompt" else key: item for key, item in value.items()}
