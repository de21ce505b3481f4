"""Faults of a scenario: devices and links that fail, at an instant, at a token, or at random."""

from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import BeforeValidator, Field, model_validator

from edgeemu.scenario.files import or_text
from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import FirstErrorOfMany, Strict, at
from edgeemu.units import DURATION, PROBABILITY, PerSecond, Seconds

DeviceFault: TypeAlias = Literal["crash", "out of memory", "reboot", "leave", "hang", "join"]
LinkFault: TypeAlias = Literal["down", "stall", "loss"]
DEVICE_FAULTS: tuple[str, ...] = get_args(DeviceFault)
LINK_FAULTS: tuple[str, ...] = get_args(LinkFault)


def _listed(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class FaultSpec(Strict):
    """Failure of devices or links, at an instant, when a token of the first sequence starts, or at random.

    Devices lose their memory, but for one that hangs and goes on before anybody has noticed. A partition is all links
    between groups of devices down.
    """

    at: Seconds | None = Field(default=None, description="Instant of the run.")
    at_token: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        default=None,
        description="Token of the first sequence at whose start the fault happens; less than its `max_tokens`.",
    )
    rate: PerSecond | None = Field(
        default=None,
        description="Mean number of faults per time, at random instants, of each device or link by itself (a Poisson "
        "process; the time counts from the end of the one before). The instants follow from the scenario's `seed` and "
        "the names, and are the same under every policy.",
    )
    device: (
        Annotated[
            tuple[str, ...],
            Field(min_length=1),
            FirstErrorOfMany(),
            BeforeValidator(_listed),
            Field(json_schema_extra=or_text("a name")),
            KindName("name, or list of names"),
        ]
        | None
    ) = Field(
        default=None,
        description="Devices that fail together. A name with a count means all its devices. With a `rate`, each fails "
        "by itself; without a name, every device can, also the source.",
    )
    link: Annotated[tuple[str, ...], FirstErrorOfMany(), KindName("two names")] | None = Field(
        default=None,
        description="Link that fails, in both directions: the names of its two ends. With a `rate` and without names, "
        "every link can.",
    )
    partition: (
        Annotated[
            tuple[Annotated[tuple[str, ...], FirstErrorOfMany()], ...],
            FirstErrorOfMany(),
            KindName("list of lists of names"),
        ]
        | None
    ) = Field(
        default=None,
        description="Groups of devices (and the access point of a star) whose links to other groups all fail. What is "
        "named in none is in the first, which can be empty.",
    )
    fault: Literal[DeviceFault, LinkFault] | None = Field(
        default=None,
        description="What happens. To a device: its process ends by itself (`crash`), by its system (`out of memory`), "
        "to begin anew (`reboot`) or as it leaves the network (`leave`); it stands still and keeps its memory (`hang`);"
        " it is not there before (`join`). To a link: what is sent is lost, and sent again by TCP's timer (`down`); it "
        "waits, and passes at once when the link goes on (`stall`); a share of packets is lost (`loss`). A partition "
        "has none.",
    )
    duration: Annotated[float, DURATION.above_zero()] | None = Field(
        default=None,
        alias="for",
        description="Time until the device is there again, with empty memory unless it only hung, or the link is as "
        "before. Without it, never; `reboot`, and links that fail at a `rate`, need it.",
    )
    loss: Annotated[float, PROBABILITY.above_zero()] | None = Field(
        default=None, description="Fraction of packets that are lost, in addition to the link's own; for `fault: loss`."
    )

    @model_validator(mode="after")
    def _when(self) -> Self:
        if sum(getattr(self, key) is not None for key in ("at", "at_token", "rate")) != 1:
            raise ValueError("say when: one of at: 2 s, at_token: 20, and at random, rate: 5 per hour")
        return self

    @model_validator(mode="after")
    def _what(self) -> Self:
        named = [key for key in ("device", "link", "partition") if getattr(self, key) is not None]
        if len(named) > 1 or (not named and (self.rate is None or self.fault is None)):
            raise ValueError("say what fails: one of device: a, link: [a, b], and partition: [[a, b], [c]]")
        if self.partition is not None:
            if self.fault is not None:
                raise at(["fault"], "is of a device or a link; a partition has none")
            if len(self.partition) < 2:
                raise at(["partition"], "needs two groups or more, as [[a, b], [c]]; the first can be []")
            return self
        if self.fault is None:
            known = DEVICE_FAULTS if self.device is not None else LINK_FAULTS
            raise at(["fault"], f"is missing: {_one_of(known)}")
        known = DEVICE_FAULTS if named == ["device"] else LINK_FAULTS
        if named and self.fault not in known:
            raise at(["fault"], f'"{self.fault}" is not of a {named[0]}, but {_one_of(known)} is')
        if self.link is not None and len(self.link) != 2:
            raise at(["link"], f"names {len(self.link)} devices; a link is between two")
        return self

    @model_validator(mode="after")
    def _how_long(self) -> Self:
        if self.fault == "join":
            if self.duration is not None:
                raise at(["for"], "is not of a device that joins: it is absent until then, and stays")
            if self.rate is not None:
                raise at(["rate"], "is not of a device that joins, which happens once: give at or at_token")
        if self.fault == "reboot" and self.duration is None:
            raise at(["for"], "is missing: how long the device is away until it is there again, such as 30 s")
        if self.rate is not None and self.duration is None and self.fault not in DEVICE_FAULTS:
            raise at(["for"], "is missing: how long a link that fails at random is like that, such as 2 s")
        if self.fault == "loss" and self.loss is None:
            raise at(["loss"], "is missing: the share of packets that are lost, such as 30 %")
        if self.fault != "loss" and self.loss is not None:
            raise at(["loss"], "is for fault: loss")
        return self

    @property
    def is_of_devices(self) -> bool:
        return self.fault in DEVICE_FAULTS


def _one_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
