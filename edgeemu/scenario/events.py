"""Events of a scenario: a change of a device or link at an instant or a token."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from edgeemu.scenario.validation import Strict, at
from edgeemu.units import BitsPerSecond, Bytes, PositiveFraction, Seconds


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
