"""Lower bounds of decode steps with divided layers by NumPy: the reference of `compiled.share_bound`."""

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import BoolArray, ShareArrays


class StepBounds:
    """Lower bounds by the times of parts of a decode step on chosen devices [n]."""

    def __init__(self, times: ShareTimes) -> None:
        self._t = times
        self._devices = np.arange(times.n)
        self._hop_s, self._sums_s = times.hop_s, times.sums_s.min(0)  # [n, n], [n + 2] on the quickest device
        self._quickest_s = (times.hop_s + np.diag(np.full(times.n, np.inf))).min(1)  # [n] to any other device

    def least_s(self, shares: ShareArrays, lengths: IntArray) -> FloatArray:
        """Lower bound of a step of each placement, with one layer for each of the runs of these lengths: [k]."""
        t, s, k = self._t, shares, np.arange(len(shares))
        token_s = t.token_bits * t.s_per_bit[s.lm_head, s.embed] + t.delay_s[s.lm_head, s.embed]
        total_s: FloatArray = token_s + t.embed_s[s.embed] + t.lm_head_s[s.lm_head]
        come_s = self._hop_s[s.embed]  # [k, n] from where x is; 0 where that is not known
        whole_proj, whole_ffn = s.whole_proj, s.whole_ffn  # [k, n_runs]
        for run, length in enumerate(lengths.tolist()):
            at_proj = np.maximum(s.proj[:, run], 0)  # [k]
            at_ffn = s.units[:, run].argmax(1)  # [k]
            ffn_s = self._feed_forward_s(s.units[:, run], whole_proj[:, run], at_proj, whole_ffn[:, run], at_ffn)
            run_s = self._attention_s(come_s, s.heads[:, run], whole_proj[:, run], at_proj) + ffn_s
            come_s = np.where(whole_ffn[:, run, None], self._hop_s[at_ffn], 0.0)
            if length > 1:
                again_s = self._attention_s(come_s, s.heads[:, run], whole_proj[:, run], at_proj) + ffn_s
                run_s = np.maximum(
                    run_s + (length - 1) * again_s,
                    self._rounds_s(s.heads[:, run], s.units[:, run], length, whole_proj[:, run] | whole_ffn[:, run]),
                )
            total_s += run_s
        return total_s + come_s[k, s.lm_head]

    def _rounds_s(self, heads: IntArray, units: IntArray, length: int, whole: BoolArray) -> FloatArray:
        """Time of divided layers alike, by what goes to and fro between two devices, or none goes: [k].

        Each layer has sums of what all have computed, so every device waits for every other, twice.
        """
        t = self._t
        if t.star:
            return np.zeros(len(heads))
        there_s = t.heads_s[self._devices, heads] + t.columns_s[self._devices, heads]  # [k, n]
        there_s = there_s + self._sums_s[(heads > 0).sum(1) + 1][:, None]
        back_s = t.units_s[self._devices, units] + self._sums_s[(units > 0).sum(1) + 1][:, None]  # [k, n]
        last_s = there_s[:, :, None] + self._hop_s + back_s[:, None, :]  # [k, n, n]
        round_s = last_s + self._hop_s.T
        both = (heads > 0)[:, :, None] & (units > 0)[:, None, :] & ~whole[:, None, None]
        found: FloatArray = np.where(both, (length - 1) * round_s + last_s, 0.0).max((1, 2))
        return found

    def _attention_s(self, come_s: FloatArray, counts: IntArray, whole: BoolArray, at: IntArray) -> FloatArray:
        """Time until any device has x after the projection, from when x leaves for others: [k, n] … -> [k]."""
        t, k, held = self._t, np.arange(len(counts)), counts > 0
        done_s = come_s + t.heads_s[self._devices, counts]  # [k, n]
        sent_s = t.attention_bits[counts] * t.s_per_bit[:, at].T + t.delay_s[:, at].T  # [k, n]
        gathered_s: FloatArray = np.maximum(np.where(held, done_s + sent_s, 0.0).max(1), come_s[k, at]) + t.proj_s[at]
        if whole.all():
            return gathered_s
        joined_s = self._joined_s(done_s + t.columns_s[self._devices, counts], held)
        return np.where(whole, gathered_s, joined_s)

    def _feed_forward_s(
        self, counts: IntArray, whole_proj: BoolArray, at_proj: IntArray, whole: BoolArray, at: IntArray
    ) -> FloatArray:
        """Time until any device has x after the feed-forward block, from when x is there after the projection: [k]."""
        t, k = self._t, np.arange(len(counts))
        come_s = np.where(whole_proj[:, None], self._hop_s[at_proj], 0.0)  # [k, n]
        alone_s: FloatArray = come_s[k, at] + t.ffn_s[at]
        if whole.all():
            return alone_s
        joined_s = self._joined_s(come_s + t.units_s[self._devices, counts], counts > 0)
        return np.where(whole, alone_s, joined_s)

    def _joined_s(self, done_s: FloatArray, terms: BoolArray) -> FloatArray:
        """Time until any device has the sum of partial results, done at `done_s` on `terms`: [k, n] each -> [k].

        It has them first, at best, where the one is that would come last.
        """
        k = np.arange(len(terms))
        sent_s = np.where(terms, done_s + self._quickest_s, 0.0)  # [k, n]
        last = sent_s.argmax(1)  # [k]
        sent_s[k, last] = 0.0
        joined_s: FloatArray = np.maximum(done_s[k, last], sent_s.max(1)) + self._sums_s[terms.sum(1) + 1]
        return joined_s
