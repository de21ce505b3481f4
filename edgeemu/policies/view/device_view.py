"""The view of a device that a policy gets, and what an error says of many."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeemu.cluster.devices import Compute, Device
from edgeemu.errors import InfeasibleError
from edgeemu.units import SIZE

MANY = 25  # devices that an error lists


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device: `compute` is its current speed under load, `memory_bytes` what our blocks may hold there in all.

    `idle_w` is its power when it waits, `busy_w` when it computes for us; None: not known. `installed_bytes` are all of
    its memory for programs, with what other work takes, 0: not known; `reserved_bytes` are kept by its system besides.
    """

    name: str
    compute: Compute
    memory_bytes: int
    idle_w: float | None = None
    busy_w: float | None = None
    installed_bytes: int = 0
    reserved_bytes: int = 0

    @classmethod
    def of(cls, device: Device, compute: Compute, memory_bytes: int) -> "DeviceView":
        """A device of the cluster with this compute and memory."""
        installed_bytes, reserved_bytes = device.memory_bytes, device.memory_reserved_bytes
        return cls(device.name, compute, memory_bytes, device.idle_w, device.busy_w, installed_bytes, reserved_bytes)

    def slowed(self, slowdown: float, memory_bytes: int) -> "DeviceView":
        """The device when everything takes `slowdown` times as long, with other memory."""
        known = self.idle_w, self.busy_w, self.installed_bytes, self.reserved_bytes
        return DeviceView(self.name, self.compute.slowed(slowdown), memory_bytes, *known)


def no_room(what: str, devices: Sequence[DeviceView], held_bytes: Sequence[int]) -> InfeasibleError:
    """An error: no device has room for `what` beside all that it holds, which is listed."""
    show = SIZE.format_human
    rows = [
        f"  {device.name}: {show(size)} of {show(device.memory_bytes)} taken"
        if device.memory_bytes
        else f"  {device.name}: not there"
        for device, size in zip(devices, held_bytes, strict=True)
    ]
    if len(rows) > MANY:
        rows[MANY:] = [f"  and {len(rows) - MANY} more devices"]
    return InfeasibleError(
        f"no device has room for {what}:\n"
        + "\n".join(rows)
        + "\nGive the devices more memory, add devices, lower max_tokens, or take a smaller model."
    )
