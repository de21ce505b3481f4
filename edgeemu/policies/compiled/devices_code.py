"""Devices of a cluster, looked at by machine code."""

from functools import lru_cache
from itertools import chain

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.policies.compiled.device_speeds import AllDevices, DeviceChoice, DeviceForecasts, LayerWorks
from edgeemu.policies.compiled.share_code import functions, functions_made
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.outlook import Outlook
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, packed


def layer_works(costs: Costs, past: int) -> Packed:
    """Works of a layer and of the ends with so many cached positions, and perhaps with others."""
    return _works_from(costs, 0 if costs.of_every_step else past)


@lru_cache(maxsize=16)
def _works_from(costs: Costs, begin: int) -> Packed:
    """Works from so many cached positions on."""

    def works(past: int) -> FloatArray:
        one, two = (costs.work(Kind.HEAD, groups, 1, past) for groups in (1, 2))
        each = two.flops - one.flops, two.bytes_read - one.bytes_read
        heads = one.flops - each[0], each[0], one.bytes_read - each[1], each[1]
        rest = (costs.work(kind, 1, 1, past) for kind in (Kind.PROJ, Kind.FFN, Kind.EMBED, Kind.LM_HEAD))
        return np.array([*heads, *chain.from_iterable(rest)], np.float64)

    here = works(begin)
    return packed(LayerWorks, costs.shape.n_groups, begin, here, works(begin + 1) - here)


def all_devices(view: ClusterView) -> Packed:
    """All devices as a view has them."""
    speeds = view.flops_per_s, view.mem_bytes_per_s, view.overhead_s
    return packed(AllDevices, len(view.memory_bytes), *speeds, *view.message_ends)


@lru_cache(maxsize=4)
def _choice(n_devices: int) -> Packed:
    """Places to write in: nothing in them is kept."""
    return blank(DeviceChoice, n_devices, n_devices)


def promising_beside(view: ClusterView, everyone: Packed, owners: IntArray, size: int) -> IntArray:
    """Devices to search on, fewer than all, ascending: owners of blocks, if not too many, and the fastest: [size].

    `everyone`: all devices.
    """
    past, chosen = view.past, np.empty(size, np.int64)
    works, known = layer_works(view.costs.at_step(1, past), past), (address_of(owners), len(owners))
    tables = everyone.at, works.at, past, *known, size, _choice(view.n_devices).at
    functions().promising(*tables, address_of(chosen))
    return chosen


def expected_devices(view: ClusterView, tokens: float) -> FloatArray | None:
    """Slowdowns of devices in the mean over the next steps, and their FLOP/s, bytes/s and overheads then: [4, n].

    None where no machine code has been made.
    """
    code = functions_made()
    if code is None:
        return None
    found = np.empty((6, len(view.memory_bytes)))
    code.expect(all_devices(view).at, forecasts_of(view.outlook).at, tokens, address_of(found))
    return found[:4]


def forecasts_of(outlook: Outlook) -> Packed:
    """Forecasts of devices."""
    devices, known, *_ = outlook
    return packed(DeviceForecasts, len(devices), devices, known.lasts_tokens, known.mean)
