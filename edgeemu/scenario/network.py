"""The sections of a scenario, one pydantic model each. Knows the catalog; reads no scenario and draws nothing.

Fields that may be drawn hold either a value in base units or a `Distribution` of such values.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from edgeemu.scenario.catalog import link_type
from edgeemu.scenario.distributions import Drawn
from edgeemu.scenario.names import Flag, Name
from edgeemu.scenario.time_varying import LinkVariationSpec
from edgeemu.scenario.traces import RateTrace
from edgeemu.scenario.validation import Shorthand, Strict, at
from edgeemu.units import BitsPerSecond, JoulesPerBit, LossRate, Seconds


class LinkEnergySpec(Strict):
    """What a bit costs the device that sends it, and the one that receives it. An access point's is not counted."""

    send: Drawn[JoulesPerBit] | None = None
    receive: Drawn[JoulesPerBit] | None = None


class LinkSpec(Strict):
    """The properties of a link. What is not given comes from `type`, a link type of the catalog, where it is."""

    type: str | None = None
    bandwidth: Drawn[BitsPerSecond] | None = None
    delay: Drawn[Seconds] | None = None
    jitter: Drawn[Seconds] | None = None
    loss: Drawn[LossRate] | None = None
    reorder: Drawn[LossRate] | None = None
    duplicate: Drawn[LossRate] | None = None
    energy: LinkEnergySpec = LinkEnergySpec()
    bandwidth_trace: RateTrace | None = None  # instead of the bandwidth, which then only says what is expected
    variation: LinkVariationSpec | None = None

    @field_validator("type")
    @classmethod
    def _in_catalog(cls, name: str | None) -> str | None:
        return name if name is None else link_type(name).name


class DefaultLink(LinkSpec, Shorthand):
    """The link between any two devices (in a star: of any device to the access point) with no link of its own."""

    text_is: ClassVar[str] = "type"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for key in ("bandwidth", "delay"):
            if self.type is None and getattr(self, key) is None:
                raise at([key], "is missing (or name a link type, which has one)")
        return self


class LinkOverride(LinkSpec):
    """Other properties for some links: in both directions (`between`), or in one (`from`, `to`)."""

    between: tuple[str, ...] | None = None
    source: str | None = Field(None, alias="from")
    target: str | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if (self.between is None) == (self.source is None and self.target is None):
            raise ValueError("say which link: either between: [a, b], or from: a and to: b")
        if self.between is None and (self.source is None or self.target is None):
            raise at(["to" if self.target is None else "from"], "is missing")
        if self.between is not None and len(self.between) != 2:
            raise at(["between"], f"names {len(self.between)} devices; a link is between two")
        return self

    @property
    def ends(self) -> tuple[str, str]:
        return (self.between[0], self.between[1]) if self.between else (self.source or "", self.target or "")


class StarSpec(Strict):
    """The access point. Devices that are not `wired` share its air, unless it has a channel for each."""

    access_point: Name = "ap"
    shared_airtime: Flag = True
    wired: tuple[str, ...] = ()


class NetworkSpec(Strict):
    """Which devices are joined, and how; and what carries their messages."""

    backend: Literal["stamped", "auto", "kernel", "hybrid"] = "stamped"
    topology: Literal["mesh", "line", "star"] = "mesh"
    default: DefaultLink | None = None
    star: StarSpec | None = None
    links: tuple[LinkOverride, ...] = ()

    @model_validator(mode="after")
    def _star_only(self) -> Self:
        if self.star is not None and self.topology != "star":
            raise at(["star"], f'is only for "topology: star"; this is "topology: {self.topology}"')
        for position, link in [(("default",), self.default), *((("links", n), x) for n, x in enumerate(self.links))]:
            for field in ("reorder", "duplicate"):
                if self.backend in ("stamped", "hybrid") and link is not None and getattr(link, field):
                    raise at([*position, field], f"is for real packets (backend: kernel); this is {self.backend}")
        return self

    @property
    def access_point(self) -> str | None:
        return (self.star or StarSpec()).access_point if self.topology == "star" else None
