"""The workload as a scenario writes it: prompts, when they come, how long they may be. Reads files of prompts.

Prompts come from the scenario, a text file (one a line) or JSON lines; arrivals from a rate or a trace.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from edgeemu.catalog.shapes import Count
from edgeemu.errors import did_you_mean_path
from edgeemu.scenario_models import Flag
from edgeemu.scenario_varying import Seed
from edgeemu.strict import Shorthand, Strict, at
from edgeemu.units import DURATION, PerSecond, Seconds, UnitError

PROMPT_KEYS = ("prompt", "text", "tokens", "max_tokens", "stop", "seed", "repeat")  # of a line of JSON

_Id = Annotated[int, Field(strict=True, ge=0), Tag("<id>")]
_Text = Annotated[str, Field(strict=True, min_length=1), Tag("<text>")]
Stops = tuple[Annotated[_Id | _Text, Discriminator(lambda value: "<id>" if isinstance(value, int) else "<text>")], ...]


class Prompt(Shorthand):
    """A text, or that many random tokens (for models that have no tokenizer); `repeat` times."""

    text_is: ClassVar[str] = "text"

    text: Annotated[str, Field(min_length=1)] | None = None
    tokens: Count | None = None
    max_tokens: Count | None = None
    stop: Stops | None = None  # instead of the workload's
    seed: Seed | None = None  # of its sampling; instead of the workload's and its number
    repeat: Count = 1

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.text is None) == (self.tokens is None):
            raise ValueError("give exactly one of text and tokens")
        return self


class Sampling(Strict):
    """How the next token is chosen. Temperature 0 is greedy; top_k 0 and top_p 1 are off."""

    temperature: Annotated[float, Field(strict=True, ge=0)] = 0.0
    top_k: Annotated[int, Field(strict=True, ge=0)] = 0
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    seed: Seed = 0


class PoissonSpec(Strict):
    """Arrivals that do not know of each other: the times between them are drawn, exponentially."""

    rate: PerSecond


def _given_path(given: str | Path, info: ValidationInfo) -> Path:
    """A file beside the scenario. ValueError where there is none."""
    path = (Path((info.context or {}).get("base") or ".") / Path(given).expanduser()).absolute()
    if not path.is_file():
        beside = [Path(given).parent / other.name for other in path.parent.glob("*") if other.is_file()]
        raise ValueError(f'there is no file "{given}"{did_you_mean_path(Path(given), beside)}')
    return path


def _lines(given: str | Path, info: ValidationInfo) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not empty, each with where it is."""
    try:
        text = _given_path(given, info).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f'"{given}" is not text in UTF-8') from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{given}:{number}", line.strip()


def _read_instants(given: Any, info: ValidationInfo) -> Any:
    """One instant a line, in seconds where there is no unit. What is not a file's name is returned as it is."""
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


def _read_prompts(given: Any, info: ValidationInfo) -> Any:
    """One prompt a line, or one JSON object. What is not a file's name is returned as it is."""
    if not isinstance(given, str | Path):
        return given
    lines = list(_lines(given, info))
    return [_object(*line) for line in lines] if str(given).endswith(".jsonl") else [line for _, line in lines]


def _object(where: str, line: str) -> dict[str, Any]:
    """A line of JSON as a prompt, checked: errors name the file and not the scenario."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ValueError(f'{where}: is not an object ({{"prompt": "…"}} or {{"tokens": 64}})')
    if unknown := [key for key in value if key not in PROMPT_KEYS]:
        raise ValueError(f'{where}: unknown key "{unknown[0]}"; known are {", ".join(PROMPT_KEYS)}')
    return {"text" if key == "prompt" else key: item for key, item in value.items()}


def _or_file(what: str) -> Any:
    """Adds to a list's schema that it may be a file's name."""

    def extend(schema: dict[str, Any]) -> None:
        forms = schema.pop("anyOf", None) or [
            {key: schema.pop(key) for key in ("type", "items", "minItems") if key in schema}
        ]
        schema["anyOf"] = [{"type": "string", "description": what}, *forms]

    return extend


class ArrivalsSpec(Strict):
    """When sequences come: exactly one of `poisson` and `trace`."""

    poisson: PoissonSpec | None = None
    trace: (
        Annotated[
            tuple[Seconds, ...],
            BeforeValidator(_read_instants),
            Field(json_schema_extra=_or_file("a file of instants, one a line")),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.poisson is None) == (self.trace is None):
            raise ValueError("give exactly one of poisson and trace (or the word closed)")
        for n, (earlier_s, later_s) in enumerate(pairwise(self.trace or ()), start=1):
            if later_s < earlier_s:
                raise at(["trace", n], "is earlier than the one before")
        return self


class LatencyTarget(Strict):
    """What a sequence must keep to count as good: its time to first token, and its mean time per later token."""

    ttft: Seconds | None = None
    tpot: Seconds | None = None


class Workload(Strict):
    """What is generated."""

    prompts: Annotated[
        tuple[Prompt, ...],
        BeforeValidator(_read_prompts),
        Field(min_length=1, json_schema_extra=_or_file("a text file, one prompt a line, or JSON lines")),
    ]
    system: str | None = None
    chat: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[Flag, Tag("<flag>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<flag>"),
    ] = "auto"  # auto: when the model has a chat template
    max_tokens: Count = 64
    stop: Stops = ()
    ignore_stop: Flag = False  # also of the model: every sequence goes to its full length
    sampling: Sampling = Sampling()
    concurrency: Count = 1  # sequences at once, at most
    arrivals: Annotated[
        Annotated[Literal["closed"], Tag("<closed>")] | Annotated[ArrivalsSpec, Tag("<open>")],
        Discriminator(lambda value: "<closed>" if isinstance(value, str) else "<open>"),
    ] = "closed"  # closed: each as soon as there is a slot for it
    pipeline: Literal["no-bubbles", "bubbles"] = "no-bubbles"  # bubbles: no step before every sequence has its token
    latency_target: LatencyTarget | None = None

    @model_validator(mode="after")
    def _enough_arrivals(self) -> Self:
        if isinstance(self.arrivals, ArrivalsSpec) and self.arrivals.trace is not None:
            asked = sum(prompt.repeat for prompt in self.prompts)
            if len(self.arrivals.trace) < asked:
                message = f"has {len(self.arrivals.trace)} instants for {asked} sequences"
                raise at(["arrivals", "trace"], message)
        return self
