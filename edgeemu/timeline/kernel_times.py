"""Times of kernels on devices that are given as a fraction of this host: measured, and robust against its other work.

One measurement of a kernel of some hundred microseconds contains whatever the host did meanwhile: other programs in the
caches, a frequency step, an interrupt. Operations of one kind and size take the lower quartile of their last
measurements: what disturbs a kernel makes it longer, never shorter.
"""

from collections import deque
from typing import Protocol, Self

from edgeemu.placement.program import Op

KEPT = 16  # measurements of one kind and size: half the layers of a small model
_QUARTER = 4


class KernelTimes:
    """Processor times of the operations of one device, or of several that are named apart."""

    def __init__(self) -> None:
        self._measured_s: dict[tuple[object, ...], deque[float]] = {}

    def add(self, op: Op, rows: int, cpu_s: float) -> float:
        """Add the processor time of an operation on `rows` new positions; return what it is taken to be."""
        measured_s = self._measured_s.setdefault(_key(op, rows), deque(maxlen=KEPT))
        measured_s.append(cpu_s)
        return _lower_quartile(measured_s)

    def copy(self) -> Self:
        """Return a copy, which later measurements do not change."""
        copied = type(self)()
        copied._measured_s = {key: measured_s.copy() for key, measured_s in self._measured_s.items()}
        return copied

    def known(self, op: Op, rows: int) -> float | None:
        """Return what the processor time of an operation is taken to be; None: none like it was measured."""
        measured_s = self._measured_s.get(_key(op, rows))
        return None if measured_s is None else _lower_quartile(measured_s)


class Relative(Protocol):
    """Device whose speed is a fraction of this host's, with its fixed time per execution."""

    @property
    def host_fraction(self) -> float | None: ...
    @property
    def overhead_s(self) -> float: ...


def relative_s(device: Relative, op: Op, cpu_s: float) -> float:
    """Duration of an operation on a device relative to the host, whose kernel takes `cpu_s` of processor time."""
    assert device.host_fraction is not None
    return cpu_s / device.host_fraction + (device.overhead_s if op.starts_kernel else 0.0)


def _key(op: Op, rows: int) -> tuple[object, ...]:
    return op.device, op.kind, len(op.groups), op.chunk.size(rows), len(op.needs), bool(op.columns)


def _lower_quartile(measured_s: deque[float]) -> float:
    return sorted(measured_s)[len(measured_s) // _QUARTER]
