"""Devices of a scenario."""

from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from edgeemu.scenario.catalog.profile_files import find_profile, profile_of
from edgeemu.scenario.distributions import MaybeRandom, MaybeRandomOrUnlimited
from edgeemu.scenario.files import base_of
from edgeemu.scenario.names import KindName, Name
from edgeemu.scenario.time_varying import MaybeTimeVarying, ThrottleSpec
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
    """Power of a device, idle and busy."""

    idle: MaybeRandom[Watts] | None = Field(
        default=None,
        description="Power while it waits, also if it holds nothing. From the profile if not given.",
    )
    busy: MaybeRandom[Watts] | None = Field(
        default=None,
        description="Power while it computes for this run; not less than `idle`. From the profile if not given.",
    )


class DeviceSpec(Strict):
    """One device, or `count` identical ones. The profile gives each figure that is not given here."""

    name: Name = Field(
        description="Name of the device. With a count, devices are called `pi-1`, `pi-2` …, and `pi` in links means all"
        " of them."
    )
    profile: str | None = Field(
        default=None,
        description="Device of the catalog (`edgeemu devices`), or a file that `edgeemu calibrate` writes "
        "(`board.yaml`), that gives every figure not given here.",
    )
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_DEVICES), KindName("count")] = Field(
        default=1, description="Number of devices like this one; random values are sampled for each."
    )
    gflops: MaybeRandom[FlopsPerSecond] | None = Field(
        default=None, description="Float32 arithmetic speed that the device reaches."
    )
    mem_bandwidth: MaybeRandom[BytesPerSecond] | None = Field(
        default=None, description="Rate at which the device reads weights and caches."
    )
    overhead: MaybeRandom[Seconds] | None = Field(
        default=None,
        description="Time added to each execution of a block; the engine's, or zero, if the profile has none.",
    )
    remote_overhead: MaybeRandom[Seconds] | None = Field(
        default=None,
        description="Time added in addition where the device is not the source: software that is told with every token "
        "what to compute. The engine's, or zero, if the profile has none.",
    )
    message_overhead: MaybeRandom[Seconds] | None = Field(
        default=None,
        description="Time that each message keeps the processor busy, both of its sender and of its receiver: nothing "
        "is computed meanwhile. The engine's, or zero, if the profile has none.",
    )
    byte_overhead: MaybeRandom[Seconds] | None = Field(
        default=None, description="The same for each byte of a message, in addition."
    )
    message_latency: MaybeRandom[Seconds] | None = Field(
        default=None,
        description="Time that software adds to the delay of every link that ends here, while it does nothing else: "
        "interrupts, waking up, threads that read several connections at once. The engine's, or zero, if the profile "
        "has none.",
    )
    host_fraction: MaybeRandom[PositiveFraction] | None = Field(
        default=None,
        description="Speed as a fraction of one core of this host, in place of `gflops` and `mem_bandwidth`: the "
        "measured processor time of a block is divided by it.",
    )
    memory: MaybeRandom[Bytes] | None = Field(
        default=None,
        description="Memory for weights, caches, activations and messages, and for the system (`memory_reserved`); "
        "what does not fit is refused.",
    )
    memory_reserved: MaybeRandom[Bytes] | None = Field(
        default=None,
        description="Part of the memory that the system of the device keeps, and no run can use. From the profile if "
        "neither this nor `memory` is given.",
    )
    nic: MaybeRandomOrUnlimited[BitsPerSecond] | None = Field(
        default=None, description="Rate of the network interface in each direction, shared by all links of the device."
    )
    power: PowerSpec = Field(default=PowerSpec(), description="Power that the device draws.")
    load: MaybeTimeVarying[Fraction] | None = Field(
        default=None,
        description="Fraction of the compute speed that other work on the device takes; a constant must be less than "
        "100 %.",
    )
    memory_load: MaybeTimeVarying[Fraction] | None = Field(
        default=None,
        description="Fraction of the memory that other work on the device takes; a constant must be less than 100 %.",
    )
    throttle: ThrottleSpec | None = Field(default=None, description="Slowdown of the device as it heats up.")

    @field_validator("profile")
    @classmethod
    def _found(cls, profile: str | None, info: ValidationInfo) -> str | None:
        """Check a name of the catalog, or make that of a file absolute."""
        return profile if profile is None else find_profile(profile, base_of(info))

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
        profile = profile_of(self.profile)
        if self.memory is None and profile is not None and profile.memory is None:
            raise at(["memory"], f"is missing: {profile.title} has no single size of memory; give that of yours")
        return self

    @property
    def device_names(self) -> list[str]:
        """Names of the devices: `pi`, or with a count `pi-1`, `pi-2` …"""
        return [self.name] if self.count == 1 else [f"{self.name}-{n}" for n in range(1, self.count + 1)]
