"""How slowly the wall clock must run so that the host keeps up. Pure arithmetic on a warm-up's times."""

from collections.abc import Sequence
from math import ceil
from statistics import median
from typing import NamedTuple

HEADROOM = 1.6  # kernels run a third slower after a sleep than one after the other, and the host may be shared


# On links of the kernel, times the rest: a message takes 0.3 ms of the wall clock through a quiet host, more through a
# busy one (`tools/bench_backends.py`); that belongs to no link, and is divided by the dilation.
TRANSPORT_FACTOR = 2.0


class Tempo(NamedTuple):
    """How long one step took: on the timeline, and on the wall clock of a host that waited for nothing."""

    emulated_s: float
    wall_s: float


def smallest_dilation(prefill: Tempo, decode: Sequence[Tempo], *, real_links: bool = False) -> float:
    """The least dilation, in tenths and at least 1, at which the unpaced host is faster than the emulated cluster.

    Prefill and the median of the decode steps each have to keep up, with `HEADROOM`; on `real_links`, twice as slowly.
    """
    ratios = [prefill.wall_s / prefill.emulated_s]
    if decode:
        ratios.append(median(step.wall_s / step.emulated_s for step in decode))
    least = max(1.0, ceil(10.0 * HEADROOM * max(ratios)) / 10.0)
    return TRANSPORT_FACTOR * least if real_links else least
