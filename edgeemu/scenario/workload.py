"""The workload as a scenario writes it: prompts, when they come, how long they may be. Reads files of prompts.

Prompts come from the scenario, a text file (one a line) or JSON lines; arrivals from a rate or a trace.
"""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from edgeemu.scenario.catalog.shapes import Count
from edgeemu.scenario.distributions import Seed
from edgeemu.scenario.names import Flag
from edgeemu.scenario.prompt_files import or_file, read_instants, read_prompts
from edgeemu.scenario.validation import Shorthand, Strict, at
from edgeemu.units import PerSecond, Seconds

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


class SamplingSpec(Strict):
    """How the next token is chosen. Temperature 0 is greedy; top_k 0 and top_p 1 are off."""

    temperature: Annotated[float, Field(strict=True, ge=0)] = 0.0
    top_k: Annotated[int, Field(strict=True, ge=0)] = 0
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    seed: Seed = 0


class PoissonSpec(Strict):
    """Arrivals that do not know of each other: the times between them are drawn, exponentially."""

    rate: PerSecond


class ArrivalsSpec(Strict):
    """When sequences come: exactly one of `poisson` and `trace`."""

    poisson: PoissonSpec | None = None
    trace: (
        Annotated[
            tuple[Seconds, ...],
            BeforeValidator(read_instants),
            Field(json_schema_extra=or_file("a file of instants, one a line")),
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

    def met(self, ttft_s: float, tpot_s: float | None) -> bool:
        """Whether a sequence with these kept it."""
        in_time = self.ttft is None or ttft_s <= self.ttft
        return in_time and (self.tpot is None or tpot_s is None or tpot_s <= self.tpot)


class Workload(Strict):
    """What is generated."""

    prompts: Annotated[
        tuple[Prompt, ...],
        BeforeValidator(read_prompts),
        Field(min_length=1, json_schema_extra=or_file("a text file, one prompt a line, or JSON lines")),
    ]
    system: str | None = None
    chat: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[Flag, Tag("<flag>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<flag>"),
    ] = "auto"  # auto: when the model has a chat template
    max_tokens: Count = 64
    stop: Stops = ()
    ignore_stop: Flag = False  # also of the model: every sequence goes to its full length
    sampling: SamplingSpec = SamplingSpec()
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
