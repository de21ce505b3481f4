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

    collectives: Literal["ring", "star"] = "ring"
    tile_overlap: Flag = True
    divide: Flag = True


class TimeSpec(Strict):
    """Whether the wall clock follows the emulated one, and how much slower it runs."""

    mode: Literal["realtime", "virtual"] = "realtime"
    dilation: Annotated[
        Annotated[Literal["auto"], Tag("<auto>")] | Annotated[float, Field(strict=True, ge=1e-3), Tag("<number>")],
        Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<number>"),
    ] = "auto"


Knowledge: TypeAlias = Literal["measured", "oracle"]
Objective: TypeAlias = Literal["latency", "throughput", "energy"]


class DecisionSpec(Strict):
    """How often the policy is asked again, and what of its time counts.

    `interval` is in tokens. `time: measured` is what the policy really took on this host; a duration counts as given.
    With a `threshold` the policy is asked only when what is known of a device or link has changed by more than that
    since it was asked last, or when 32 times the interval has passed: caches grow.
    `smoothing` is the weight of the newest measurement in what the policy is shown: 100 % believes it alone.
    """

    interval: Count = 1
    time: Annotated[
        Annotated[Literal["measured"], Tag("<measured>")] | Annotated[Seconds, Tag("<time>")],
        Discriminator(lambda value: "<measured>" if value == "measured" else "<time>"),
    ] = "measured"
    threshold: Fraction = 0
    smoothing: PositiveFraction = 0.5


class MigrationSpec(Strict):
    """How a block moves. With `weights_on_flash` each device has all weights on its own storage; only caches cross.

    `pause`: the token waits for the transfer. `precopy`: rows that are written already are sent, in chunks, while
    tokens go on; only the last ones and the switch are waited for.
    """

    mode: Literal["pause", "precopy"] = "pause"
    weights_on_flash: Annotated[bool, Field(strict=True)] = False
    flash_bandwidth: BytesPerSecond = 80e6  # [D] what a good SD card reads (UHS-I: at most 104 MB/s)
    chunk: Bytes = 64 * 1024


class CostSpec(Shorthand):
    """What blocks and messages cost: what the kernels really do, or what the head-level paper publishes.

    The second is for the simulator only; see `edgeemu.placement.paper_costs`. `value_bytes` is the paper's b.
    """

    text_is: ClassVar[str] = "formulas"

    formulas: Literal["physical", "literal"] = "physical"
    value_bytes: Literal[2, 4] = 4

    @model_validator(mode="after")
    def _kernels_compute_float32(self) -> Self:
        if self.formulas == "physical" and self.value_bytes != 4:
            raise at(["value_bytes"], "is for literal costs; the kernels compute with values of 4 bytes")
        return self
