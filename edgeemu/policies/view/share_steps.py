"""Duration of a step of placements with divided layers, many at once, in closed form. No events, no clock.

For one sequence alone, where every pair has a link of its own, a step takes what the simulator says. Where messages
keep processors busy, it does so for equal devices, and nearly elsewhere. Prompts whose collectives are rings are in
`share_prompts`.
"""

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.message_times import taken_in
from edgeemu.policies.view.share_passage import Passage, ShareStep
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import BoolArray, ShareArrays


def step_of(times: ShareTimes, shares: ShareArrays) -> ShareStep:
    """Compute a step of each placement of a batch."""
    return (BusyPassage if times.messages is not None else Passage)(times, shares).result()


class BusyPassage(Passage):
    """Step in which messages keep processors busy: each sends one after the other, and takes in one after the other.

    What a device sends goes before its other work: where `x_s` says that it has x, it has sent it, too.
    """

    def __init__(self, times: ShareTimes, shares: ShareArrays) -> None:
        super().__init__(times, shares)
        assert times.messages is not None, "messages cost nothing"
        self.m = times.messages
        self.x_taken_s = np.zeros_like(self.x_s)  # [k, n] that it has taken a device to take x in, before `x_s`

    def _token_s(self) -> FloatArray:
        ends = self.s.lm_head, self.s.embed
        own_s = self.m.busy_s(self.t.token_bits)  # [n]
        sent_s = own_s[ends[0]] + self.m.wire_s(ends, self.t.token_bits) + own_s[ends[1]]
        self.busy_s[self.k, ends[0]] += np.where(ends[0] == ends[1], 0.0, own_s[ends[0]])
        self.busy_s[self.k, ends[1]] += np.where(ends[0] == ends[1], 0.0, own_s[ends[1]])
        token_s: FloatArray = np.where(ends[0] == ends[1], 0.0, sent_s)
        return token_s

    def _spread(self, need: BoolArray, bits: float) -> None:
        to = need & ~self.has  # [k, n]
        self.x_taken_s = np.where(to, self.m.busy_s(bits), 0.0)
        if not to.any():
            return
        k, first, own_s = self.k, self.has.argmax(1), self.m.busy_s(bits)  # [k], [n]
        sent_s = self.x_s[k, first][:, None] + to.cumsum(1) * own_s[first][:, None]  # [k, n] departures
        left_s = np.maximum(sent_s, self.free_s[k, first]) + bits * self.m.s_per_bit[first]
        self.free_s[k, first] = np.where(to, left_s, self.free_s[k, first])
        self.x_s = np.where(to, left_s + self.m.delay_s[first] + own_s, self.x_s)
        self.x_s[k, first] = sent_s[:, -1]
        self.bits[k, first] += np.where(to, bits, 0.0)
        self.busy_s += self.x_taken_s
        self.busy_s[k, first] += to.sum(1) * own_s[first]

    def _collected(self, done_s: FloatArray, to: BoolArray, at: IntArray, bits: FloatArray) -> FloatArray:
        k, here = self.k, self.devices == at[:, None]  # [k, n]
        away, free_s, own_s = to & ~here, self.free_s[k, :, at], self.m.busy_s(bits)  # [k, n] each
        left_s = np.maximum(done_s + own_s, free_s) + bits * self.m.s_per_bit[:, at].T
        self.free_s[k, :, at] = np.where(away, left_s, free_s)
        self.bits[k, :, at] += np.where(to, bits, 0.0)
        taken_s = np.where(away, self.m.busy_at_s(at[:, None], bits), 0.0)  # [k, n] by the device that takes them in
        self.busy_s += np.where(away, own_s, 0.0)
        self.busy_s[k, at] += taken_s.sum(1)
        begin_s = np.where(to & here, done_s, 0.0).max(1)  # [k] when it could begin to, if it has outputs itself
        x_s = (self.x_s - self.x_taken_s)[k, at], self.x_taken_s[k, at]
        return taken_in(begin_s, np.where(away, left_s + self.m.delay_s[:, at].T, np.inf), taken_s, *x_s)

    def _exchanged(self, done_s: FloatArray, to: BoolArray, bits: float) -> FloatArray:
        own_s, away = self.m.busy_s(bits), to & self.apart  # [n], [k, n, n]
        sent_s = done_s[:, :, None] + away.cumsum(2) * own_s[:, None]  # [k, n, n] departures
        left_s = np.maximum(sent_s, self.free_s) + bits * self.m.s_per_bit
        self.free_s = np.where(away, left_s, self.free_s)
        self.bits += np.where(to, bits, 0.0)
        self.busy_s += (away.sum(2) + away.sum(1)) * own_s
        begin_s = np.where(to.any(2), sent_s[:, :, -1], 0.0)  # [k, n] when it could begin to, if it sends something
        arrived_s = np.where(away, left_s + self.m.delay_s, np.inf).swapaxes(1, 2)  # [k, n, n] by receiver and sender
        taken_s = np.where(away, own_s, 0.0).swapaxes(1, 2)
        return taken_in(begin_s, arrived_s, taken_s, self.x_s - self.x_taken_s, self.x_taken_s)
