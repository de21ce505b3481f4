"""Catalog of devices, models and links that scenarios can name. Knows its data files; nothing of scenarios.

The data are in `devices.yaml`, `boards.yaml` (devices too, written by tools/boards.py), `models.yaml` and `links.yaml`;
every figure there has its source and a label. A file is read when first needed.
"""

from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from edgeemu.errors import RequestError, did_you_mean
from edgeemu.scenario.catalog.shapes import ShapeFields
from edgeemu.scenario.document import Document, read
from edgeemu.scenario.validation import ModelT, Strict, validate
from edgeemu.units import BitsPerSecond, Bytes, BytesPerSecond, FlopsPerSecond, JoulesPerBit, LossRate, Seconds, Watts
from edgeemu_kernels.shape import ModelShape

ValueT = TypeVar("ValueT")
Label = Literal["measured", "derived", "peak"]


class Sourced(Strict, Generic[ValueT]):
    """Figure with its source.

    Its label says what that is: `measured`: somebody measured this; `derived`: by the arithmetic that the source
    states, from a measurement or from what holds exactly, as the rate of a standard or an amount of memory; `peak`: of
    a data sheet, which programs stay below.
    """

    value: ValueT
    source: str = Field(min_length=10)
    label: Label


class Power(Strict):
    """Power of a device, idle and busy; absent where there is no source."""

    idle: Sourced[Watts] | None = None
    busy: Sourced[Watts] | None = None


class LinkEnergy(Strict):
    """Energy per bit of sender and receiver, in addition to the power of both."""

    send: Sourced[JoulesPerBit]
    receive: Sourced[JoulesPerBit]


class DeviceProfile(Strict):
    """Device profile. `gflops` is the best that float32 arithmetic can reach; each figure has its source.

    `mem_bandwidth` is what the memory gives to whoever only copies or reads, `decode_bandwidth` the rate at which
    weights are read while tokens are generated. `memory` is all of it, and missing where devices of this name are sold
    with several sizes; the device's system keeps `memory_reserved` of it.
    """

    name: str
    title: str
    gflops: Sourced[FlopsPerSecond]
    mem_bandwidth: Sourced[BytesPerSecond]
    decode_bandwidth: Sourced[BytesPerSecond] | None = None
    memory: Sourced[Bytes] | None = None
    memory_reserved: Sourced[Bytes] | None = None
    nic: Sourced[BitsPerSecond] | None = None
    overhead: Sourced[Seconds] | None = None
    remote_overhead: Sourced[Seconds] | None = None
    message_overhead: Sourced[Seconds] | None = None
    byte_overhead: Sourced[Seconds] | None = None
    message_latency: Sourced[Seconds] | None = None
    power: Power = Power()
    price_usd: Sourced[Annotated[float, Field(strict=True, gt=0)]] | None = None

    def bandwidth(self, *, ideal: bool) -> Sourced[BytesPerSecond]:
        """Rate at which weights and caches are read: while decoding, unless software is `ideal` or it is unknown."""
        return self.mem_bandwidth if ideal or self.decode_bandwidth is None else self.decode_bandwidth


class LinkType(Strict):
    """Link type: one direction of a link, as an application sees it."""

    name: str
    title: str
    bandwidth: Sourced[BitsPerSecond]
    delay: Sourced[Seconds]
    jitter: Sourced[Seconds] | None = None
    loss: Sourced[LossRate] | None = None
    energy: LinkEnergy | None = None


class Package(Strict):
    """Python package that contains a model's weights."""

    name: str
    file: str  # relative to where packages are installed
    install: str  # the command that installs it


class ModelEntry(Strict):
    """Model: its shape, and its weights where a package has them."""

    name: str
    title: str
    source: str = Field(min_length=10)  # of all the figures in `shape`
    shape: ShapeFields
    package: Package | None = None

    def model_shape(self) -> ModelShape:
        return self.shape.model_shape(self.name)

    def weights_file(self) -> Path | None:
        """GGUF file in the installed package; None if no package has the weights.

        Raises `RequestError` with the command to run where the package is not installed.
        """
        if self.package is None:
            return None
        try:
            distribution = metadata.distribution(self.package.name)
        except metadata.PackageNotFoundError:
            distribution = None
        path = Path(str(distribution.locate_file(self.package.file))) if distribution else None
        if path is None or not path.is_file():
            raise RequestError(f"the weights of {self.name} are not installed (run: {self.package.install})")
        return path


def device_profiles() -> Mapping[str, DeviceProfile]:
    return {**read_entries("devices.yaml", DeviceProfile), **read_entries("boards.yaml", DeviceProfile)}


def model_entries() -> Mapping[str, ModelEntry]:
    return read_entries("models.yaml", ModelEntry)


def link_types() -> Mapping[str, LinkType]:
    return read_entries("links.yaml", LinkType)


def device_profile(name: str) -> DeviceProfile:
    """Device profile with this name. Raises `RequestError` with the nearest name."""
    return find("device profile", name, device_profiles())


def model_entry(name: str) -> ModelEntry:
    """Model with this name. Raises `RequestError` with the nearest name."""
    return find("model", name, model_entries())


def link_type(name: str) -> LinkType:
    """Link type with this name. Raises `RequestError` with the nearest name."""
    return find("link type", name, link_types())


def find(kind: str, name: str, entries: Mapping[str, ModelT]) -> ModelT:
    if name not in entries:
        raise UnknownNameError(f'there is no {kind} "{name}" in the catalog{did_you_mean(name, entries)}')
    return entries[name]


class UnknownNameError(RequestError, ValueError):
    """Raised for a name that the catalog lacks. A `ValueError` too, which pydantic handles."""


@cache
def read_entries(file: str, model: type[ModelT]) -> Mapping[str, ModelT]:
    document = read(resources.files(__name__).joinpath(file).read_text("utf-8"), file)
    return {
        name: validate(model, Document(fields | {"name": name}, f"{file}: {name}"))
        for name, fields in document.data.items()
    }
