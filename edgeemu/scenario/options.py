"""What a scenario lets happen while a run goes on, how the controller answers, and what it is reckoned with."""

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from edgeemu.scenario.catalog.shapes import Count
from edgeemu.scenario.names import Flag
from edgeemu.scenario.validation import Shorthand, Strict, at
from edgeemu.units import Bytes, BytesPerSecond, Fraction, PositiveFraction, Seconds


class ShardingSpec(Strict):
    """How devices that share a layer join what they have computed, where a policy divides projections or feed-forwards.

    `ring`: ReduceScatter and AllGather, with rows cut into chunks; `star`: one device adds everything up. With
    `tile_overlap` products are done chunk by chunk while other chunks are on their way; stars have none. With `divide`
    `lookahead` may divide layers; what it has divided it does not change any more.
    """

    collectives: Literal["ring", "star"] = Field(
        default="ring",
        description="Collective algorithm. `ring`: ReduceScatter and AllGather of chunks of rows; `star`: one device "
        "adds all partial sums and sends the result to all.",
    )
    tile_overlap: Flag = Field(
        default=True,
        description="Whether products are computed chunk by chunk while other chunks travel, in prompts whose chunks "
        "have enough rows to keep every device busy; not with `star`.",
    )
    divide: Flag = Field(
        default=True,
        description="Whether `lookahead` may divide layers. It does not change what it has divided while the run goes "
        "on.",
    )


class TimeSpec(Strict):
    """Whether the wall clock follows the emulated one, and how much slower it runs."""

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
    """How often the policy is asked again, and what of its time counts.

    `interval` is in tokens. `time: measured` is what the policy really took on this host; a duration counts as given.
    With a `threshold` the policy is asked only when what is known of a device or link has changed by more than that
    since it was asked last, or when 32 times the interval has passed: caches grow.
    `smoothing` is the weight of the newest measurement in what the policy is shown: 100 % believes it alone.
    """

    interval: Count = Field(default=1, description="Number of tokens after which the policy is asked again.")
    time: Annotated[
        Annotated[Literal["measured"], Tag("<measured>")] | Annotated[Seconds, Tag("<time>")],
        Discriminator(lambda value: "<measured>" if value == "measured" else "<time>"),
    ] = Field(
        default="measured",
        description="Time that a decision takes on the timeline: `measured` on this host, or a duration.",
    )
    threshold: Fraction = Field(
        default=0,
        description="Relative change of what is known of a device or link since the last decision above which the "
        "policy is asked; it is also asked after 32 intervals. 0: always. Not with `knowledge: oracle`.",
    )
    smoothing: PositiveFraction = Field(
        default=0.5, description="Weight of the newest measurement in the estimates that the policy gets."
    )


class MigrationSpec(Strict):
    """How a block moves. With `weights_on_flash` each device has all weights on its own storage; only caches cross.

    `pause`: the token waits for the transfer. `precopy`: rows that are written already are sent, in chunks, while
    tokens go on; only the last ones and the switch are waited for.
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
    """What blocks and messages cost: what the kernels really do, or what the head-level paper publishes.

    The second is for the simulator only; see `edgeemu.placement.paper_costs`. `value_bytes` is the paper's b.
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
