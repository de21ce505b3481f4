"""Work of an execution, and how long a device takes for it by its roofline."""

from typing import NamedTuple

from edgeemu.cluster.devices import Compute


class Work(NamedTuple):
    """Work of one execution: arithmetic operations, and bytes read from memory."""

    flops: float
    bytes_read: float

    def __add__(self, other: object) -> "Work":
        if not isinstance(other, Work):
            return NotImplemented
        return Work(self.flops + other.flops, self.bytes_read + other.bytes_read)


def roofline_s(compute: Compute, work: Work) -> float:
    """Duration on an absolute device: bound by arithmetic or by memory, plus a fixed cost per block.

    Source: the roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009).
    """
    return max(work.flops / compute.flops_per_s, work.bytes_read / compute.mem_bytes_per_s) + compute.overhead_s
