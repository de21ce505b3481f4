"""The devices of a scenario."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from edgeemu.scenario.catalog import device_profile
from edgeemu.scenario.distributions import Drawn, DrawnOrUnlimited
from edgeemu.scenario.names import Name
from edgeemu.scenario.time_varying import ThrottleSpec, Varying
from edgeemu.scenario.validation import Strict, at
from edgeemu.units import (
    BitsPerSecond,
    Bytes,
    BytesPerSecond,
    FlopsPerSecond,
    Fraction,
    PositiveFraction,
    Seconds,
    Watts,
)

MAX_DEVICES = 10_000


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
