"""Lower bound of a decode step of one placement: it rejects most of what a search looks at, for little work.

Links are as quick as the quickest from each device where a sum can be anywhere, and messages never queue. Layers that
are alike are computed once.
"""

from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables
from edgeemu_kernels.arrays import Floats, Ints

NOWHERE = -1  # where it is not known where x is, which then costs nothing


def _whole_at(n: int, units: Ints) -> int:
    """Where a feed-forward block is whole."""
    holders, at = 0, 0
    for a in range(n):
        holders += units[a] > 0
        at = a if units[a] > units[at] else at
    return at if holders == 1 else NOWHERE


def least_s(t: StepTables, b: Batch, w: Scratch, which: int) -> float:
    """Lower bound of a step of one placement of a batch."""
    n, lm_head, embed = t.n, b.lm_head[which], b.embed[which]
    token = lm_head * n + embed
    token_s = t.token_bits * t.s_per_bit[token] + t.delay_s[token]
    total_s, source = token_s + t.embed_s[embed] + t.lm_head_s[lm_head], embed
    for run in range(b.n_runs):
        at = which * b.n_runs + run
        heads, units, at_proj = b.heads[at * n :], b.units[at * n :], b.proj[at]
        at_ffn = _whole_at(n, units)
        ffn_s = _feed_forward_s(t, w, units, at_proj, at_ffn)
        run_s = _attention_s(t, w, source, heads, at_proj) + ffn_s
        source = at_ffn
        if b.lengths[run] > 1:
            more = b.lengths[run] - 1
            again_s = _attention_s(t, w, source, heads, at_proj) + ffn_s
            run_s = run_s + more * again_s
            if not t.star and at_proj < 0 and at_ffn < 0:
                run_s = max(run_s, _rounds_s(t, heads, units, more))
        total_s += run_s
    return total_s + _come_s(t, source, lm_head)


def _come_s(t: StepTables, source: int, device: int) -> float:
    return 0.0 if source < 0 else t.hop_s[source * t.n + device]


def _attention_s(t: StepTables, w: Scratch, source: int, counts: Ints, at: int) -> float:
    """Time until any device has x after the projection, from when x leaves `source`."""
    if at < 0:
        for a in range(t.n):
            place = a * t.row + counts[a]
            w.done_s[a] = _come_s(t, source, a) + t.heads_s[place] + t.columns_s[place]
        return _joined_s(t, w.done_s, counts)
    gathered_s = _come_s(t, source, at)
    for a in range(t.n):
        if counts[a] > 0:
            done_s, way = _come_s(t, source, a) + t.heads_s[a * t.row + counts[a]], a * t.n + at
            sent_s = t.attention_bits[counts[a]] * t.s_per_bit[way] + t.delay_s[way]
            gathered_s = max(gathered_s, done_s + sent_s)
    return gathered_s + t.proj_s[at]


def _feed_forward_s(t: StepTables, w: Scratch, counts: Ints, source: int, at: int) -> float:
    """Time until any device has x after the feed-forward block, whole at a device, from when x leaves `source`."""
    if at >= 0:
        return _come_s(t, source, at) + t.ffn_s[at]
    for a in range(t.n):
        w.done_s[a] = _come_s(t, source, a) + t.units_s[a * t.units_row + counts[a]]
    return _joined_s(t, w.done_s, counts)


def _joined_s(t: StepTables, done_s: Floats, counts: Ints) -> float:
    """Time until any device has the sum of partial results: at best where the one is that would come last."""
    last, last_s, others_s, terms = 0, 0.0, 0.0, 1
    for a in range(t.n):
        if counts[a] > 0:
            terms += 1
            sent_s = done_s[a] + t.quickest_s[a]
            if sent_s > last_s:
                last, last_s, others_s = a, sent_s, last_s
            else:
                others_s = max(others_s, sent_s)
    return max(done_s[last], others_s) + t.least_sums_s[terms]


def _rounds_s(t: StepTables, heads: Ints, units: Ints, more: int) -> float:
    """Time of divided layers alike, by what goes to and fro between two devices, or none goes."""
    n, terms, unit_terms, found_s = t.n, 1, 1, 0.0
    for a in range(n):
        terms += heads[a] > 0
        unit_terms += units[a] > 0
    for a in range(n):
        if heads[a] > 0:
            place = a * t.row + heads[a]
            there_s = t.heads_s[place] + t.columns_s[place] + t.least_sums_s[terms]
            for b in range(n):
                if units[b] > 0:
                    back_s = t.units_s[b * t.units_row + units[b]] + t.least_sums_s[unit_terms]
                    last_s = there_s + t.hop_s[a * n + b] + back_s
                    found_s = max(found_s, more * (last_s + t.hop_s[b * n + a]) + last_s)
    return found_s
