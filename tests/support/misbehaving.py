"""Devices that do not do as they should.

`entry` is a function of this file, run in each device; `means` are those by which memory may be capped
("cgroup,rlimit").
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeemu.device import protocol_in, protocol_out

HOG_BYTES = 300 * 2**20


def honest(spec: bytes) -> None:
    """As it should be."""
    from edgeemu.device.process import run_device

    run_device(spec)


def hog(spec: bytes) -> None:
    """The first device really allocates 300 MiB at its third step, and tells its ledger nothing of it."""
    from edgeemu.device.process import DeviceProcess

    class Hog(DeviceProcess):
        def tell(self, message: protocol_out.FromDevice) -> None:
            super().tell(message)
            if isinstance(message, protocol_out.Report) and message.step == 2:
                self.hoard = np.ones(HOG_BYTES // 8)

    _serve(spec, Hog)


def hog_at_once(spec: bytes) -> None:
    """Before it has reported anything."""
    from edgeemu.device.process import DeviceProcess

    class Hog(DeviceProcess):
        def request(self, request: protocol_in.ToDevice) -> None:
            if isinstance(request, protocol_in.Assign):
                self.hoard = np.ones(HOG_BYTES // 8)
            else:
                super().request(request)

    _serve(spec, Hog)


def scheduling_watched(spec: bytes) -> None:
    """Fails if it computes in real time, or sleeps otherwise where it may; the error says which."""
    from edgeemu.device import device as device_module
    from edgeemu.device import process
    from edgeemu.device.executor import Executor

    class WatchedExecutor(Executor):
        def run(self, *arguments: Any) -> Any:
            assert os.sched_getscheduler(0) == os.SCHED_OTHER, "computes in real time"
            return super().run(*arguments)

    class Watched(process.DeviceProcess):
        def send(self, instruction: Any) -> None:
            wanted = os.SCHED_FIFO if self.priority.may and self.clock is not None else os.SCHED_OTHER
            assert os.sched_getscheduler(0) == wanted, "sends without priority"
            super().send(instruction)

    device_module.Executor = WatchedExecutor  # type: ignore[misc]
    device = Watched(process.msgspec.msgpack.decode(spec, type=protocol_in.DeviceConfig))
    try:
        device.serve()
    finally:
        device.close()


def _serve(spec: bytes, bad: Callable[[protocol_in.DeviceConfig], Any]) -> None:
    import msgspec

    from edgeemu.device.process import run_device

    told = msgspec.msgpack.decode(spec, type=protocol_in.DeviceConfig)
    if told.index != 0:
        run_device(spec)
        return
    device = bad(told)
    try:
        device.serve()
    finally:
        device.close()


def mislead(entry: str, means: str) -> None:
    """Have the runs of this process start devices that call `entry`."""
    from edgeemu.run.processes import backend
    from edgeemu.run.processes.launch import LaunchSettings

    class Misled(backend.ProcessBackend):
        def __init__(self, *args: Any, **options: Any) -> None:
            launch = LaunchSettings(f"{__name__}:{entry}", tuple(means.split(",")) if means else ())
            super().__init__(*args, **options, launch=launch)

    backend.ProcessBackend = Misled  # type: ignore[misc]
