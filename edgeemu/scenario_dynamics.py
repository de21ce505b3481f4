"""What a scenario lets happen while a run goes on, how the controller answers, and what it is reckoned with."""

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from edgeemu.catalog.shapes import Count
from edgeemu.strict import Shorthand, Strict, at
from edgeemu.units import BitsPerSecond, Bytes, BytesPerSecond, Fraction, PositiveFraction, Seconds

Knowledge: TypeAlias = Literal["measured", "oracle"]


class EventSpec(Strict):
    """At an instant, or when a token of the first sequence is begun: a device or a link is different from then on.

    `speed` is the share of its own speed that a device has from then on, beside its load; `memory`, what there is of
    its memory. A link, in both directions, gets another bandwidth or delay; its variations go on.
    """

    at: Seconds | None = None
    at_token: Annotated[int, Field(strict=True, ge=0)] | None = None
    device: str | None = None
    link: tuple[str, ...] | None = None
    speed: PositiveFraction | None = None
    memory: Bytes | None = None
    bandwidth: BitsPerSecond | None = None
    delay: Seconds | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.at is None) == (self.at_token is None):
            raise ValueError("say when: either at: 2 s, or at_token: 20")
        if (self.device is None) == (self.link is None):
            raise ValueError("say what changes: either device: a, or link: [a, b]")
        if self.link is not None and len(self.link) != 2:
            raise at(["link"], f"names {len(self.link)} devices; a link is between two")
        of_devices, of_links = ("speed", "memory"), ("bandwidth", "delay")
        mine, other = (of_devices, of_links) if self.device is not None else (of_links, of_devices)
        for key in other:
            if getattr(self, key) is not None:
                raise at([key], f"is not of a {'device' if self.device is not None else 'link'}")
        if all(getattr(self, key) is None for key in mine):
            raise ValueError(f"nothing changes: give {' or '.join(mine)}")
        return self


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
    threshold: Fraction = 0.0
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

    The second is for the simulator only; see `edgeemu.literal`. `value_bytes` is the paper's b.
    """

    text_is: ClassVar[str] = "formulas"

    formulas: Literal["physical", "literal"] = "physical"
    value_bytes: Literal[2, 4] = 4

    @model_validator(mode="after")
    def _kernels_compute_float32(self) -> Self:
        if self.formulas == "physical" and self.value_bytes != 4:
            raise at(["value_bytes"], "is for literal costs; the kernels compute with values of 4 bytes")
        return self
