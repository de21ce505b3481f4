"""Network of a scenario: links, topology, access point, backend. Knows the catalog; samples nothing.

Random fields hold either a value in base units or a `Distribution` of such values.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from edgeemu.scenario.catalog import link_type
from edgeemu.scenario.distributions import MaybeRandom
from edgeemu.scenario.names import Flag, KindName, Name
from edgeemu.scenario.time_varying import LinkVariationSpec
from edgeemu.scenario.traces import RateTrace
from edgeemu.scenario.validation import FirstErrorOfMany, Shorthand, Strict, at
from edgeemu.topologies import TopologyKind
from edgeemu.units import DURATION, BitsPerSecond, JoulesPerBit, LossRate, Seconds


class LinkEnergySpec(Strict):
    """Energy per bit of the sending and the receiving device. An access point's is not counted."""

    send: MaybeRandom[JoulesPerBit] | None = Field(
        default=None, description="Energy per bit of the device that sends it. From the link's type if not given."
    )
    receive: MaybeRandom[JoulesPerBit] | None = Field(
        default=None, description="Energy per bit of the device that receives it. From the link's type if not given."
    )


class LinkSpec(Strict):
    """Properties of a link. The link type, if one is named, gives each figure that is not given here."""

    type: str | None = Field(
        default=None,
        description="Link type of the catalog that gives every figure not given here: `ethernet-1g`, `wifi-5`, "
        "`thunderbolt-4` and others, which `edgeemu links` lists.",
    )
    bandwidth: MaybeRandom[BitsPerSecond] | None = Field(default=None, description="Bandwidth of the link.")
    delay: MaybeRandom[Seconds] | None = Field(default=None, description="One-way delay.")
    jitter: MaybeRandom[Seconds] | None = Field(
        default=None,
        description="Half-width of the delay's distribution: each message's delay is uniform within delay ± jitter. It "
        "counts up to the delay, so that the mean is always the delay's.",
    )
    loss: MaybeRandom[LossRate] | None = Field(
        default=None,
        description="Fraction of packets (1,448 bytes) that are lost. A lost packet is retransmitted after a round "
        "trip where three others arrive, else after TCP's timeout: 200 ms, doubled each time up to 120 s.",
    )
    reorder: MaybeRandom[LossRate] | None = Field(
        default=None,
        description="Fraction of packets that overtake those before them; for `backend: kernel` only, where TCP "
        "restores the order in real time. Needs a delay.",
    )
    duplicate: MaybeRandom[LossRate] | None = Field(
        default=None, description="Fraction of packets that arrive twice; for `backend: kernel` only."
    )
    energy: LinkEnergySpec = Field(default=LinkEnergySpec(), description="Energy per bit of the devices at both ends.")
    bandwidth_trace: RateTrace | None = Field(
        default=None,
        description="Bandwidth over time, in place of a constant one. `repeat` in place of the last rate starts the "
        "trace again at that time; `bandwidth` then only gives the expected rate.",
    )
    variation: LinkVariationSpec | None = Field(
        default=None, description="Variation over time: a factor on the bandwidth, and additional delay."
    )

    @field_validator("type")
    @classmethod
    def _in_catalog(cls, name: str | None) -> str | None:
        return name if name is None else link_type(name).name

    @model_validator(mode="after")
    def _jitter_within_delay(self) -> Self:
        constant = isinstance(self.jitter, float) and isinstance(self.delay, float) and not self.delay_varies
        if constant and self.jitter > self.delay:  # type: ignore[operator]
            shown = DURATION.format_human(self.delay)  # type: ignore[arg-type]
            raise at(["jitter"], f"is more than the delay, {shown}; a message cannot arrive before it is sent")
        return self

    @property
    def delay_varies(self) -> bool:
        return self.variation is not None and self.variation.delay is not None


class DefaultLink(LinkSpec, Shorthand):
    """Default link: between any two devices, or in a star between any device and the access point."""

    text_is: ClassVar[str] = "type"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for key in ("bandwidth", "delay"):
            if self.type is None and getattr(self, key) is None:
                raise at([key], "is missing (or name a link type, which has one)")
        return self


class LinkOverride(LinkSpec):
    """Link that differs from the default: in both directions (`between`), or in one (`from`, `to`)."""

    between: Annotated[tuple[str, ...], FirstErrorOfMany(), KindName("two names")] | None = Field(
        default=None,
        description="The two ends, for both directions with the same random values: devices, or a device and the access"
        " point. A name with a count means all its devices.",
    )
    source: str | None = Field(default=None, alias="from", description="Sending end, for one direction only.")
    target: str | None = Field(default=None, alias="to", description="Receiving end, for one direction only.")

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
    """Access point of a star. Devices that are not `wired` share one wireless channel, or have one each."""

    access_point: Name = Field(default="ap", description="Name of the access point in links.")
    shared_airtime: Flag = Field(
        default=True,
        description="Whether all devices that are not wired share one wireless channel; false: a channel for each "
        "device.",
    )
    wired: Annotated[tuple[str, ...], FirstErrorOfMany(), KindName("list of names")] = Field(
        default=(), description="Devices on cables; each needs a link of its own."
    )


class NetworkSpec(Strict):
    """Network: which devices have a link, the properties of the links, and the mechanism that carries messages."""

    backend: Literal["stamped", "auto", "kernel", "hybrid"] = Field(
        default="stamped", description="Mechanism that carries messages and delays them."
    )
    topology: TopologyKind = Field(default="mesh", description="Pairs of devices that have a link.")
    default: DefaultLink | None = Field(
        default=None, description="Link for every pair that has none of its own; required with two devices or more."
    )
    star: StarSpec | None = Field(default=None, description="Access point; only with `topology: star`.")
    links: Annotated[tuple[LinkOverride, ...], FirstErrorOfMany()] = Field(
        default=(),
        description="Links that differ from the default; later entries override earlier ones, field by field.",
    )

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
