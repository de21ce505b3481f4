"""Devices and links as they are after what was measured: `view.estimator`, in the same order."""

from edgeemu.policies.compiled.watch_links import LinkSums, NominalLinks
from edgeemu.policies.compiled.watch_operations import DeviceTimes
from edgeemu.policies.view.levels import TURN
from edgeemu_kernels.arrays import Floats


def write_view(d: DeviceTimes, v: NominalLinks, e: LinkSums, room: Floats) -> int:
    """Write slowdowns and speeds of devices, times of links, and the factors of those that were measured.

    How many links have a factor of `TURN` at least.
    `room`: slowdown, FLOP/s, bytes/s and overhead, [4, n]; seconds per bit and delay, [2, n, n]; the factors of delay
    and of time per bit, [2, n_pairs].
    """
    n, count, slow = d.n, e.counts[0], 0
    for device in range(n):
        slowdown = d.level[device]
        room[device] = slowdown
        room[n + device] = d.flops_per_s[device] / slowdown
        room[2 * n + device] = d.mem_bytes_per_s[device] / slowdown
        room[3 * n + device] = d.overhead_s[device] * slowdown
    s_per_bit, delay_s = 4 * n, 4 * n + n * n
    factors = delay_s + n * n
    for pair in range(n * n):
        room[s_per_bit + pair] = v.s_per_bit[pair]
        room[delay_s + pair] = v.delay_s[pair]
    for at in range(count):
        room[s_per_bit + e.codes[at]] *= e.per_bit[at]
        room[delay_s + e.codes[at]] *= e.delay[at]
        room[factors + at] = e.delay[at]
        room[factors + count + at] = e.per_bit[at]
        if max(e.delay[at], e.per_bit[at]) >= TURN:
            slow += 1
    return slow
