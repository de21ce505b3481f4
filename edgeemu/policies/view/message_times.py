"""Times of messages that keep processors busy: each device sends, and takes in, one after the other. No events.

`view.message_prices` adds what both ends take to the price of a link, for who looks at one message alone.
"""

from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.held_heads import HeldHeads


def taken_in(
    begin_s: FloatArray,
    arrived_s: FloatArray,
    taken_s: FloatArray,
    x_s: FloatArray,
    x_taken_s: FloatArray,
) -> FloatArray:
    """When the last of some messages has been taken in, one after the other: [...], [..., n] -> [...].

    `arrived_s`: infinite where there is none; `taken_s`: what each takes, 0 where there is none. `x_s`, `x_taken_s`: x,
    which is one of them where the device has done nothing since (`begin_s` is 0).
    """
    waits = np.equal(begin_s, 0.0)
    arrived_s = np.concatenate([arrived_s, np.where(waits, x_s, np.inf)[..., None]], axis=-1)  # [..., n + 1]
    taken_s = np.concatenate([taken_s, np.where(waits, x_taken_s, 0.0)[..., None]], axis=-1)  # [..., n + 1]
    order = arrived_s.argsort(axis=-1, kind="stable")
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
        ends = view.message_ends[:, devices]  # [2, n]
        if not ends.any():
            return None
        return cls(*(matrix.block(devices, devices) for matrix in (wire.s_per_bit, wire.delay_s)), *ends)

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
        self._message_s, self._byte_s = view.message_ends  # [n_devices] each
        self._x_s = self._message_s + self._byte_s * hidden_bits / 8.0  # [n_devices]
        self._stages_s = dict[tuple[int, int, bytes, bytes], float]()  # placements share most layers

    def busy_s(self, device: int, bits: float) -> float:
        """How long a message keeps a device busy."""
        return float(self._message_s[device] + self._byte_s[device] * bits / 8.0)

    def waits_s(self, source: int, devices: IntArray) -> FloatArray:
        """Lower bounds of how long each of some devices, ascending, waits until `source` sends x to it: [m].

        `source` itself, if it is one of them, waits until x has left for all others.
        """
        away = devices != source  # [m]
        waits_s: FloatArray = np.where(away, away.cumsum() - 1, len(devices) - 1) * self._x_s[source]
        return waits_s

    def least_taken_in_s(
        self, devices: IntArray, bits: FloatArray, done_s: FloatArray, gathered_s: FloatArray
    ) -> FloatArray:
        """Lower bounds of when each device, if it gathers, has taken in the outputs of all heads: [n_devices].

        `bits`, `done_s`: of the heads of some devices, [m]. `gathered_s`: when their outputs alone would have been
        taken in, [m, n_devices].
        """
        after = np.arange(len(devices) - 1, -1, -1)[:, None]  # [m, 1] messages that are taken in after each
        taken_s = self._message_s + self._byte_s * bits.min() / 8.0  # [n_devices]
        gathered_s = gathered_s.copy()
        gathered_s[np.arange(len(devices)), devices] = 0.0  # its own are no message, and are done before all others
        gathered_s.sort(axis=0)
        latest_s: FloatArray = (gathered_s + after * taken_s).max(0)
        latest_s[devices] = np.maximum(latest_s[devices], done_s + after[0] * taken_s[devices])
        return latest_s

    def stage_s(self, source: int, gather: int, held: HeldHeads, heads_s: FloatArray, bits: FloatArray) -> float:
        """Time from x at `source` until it and all outputs are at `gather`, in one layer.

        `heads_s` and `bits`: time and output of the heads of each device, [m].
        """
        key = source, gather, held.devices.tobytes(), held.counts.tobytes()
        if key not in self._stages_s:
            ends = np.array([source]), np.array([gather])
            self._stages_s[key] = float(self.stages_s(*ends, held, heads_s, bits)[0])
        return self._stages_s[key]

    def stages_s(
        self, sources: IntArray, gathers: IntArray, held: HeldHeads, heads_s: FloatArray, bits: FloatArray
    ) -> FloatArray:
        """`stage_s` of several layers, each with its source and gather: [n_layers] each, [m] each -> [n_layers]."""
        (layers, devices, _), wire, n = held, self._wire, len(self._x_s)
        every = np.arange(len(sources))
        codes = np.sort(np.concatenate([layers * n + devices, every * n + gathers]))
        first = np.append(True, codes[1:] != codes[:-1])
        codes = codes[first & (codes % n != sources[codes // n])]  # [r] in the order in which x leaves for them
        at, to = np.divmod(codes, n)  # [r] each
        s_per_bit, delay_s = wire.pairs_in_both(sources[at], to)
        left_s = (np.arange(1, len(to) + 1) - np.searchsorted(at, every)[at]) * self._x_s[sources[at]]
        left_s = left_s + self._bits * s_per_bit
        there_s = left_s + delay_s + self._x_s[to]
        left_s, there_s = np.append(left_s, 0.0), np.append(there_s, 0.0)  # the last stands for what is found nowhere
        all_left_s = np.bincount(at, minlength=len(sources)) * self._x_s[sources]  # [n_layers]

        own, found = gathers == sources, np.searchsorted(codes, every * n + gathers)  # [n_layers] each
        x_taken_s = np.where(own, 0.0, self._x_s[gathers])
        x_s = np.where(own, all_left_s, there_s[found]) - x_taken_s
        here, away, gather = devices == sources[layers], devices != gathers[layers], gathers[layers]  # [m] each
        begin_s = np.where(here, all_left_s[layers], there_s[np.searchsorted(codes, layers * n + devices)])
        done_s = begin_s + heads_s
        sent_s = done_s + self._message_s[devices] + self._byte_s[devices] * bits / 8.0
        behind_s = np.where(own, 0.0, left_s[found])[layers]  # x, in its pipe
        sent_s = np.where(here, np.maximum(sent_s, behind_s), sent_s)
        s_per_bit, delay_s = wire.pairs_in_both(devices, gather)

        free_s = np.zeros(len(sources))  # when each gather could begin to take in, if it has heads itself
        np.maximum.at(free_s, layers[~away], done_s[~away])
        place = np.arange(len(layers)) - np.searchsorted(layers, every)[layers]  # [m] in its layer
        arrived_s, taken_s = np.zeros((2, len(sources), int(place.max(initial=-1)) + 1))
        arrived_s[:] = np.inf
        arrived_s[layers, place] = np.where(away, sent_s + (bits * s_per_bit + delay_s), np.inf)
        taken_s[layers, place] = np.where(away, self._message_s[gather] + self._byte_s[gather] * bits / 8.0, 0.0)
        return taken_in(free_s, arrived_s, taken_s, x_s, x_taken_s)
