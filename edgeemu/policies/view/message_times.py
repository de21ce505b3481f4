"""Times of messages that keep processors busy: each device sends, and takes in, one after the other. No events.

`view.message_prices` adds what both ends take to the price of a link, for who looks at one message alone.
"""

from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray


def taken_in(
    begin_s: FloatArray | np.float64,
    arrived_s: FloatArray,
    taken_s: FloatArray,
    x_s: FloatArray | np.float64,
    x_taken_s: FloatArray | np.float64,
) -> FloatArray:
    """When the last of some messages has been taken in, one after the other: [...], [..., n] -> [...].

    `arrived_s`: infinite where there is none; `taken_s`: what each takes, 0 where there is none. `x_s`, `x_taken_s`: x,
    which is one of them where the device has done nothing since (`begin_s` is 0).
    """
    waits = np.equal(begin_s, 0.0)
    arrived_s = np.concatenate([arrived_s, np.where(waits, x_s, np.inf)[..., None]], axis=-1)  # [..., n + 1]
    taken_s = np.concatenate([taken_s, np.where(waits, x_taken_s, 0.0)[..., None]], axis=-1)  # [..., n + 1]
    order = arrived_s.argsort(axis=-1)
    arrived_s, taken_s = (np.take_along_axis(each, order, -1) for each in (arrived_s, taken_s))
    rest_s = np.flip(np.flip(taken_s, -1).cumsum(-1), -1)  # [..., n] of it and of those after it
    last_s = np.where(np.isfinite(arrived_s), arrived_s + rest_s, 0.0).max(-1)
    done_s: FloatArray = np.maximum(begin_s + rest_s[..., 0], last_s)
    return done_s


class MessageTimes(NamedTuple):
    """Times of messages apart: of the wire between chosen devices [n, n], and of processors at its ends [n]."""

    s_per_bit: FloatArray
    delay_s: FloatArray
    message_s: FloatArray
    byte_s: FloatArray

    @classmethod
    def of(cls, view: ClusterView, devices: IntArray) -> Self | None:
        """Make those of some devices; None where messages keep none of them busy."""
        wire = view.links.wire
        if view.links is wire:  # none of all devices
            return None
        computes = [view.devices[d].compute for d in devices.tolist()]
        if not any(compute.messages_cost for compute in computes):
            return None
        matrices = ([matrix.row(d)[devices] for d in devices.tolist()] for matrix in (wire.s_per_bit, wire.delay_s))
        ends = np.array([(compute.message_s, compute.byte_s) for compute in computes]).T
        return cls(*map(np.stack, matrices), *ends)

    def busy_s(self, bits: FloatArray | float) -> FloatArray:
        """How long a message keeps each device busy: [n]; of a message of each, [k, n]."""
        return self.message_s + self.byte_s * bits / 8.0

    def busy_at_s(self, at: IntArray, bits: FloatArray) -> FloatArray:
        """How long messages keep the devices that take them in busy."""
        busy_s: FloatArray = self.message_s[at] + self.byte_s[at] * bits / 8.0
        return busy_s

    def wire_s(self, ends: tuple[IntArray, IntArray], bits: float) -> FloatArray:
        """Times of messages between pairs on the wire: [k]."""
        wire_s: FloatArray = self.s_per_bit[ends] * bits + self.delay_s[ends]
        return wire_s


class BusyHeads:
    """Stage of an undivided layer's heads: x to the devices that have some, and their outputs to the projection's."""

    def __init__(self, view: ClusterView, hidden_bits: float) -> None:
        self._wire, self._bits = view.links.wire, hidden_bits
        computes = [device.compute for device in view.devices]
        self._message_s, self._byte_s = np.array([(each.message_s, each.byte_s) for each in computes]).T  # [n_devices]
        self._x_s = self._message_s + self._byte_s * hidden_bits / 8.0  # [n_devices]
        self._stages_s = dict[tuple[int, int, bytes, bytes], float]()  # placements share most layers

    def busy_s(self, device: int, bits: float) -> float:
        """How long a message keeps a device busy."""
        return float(self._message_s[device] + self._byte_s[device] * bits / 8.0)

    def stage_s(self, source: int, gather: int, devices: IntArray, heads_s: FloatArray, bits: FloatArray) -> float:
        """Time from x at `source` until it and all outputs are at `gather`.

        `heads_s` and `bits`: time and output of the heads of each of `devices`, [m], which ascend.
        """
        key = source, gather, devices.tobytes(), bits.tobytes()
        if key not in self._stages_s:
            self._stages_s[key] = self._computed_s(source, gather, devices, heads_s, bits)
        return self._stages_s[key]

    def _computed_s(self, source: int, gather: int, devices: IntArray, heads_s: FloatArray, bits: FloatArray) -> float:
        wire, x_taken_s = self._wire, self._x_s.copy()  # [n_devices]
        at = int(devices.searchsorted(gather))
        here = at < len(devices) and devices[at] == gather
        to = devices if here else np.concatenate([devices[:at], [gather], devices[at:]])
        to = to[to != source]  # [r] in the order in which x leaves for them
        left_s, x_s = np.zeros_like(x_taken_s), np.zeros_like(x_taken_s)  # [n_devices] x has left; is there
        sent_s = np.arange(1, len(to) + 1) * x_taken_s[source]  # [r]
        left_s[to] = sent_s + self._bits * wire.s_per_bit.row(source)[to]
        x_s[to] = left_s[to] + wire.delay_s.row(source)[to] + x_taken_s[to]
        x_s[source], x_taken_s[source] = sent_s.max(initial=0.0), 0.0

        done_s, away = x_s[devices] + heads_s, devices != gather  # [m] each
        sent_s = done_s + self._message_s[devices] + self._byte_s[devices] * bits / 8.0  # [m]
        sent_s = np.where(devices == source, np.maximum(sent_s, left_s[gather]), sent_s)  # behind x in its pipe
        wire_s = bits * wire.s_per_bit.column(gather)[devices] + wire.delay_s.column(gather)[devices]  # [m]
        taken_s = np.where(away, self._message_s[gather] + self._byte_s[gather] * bits / 8.0, 0.0)  # [m]
        begin_s = done_s[~away].max(initial=0.0)  # when it could begin to take in, if it has heads itself
        arrived_s = np.where(away, sent_s + wire_s, np.inf)  # [m]
        x = x_s[gather] - x_taken_s[gather], x_taken_s[gather]
        return float(taken_in(begin_s, arrived_s, taken_s, *x))
