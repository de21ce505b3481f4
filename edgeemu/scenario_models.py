"""The sections of a scenario, one pydantic model each. Knows the catalog; reads no scenario and draws nothing.

Fields that may be drawn hold either a value in base units or a `Distribution` of such values.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from edgeemu.catalog import device_profile, link_type, model_entry
from edgeemu.catalog.shapes import Count, ShapeFields
from edgeemu.errors import did_you_mean_path
from edgeemu.scenario_varying import LinkVariationSpec, OfQuantity, Range, RateTrace, Seed, ThrottleSpec, Varying
from edgeemu.strict import Shorthand, Strict, at
from edgeemu.units import (
    BitsPerSecond,
    Bytes,
    BytesPerSecond,
    FlopsPerSecond,
    Fraction,
    JoulesPerBit,
    LossRate,
    PositiveFraction,
    Seconds,
    Watts,
)
from edgeemu_kernels.shape import ModelShape

ValueT = TypeVar("ValueT")

MAX_DEVICES = 10_000


def _check_name(name: Any) -> Any:
    if isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError(f'"{name}" is not a name: use letters, digits, ".", "_" and "-" (at most 64)')
    return name


Name = Annotated[str, BeforeValidator(_check_name)]
Flag = Annotated[bool, Field(strict=True)]


class Distribution(OfQuantity, Generic[ValueT]):
    """Values to be drawn: exactly one of `lognormal` and `uniform`. See `edgeemu.draws` for what they mean."""

    lognormal: Range[ValueT] | None = None
    uniform: Range[ValueT] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.lognormal is None) == (self.uniform is None):
            raise ValueError("give exactly one of lognormal and uniform")
        if self.lognormal is not None and self.lognormal.low == 0:
            raise at(["lognormal", "low"], "must be more than zero")
        return self


def _form(value: Any) -> str:
    """Which member of a `Drawn` union a value belongs to."""
    if isinstance(value, dict | Distribution):
        return "<drawn>"
    return "<word>" if value == "unlimited" else "<value>"


if TYPE_CHECKING:
    Drawn: TypeAlias = ValueT | Distribution[ValueT]
    DrawnOrUnlimited: TypeAlias = ValueT | Distribution[ValueT] | Literal["unlimited"]
else:
    # Not an alias with a type variable: pydantic's generic classes lose theirs inside one.
    class Drawn:
        """`Drawn[Bytes]`: a size, or a distribution of sizes."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            drawn = Annotated[Distribution[quantity], Tag("<drawn>")]
            return Annotated[value | drawn, Discriminator(_form)]

    class DrawnOrUnlimited:
        """The same, or the word `unlimited`."""

        def __class_getitem__(cls, quantity: Any) -> Any:
            value = Annotated[quantity, Tag("<value>")]
            drawn = Annotated[Distribution[quantity], Tag("<drawn>")]
            word = Annotated[Literal["unlimited"], Tag("<word>")]
            return Annotated[value | drawn | word, Discriminator(_form)]


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from: a GGUF file, a Hugging Face directory, or (`seed`) a generator and `shape`.

    `shape` is None where only the file knows it.
    """

    name: str
    shape: ModelShape | None
    gguf: Path | None = None
    directory: Path | None = None
    seed: int | None = None


class ModelSpec(Shorthand):
    """The model: exactly one of a name in the catalog, a GGUF file, a Hugging Face directory and a shape."""

    text_is: ClassVar[str] = "name"

    name: str | None = None
    gguf: Path | None = None
    directory: Path | None = None
    shape: ShapeFields | None = None
    layers: Count | None = None  # instead of the model's own number; the weights are then seeded
    weights_seed: Seed | None = None  # makes the weights of a named model seeded

    @field_validator("name")
    @classmethod
    def _in_catalog(cls, name: str | None) -> str | None:
        return name if name is None else model_entry(name).name

    @field_validator("gguf", "directory")
    @classmethod
    def _exists(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        """Makes a path absolute: relative ones are relative to the scenario's own directory."""
        if path is None:
            return None
        full = (Path((info.context or {}).get("base", ".")) / path.expanduser()).absolute()
        kind = "file" if info.field_name == "gguf" else "directory"
        if not (full.is_file() if kind == "file" else full.is_dir()):
            beside = [path.parent / other.name for other in full.parent.glob("*") if other.is_dir() == (kind != "file")]
            raise ValueError(f'there is no {kind} "{path}"{did_you_mean_path(path, beside)}')
        if kind == "directory" and not (full / "config.json").is_file():
            raise ValueError(f'there is no config.json in "{path}"')
        return full

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("name", "gguf", "directory", "shape") if getattr(self, key) is not None]
        if len(given) != 1:
            found = f", not {' and '.join(given)}" if given else ""
            raise ValueError(f"give exactly one of name, gguf, directory and shape{found}")
        for key in ("layers", "weights_seed"):
            if given[0] in ("gguf", "directory") and getattr(self, key) is not None:
                raise at([key], f"is for seeded weights; these come from the {given[0]}")
        return self

    @property
    def title(self) -> str:
        """What to call the model in a report."""
        path = self.gguf or self.directory
        return self.name or (path.stem if path else "custom")

    @property
    def is_seeded(self) -> bool:
        """Whether the weights are made from a seed."""
        if self.gguf is not None or self.directory is not None:
            return False
        asked = self.layers is not None or self.weights_seed is not None
        return asked or self.name is None or model_entry(self.name).package is None

    def known_shape(self) -> ModelShape | None:
        """The shape where it is known without reading weights."""
        if self.shape is not None:
            return self.shape.model_shape(self.title, self.layers)
        return model_entry(self.name).shape.model_shape(self.name, self.layers) if self.name else None

    def weights(self) -> WeightsSource:
        """Where the weights are. Raises `RequestError` where a package that should have them is missing."""
        if self.is_seeded:
            return WeightsSource(self.title, self.known_shape(), seed=self.weights_seed or 0)
        gguf = model_entry(self.name).weights_file() if self.name else self.gguf
        return WeightsSource(self.title, self.known_shape(), gguf=gguf, directory=self.directory)


class PowerSpec(Strict):
    """What a device draws when it waits, and when it computes for us."""

    idle: Drawn[Watts] | None = None
    busy: Drawn[Watts] | None = None


class DeviceSpec(Strict):
    """One device, or `count` alike. What is not given comes from the profile."""

    name: Name
    profile: str | None = None
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_DEVICES)] = 1
    gflops: Drawn[FlopsPerSecond] | None = None
    mem_bandwidth: Drawn[BytesPerSecond] | None = None
    overhead: Drawn[Seconds] | None = None  # per block executed
    host_fraction: Drawn[PositiveFraction] | None = None  # of one core of this host; instead of the first two
    memory: Drawn[Bytes] | None = None
    nic: DrawnOrUnlimited[BitsPerSecond] | None = None
    power: PowerSpec = PowerSpec()
    load: Varying[Fraction] | None = None  # the share of compute that other work on the device takes
    memory_load: Varying[Fraction] | None = None  # the share of memory that it takes
    throttle: ThrottleSpec | None = None

    @field_validator("profile")
    @classmethod
    def _in_catalog(cls, profile: str | None) -> str | None:
        return profile if profile is None else device_profile(profile).name

    @model_validator(mode="after")
    def _complete(self) -> Self:
        absolute = [key for key in ("gflops", "mem_bandwidth") if getattr(self, key) is not None]
        if self.host_fraction is not None and absolute:
            raise at([absolute[0]], "and host_fraction exclude each other")
        if self.load == 1.0:
            raise at(["load"], "takes all of the device: it would never finish; give less, or leave the device out")
        if self.memory_load == 1.0:
            raise at(["memory_load"], "takes all of the memory: nothing fits; give less, or leave the device out")
        needed = ["memory"] if self.host_fraction is not None else ["gflops", "mem_bandwidth", "memory"]
        for key in needed:
            if self.profile is None and getattr(self, key) is None:
                raise at([key], "is missing (or name a profile, which has one)")
        return self

    @property
    def device_names(self) -> list[str]:
        """`pi`, or with a count `pi-1`, `pi-2` …"""
        return [self.name] if self.count == 1 else [f"{self.name}-{n}" for n in range(1, self.count + 1)]


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
