"""Events of a scenario: changes of a device or link at an instant or a token."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import FirstErrorOfMany, Strict, at
from edgeemu.units import BIT_RATE, Bytes, Fraction, Seconds


class EventSpec(Strict):
    """Change of a device or a link, at an instant or when a token of the first sequence starts.

    `speed` and `memory` are the device's own from then on; its load continues. A link gets another bandwidth or delay
    in both directions; its variations continue.
    """

    at: Seconds | None = Field(default=None, description="Instant of the run.")
    at_token: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        default=None,
        description="Token of the first sequence at whose start the event happens; less than its `max_tokens`. "
        "0: as it arrives.",
    )
    device: str | None = Field(
        default=None, description="Device that changes. A name with a count means all its devices."
    )
    link: Annotated[tuple[str, ...], FirstErrorOfMany(), KindName("two names")] | None = Field(
        default=None, description="Link that changes, in both directions: the names of its two ends."
    )
    speed: Fraction | None = Field(
        default=None, description="Fraction of the device's own speed from then on, in addition to its load."
    )
    memory: Bytes | None = Field(default=None, description="Memory of the device from then on.")
    bandwidth: Annotated[float, BIT_RATE] | None = Field(
        default=None, description="Bandwidth of the link from then on; 0: messages wait for an event with another."
    )
    delay: Seconds | None = Field(default=None, description="One-way delay of the link from then on.")

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
        if self.speed == 0:
            raise at(["speed"], "is zero; a device that stands still has a fault (faults: [{…, fault: hang}])")
        return self
