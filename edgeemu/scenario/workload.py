"""Workload of a scenario: prompts, arrivals, lengths, sampling. Reads files of prompts.

Prompts come from the scenario, a text file (one a line) or JSON lines; arrivals from a rate or a trace.
"""

from datetime import date
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from edgeemu.scenario.catalog.shapes import MAX_COUNT
from edgeemu.scenario.distributions import Seed
from edgeemu.scenario.files import or_text
from edgeemu.scenario.names import Flag, KindName
from edgeemu.scenario.prompt_files import read_instants, read_prompts
from edgeemu.scenario.validation import FirstErrorOfMany, Shorthand, Strict, at, exactly_one_of
from edgeemu.units import PerSecond, Seconds

MAX_SEQUENCES = 100_000
MAX_TOKENS = 10_000_000  # of a sequence, and of all prompts together: no model has a longer context
MAX_TEXT = 64 << 20  # characters of all prompts together
LAST_ARRIVAL_S = 1e9  # 30 years of a run; there, instants still differ by 0.1 µs

_Tokens = Annotated[int, Field(strict=True, ge=1, le=MAX_TOKENS), KindName("count")]
_Sequences = Annotated[int, Field(strict=True, ge=1, le=MAX_SEQUENCES), KindName("count")]
_Id = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT), Tag("<id>")]
_Text = Annotated[str, Field(strict=True, min_length=1), Tag("<text>")]
Stops = Annotated[
    tuple[Annotated[_Id | _Text, Discriminator(lambda value: "<id>" if isinstance(value, int) else "<text>")], ...],
    FirstErrorOfMany(),
    KindName("list of token ids and texts"),
]


class Prompt(Shorthand):
    """Prompt: a text, or a number of random tokens for models without a tokenizer; `repeat` times."""

    text_is: ClassVar[str] = "text"

    text: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="Text of the prompt.")
    tokens: _Tokens | None = Field(
        default=None,
        description="Number of random tokens in place of a text, for models without a tokenizer and for timing.",
    )
    max_tokens: _Tokens | None = Field(
        default=None, description="Largest number of generated tokens, in place of the workload's."
    )
    stop: Stops | None = Field(
        default=None, description="Token ids and texts that end the sequence, in place of the workload's."
    )
    seed: Seed | None = Field(
        default=None,
        description="Seed of its sampling; if not given, the seed of `sampling` plus the number of the sequence.",
    )
    repeat: _Sequences = Field(
        default=1, description="Number of sequences with this prompt, each with random tokens and a seed of its own."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        exactly_one_of(self, "text", "tokens")
        return self


class SamplingSpec(Strict):
    """Sampling of the next token. Temperature 0 is greedy; top_k 0 and top_p 1 are off."""

    temperature: Annotated[float, Field(strict=True, ge=0)] = Field(
        default=0.0, description="Temperature of the softmax; 0 always takes the most likely token."
    )
    top_k: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)] = Field(
        default=0, description="Number of the most likely tokens that can be sampled; 0: all."
    )
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=1.0, description="Probability of the smallest set of most likely tokens that can be sampled; 1: all."
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the first sequence; each further one has the next. The same seed gives the same text, "
        "whatever the placement and the other sequences.",
    )


class PoissonSpec(Strict):
    """Independent (Poisson) arrivals, with exponential times between them."""

    rate: PerSecond = Field(
        description="Mean number of arrivals per time; the instants are sampled with the scenario's `seed`."
    )


class ArrivalsSpec(Strict):
    """Arrivals of sequences: exactly one of `poisson` and `trace`."""

    poisson: PoissonSpec | None = Field(default=None, description="Independent (Poisson) arrivals.")
    trace: (
        Annotated[
            tuple[Seconds, ...],
            FirstErrorOfMany(),
            BeforeValidator(read_instants),
            Field(json_schema_extra=or_text("a file of instants, one a line")),
            KindName("list of durations, or a file"),
        ]
        | None
    ) = Field(
        default=None,
        description="Arrival instants: a list of durations, or a file with one instant a line, in seconds where there "
        "is no unit.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        exactly_one_of(self, "poisson", "trace", hint=" (or the word closed)")
        for n, (earlier_s, later_s) in enumerate(pairwise(self.trace or ()), start=1):
            if later_s < earlier_s:
                raise at(["trace", n], "is earlier than the one before")
        if self.trace and self.trace[-1] > LAST_ARRIVAL_S:
            raise at(
                ["trace", len(self.trace) - 1], f"is later than {LAST_ARRIVAL_S:.0e} s: too late to resolve a token"
            )
        return self


class LatencyTarget(Strict):
    """Latencies that a sequence must keep to count as good: time to first token, mean time per later token."""

    ttft: Seconds | None = Field(default=None, description="Largest time to first token, from the sequence's arrival.")
    tpot: Seconds | None = Field(default=None, description="Largest mean time per later token.")

    def met(self, ttft_s: float, tpot_s: float | None) -> bool:
        """Whether a sequence with these latencies kept the target."""
        in_time = self.ttft is None or ttft_s <= self.ttft
        return in_time and (self.tpot is None or tpot_s is None or tpot_s <= self.tpot)


def _check_day(day: Any) -> Any:
    if isinstance(day, str):
        try:
            date.fromisoformat(day)
        except ValueError:
            raise ValueError(f'"{day}" is not a date like 2026-01-31') from None
        if len(day) != len("2026-01-31"):  # 20260131 and 2026-W05-6 are ISO dates too
            raise ValueError(f'"{day}" is not a date like 2026-01-31')
    return day


class Workload(Strict):
    """Workload: prompts and how their sequences are generated."""

    prompts: Annotated[
        tuple[Prompt, ...],
        Field(min_length=1),
        FirstErrorOfMany(),
        BeforeValidator(lambda given, info: read_prompts(given, info, Prompt)),
        Field(json_schema_extra=or_text("a text file, one prompt a line, or JSON lines")),
        KindName("list of [prompts](#prompts) or texts, or a file"),
    ] = Field(description="One sequence for each prompt: a list, a text file with one prompt a line, or JSON lines.")
    system: str | None = Field(default=None, description="System prompt in the model's chat template.")
    chat: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[Flag, Tag("<flag>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<flag>"),
    ] = Field(default="auto", description="Whether prompts go through the chat template; `auto`: if the model has one.")
    date: Annotated[str, BeforeValidator(_check_day), KindName("date")] | None = Field(
        default=None,
        description="Day, as 2026-01-31, that a chat template writes if it writes the date; if not given, the day on "
        "which the command runs, which the records keep.",
    )
    max_tokens: _Tokens = Field(
        default=64, description="Largest number of generated tokens per sequence; the model may end it earlier."
    )
    stop: Stops = Field(
        default=(),
        description="Token ids and texts that end a sequence, in addition to the model's own stop tokens. A stop text "
        "stays in the output.",
    )
    ignore_stop: Flag = Field(
        default=False, description="Whether every sequence goes to its `max_tokens`, whatever is generated."
    )
    sampling: SamplingSpec = Field(default=SamplingSpec(), description="How tokens are sampled.")
    concurrency: _Sequences = Field(
        default=1, description="Largest number of sequences in flight; devices need memory for their caches."
    )
    arrivals: Annotated[
        Annotated[Literal["closed"], Tag("<closed>")] | Annotated[ArrivalsSpec, Tag("<open>")],
        Discriminator(lambda value: "<closed>" if isinstance(value, str) else "<open>"),
    ] = Field(default="closed", description="When sequences arrive; `closed`: each as soon as one before it has ended.")
    pipeline: Literal["no-bubbles", "bubbles"] = Field(
        default="no-bubbles",
        description="With `bubbles` a sequence continues only when every sequence in flight has its token.",
    )
    latency_target: LatencyTarget | None = Field(
        default=None, description="Latencies that a sequence must keep to count as good."
    )

    @model_validator(mode="after")
    def _not_too_much(self) -> Self:
        asked = tokens = characters = 0
        for n, prompt in enumerate(self.prompts):
            asked += prompt.repeat
            tokens += prompt.repeat * (prompt.tokens or 0)
            characters += prompt.repeat * len(prompt.text or "")
            for total, limit, what in [
                (asked, MAX_SEQUENCES, "sequences"),
                (tokens, MAX_TOKENS, "tokens"),
                (characters, MAX_TEXT, "characters"),
            ]:
                if total > limit:
                    raise at(["prompts", n], f"the prompts up to this one are {total:,} {what}; at most {limit:,} are")
        return self

    @model_validator(mode="after")
    def _enough_arrivals(self) -> Self:
        if isinstance(self.arrivals, ArrivalsSpec) and self.arrivals.trace is not None:
            asked = sum(prompt.repeat for prompt in self.prompts)
            if len(self.arrivals.trace) < asked:
                message = f"has {len(self.arrivals.trace)} instants for {asked} sequences"
                raise at(["arrivals", "trace"], message)
        return self
