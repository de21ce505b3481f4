"""Options of a scenario: sharding, time, decisions, migration, costs."""

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from edgeemu.scenario.catalog.shapes import Count
from edgeemu.scenario.names import Flag, Name
from edgeemu.scenario.validation import Shorthand, Strict, at
from edgeemu.units import DURATION, Bytes, BytesPerSecond, Fraction, PositiveFraction, Seconds

Collectives: TypeAlias = Literal["ring", "star", "gather", "relay"]
Partials: TypeAlias = Literal["float32", "messages"]
NumberFormatName: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"]


class ShardingSpec(Strict):
    """Combination of partial results, where a policy divides projections or feed-forward blocks among devices.

    `ring`: ReduceScatter and AllGather of chunks of rows; `star`: one device adds all partial sums. Policies that are
    published systems bring their own (`policies.COLLECTIVES`).
    """

    collectives: Collectives | None = Field(
        default=None,
        description="Collective algorithm. `ring`: ReduceScatter and AllGather of chunks of rows; `star`: one device "
        "adds all partial sums and sends the result to all; `gather`: rows of all matrices are divided, and the device "
        "of the embedding attends and puts results together, for placements that divide every layer, and do not "
        "change; `relay`: `star`, and x goes from device to device through that of the embedding. Without it, that of "
        "the policy if it is such a system, else `ring`.",
    )
    partials: Partials = Field(
        default="float32",
        description="Format of partial sums and of the chunks in a ring: `float32`, or that of `precision.messages`.",
    )
    tile_overlap: Flag = Field(
        default=True,
        description="Whether products are computed chunk by chunk while other chunks travel, in prompts whose chunks "
        "have enough rows to keep every device busy; only with `ring`.",
    )
    divide: Flag = Field(
        default=True,
        description="Whether `lookahead` may divide layers, at first and at later decisions.",
    )


class TimeSpec(Strict):
    """Relation of the wall clock to emulated time."""

    mode: Literal["realtime", "virtual"] = Field(
        default="realtime",
        description="`realtime`: the wall clock follows emulated time; `virtual`: kernels run without waiting, and time"
        " is computed.",
    )
    dilation: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[float, Field(strict=True, ge=1e-3), Tag("<number>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<number>"),
    ] = Field(
        default="auto",
        description="Slowdown factor of the wall clock against emulated time, at least 0.001. `auto`: the least at "
        "which this host keeps up.",
    )


Knowledge: TypeAlias = Literal["measured", "oracle"]
Objective: TypeAlias = Literal["latency", "throughput", "energy"]


class DecisionSpec(Strict):
    """Interval, threshold and cost of the policy's decisions.

    With a `threshold` the policy is asked only when the estimate of a device or link has changed by more since the last
    decision, or when 32 intervals have passed, because caches grow.
    """

    interval: Count = Field(
        default=1, description="Tokens until the policy is asked again; 1 after it was asked about slow links."
    )
    time: Annotated[
        Annotated[Literal["measured"], Tag("<measured>")] | Annotated[Seconds, Tag("<time>")],
        Discriminator(lambda value: "<measured>" if isinstance(value, str) and value[:1].isalpha() else "<time>"),
    ] = Field(
        default=0.0,
        description="Time that a decision takes on the timeline: a duration, or `measured`, the processor time of the "
        "policy on this host, on which the figures then depend.",
    )
    on: Name | None = Field(
        default=None,
        description="Device that decides, with `time: measured`: the processor time is scaled to its speed. Without "
        "it, decisions take as long as on this host.",
    )
    limit: Annotated[float, DURATION.above_zero()] = Field(
        default=10.0,
        description="Processor time that a decision may take, and a fifth of what it may take by the clock. Then what "
        "the policy has offered until then is used; without an offer the placement stays as it is, and a run that has "
        "none yet ends.",
    )
    threshold: Fraction = Field(
        default=0,
        description="Relative change of what is known of a device or link since the last decision above which the "
        "policy is asked; it is also asked after 32 intervals. 0: always. Not with `knowledge: oracle`.",
    )
    smoothing: PositiveFraction = Field(
        default=0.5,
        description="Weight of the newest measurement in the estimates that the policy gets. That of a device falls to "
        "a sixteenth while the measurements stay near its level, so that noise averages out; 1: only the newest.",
    )


class MigrationSpec(Strict):
    """Protocol of a migration. With `weights_on_flash` each device stores all weights, and only caches are sent.

    `pause`: the token waits for the transfer. `precopy`: rows that are already written are sent in chunks while tokens
    are generated; a token waits only for the last rows and the switch.
    """

    mode: Literal["pause", "precopy"] = Field(
        default="pause",
        description="`pause`: the token waits for the whole transfer; `precopy`: rows that are already written are "
        "copied while tokens are generated.",
    )
    weights_on_flash: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Whether every device has all weights on its own storage, so that only caches cross links.",
    )
    flash_bandwidth: BytesPerSecond = Field(default=80e6, description="Read rate of that storage.")
    chunk: Bytes = Field(
        default=64 * 1024, description="Size of a chunk of a transfer; other messages pass between chunks."
    )


class CostSpec(Shorthand):
    """Costs of blocks and messages: physical (of the kernels), or literal (of the head-level paper).

    Literal costs are for the simulator only; see `placement.paper_costs`. `value_bytes` is the paper's b.
    """

    text_is: ClassVar[str] = "formulas"

    formulas: Literal["physical", "literal"] = Field(
        default="physical",
        description="`physical`: what the kernels do; `literal`: what the head-level paper (arXiv 2505.02533) "
        "publishes, for `edgeemu simulate` only.",
    )
    value_bytes: Literal[2, 4] = Field(
        default=4, description="Bytes per value, the paper's b; the kernels' values have 4."
    )

    @model_validator(mode="after")
    def _kernels_compute_float32(self) -> Self:
        if self.formulas == "physical" and self.value_bytes != 4:
            raise at(["value_bytes"], "is for literal costs; the kernels compute with values of 4 bytes")
        return self


class PrecisionSpec(Strict):
    """Number formats of weights, K/V caches and messages between devices.

    Devices hold and send exactly these bytes, and compute in float32 from them. A matrix that is no whole number of a
    format's blocks, or whose parts are not when it is divided, is held in the next finer one.
    """

    weights: Literal[NumberFormatName, "file"] = Field(
        default="f32",
        description="Format of all matrices; `file`: each as the GGUF file has it. Norms and biases stay float32.",
    )
    cache: NumberFormatName = Field(default="f32", description="Format of the rows of keys and values.")
    messages: NumberFormatName = Field(
        default="f32", description="Format of the rows of activations that blocks hand on."
    )
    hold: Literal["packed", "expanded"] = Field(
        default="packed",
        description="`expanded`: matrices are also kept in float32, in memory of this host that devices do not count, "
        "and products take float32's time on this host; the summary says so.",
    )
