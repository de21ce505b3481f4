"""Lower bounds of decode steps by the ways through a divided layer, of a model of one: close to what the steps take.

A way leads from the embedding over a device with heads, and one with units, to the output matrix. Where partial sums
are added is known, so that a step takes as long as its longest way if no message waits for another, and never less. A
link carries x before a partial result, and that of heads before that of units. Where messages keep processors busy,
`share_turns` bounds the rest.
"""

import numpy as np

from edgeemu.policies.compiled.share_bound import least_s
from edgeemu.policies.compiled.share_turns import least_in_turn_s
from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables

LEAST_TERMS = 2  # of a sum: x, and a partial result


def known_way_s(t: StepTables, b: Batch, w: Scratch, which: int) -> float:
    """Time of the way that was last found to be the longest, in one placement of a batch; 0 where it does not exist."""
    heads, units = b.heads[which * t.n + w.longest[0]], b.units[which * t.n + w.longest[1]]
    whole = b.proj[which] >= 0 or units == t.units_row - 1
    if t.n_layers > 1 or t.star or whole or heads == 0 or units == 0:
        return 0.0
    return way_of_s(t, b, w, which, LEAST_TERMS, LEAST_TERMS)


def way_of_s(t: StepTables, b: Batch, w: Scratch, which: int, terms: int, last_terms: int) -> float:
    """Time of that way if it exists, with so many terms of its sums."""
    n, over, by, embed, lm_head = t.n, w.longest[0], w.longest[1], b.embed[which], b.lm_head[which]
    place, units = over * t.row + b.heads[which * n + over], by * t.units_row + b.units[which * n + by]
    done_s = t.hop_s[embed * n + over] + t.heads_s[place] + t.columns_s[place]
    way_s = max(done_s, _x_sent_s(t, embed, over, by)) + t.sum_hop_s[over * n + by]
    way_s = way_s + t.sums_s[by * (n + 2) + terms] + t.units_s[units]
    if over == by:
        way_s = max(way_s, _partial_sent_s(t, done_s, by, lm_head, b.units[which * n + lm_head]))
    way_s = way_s + t.sum_hop_s[by * n + lm_head]
    return ends_s(t, embed, lm_head) + (way_s + t.sums_s[lm_head * (n + 2) + last_terms])


def least_below_s(t: StepTables, b: Batch, w: Scratch, which: int, limit: float) -> float:
    """Lower bound of a step of one placement of a batch; if it is not below a limit, any above.

    Of all ways, or by `share_bound` where there are none.
    """
    n, heads, units, terms, last_terms = t.n, b.heads[which * t.n :], b.units[which * t.n :], 1, 1
    if t.n_layers > 1 or t.star or b.proj[which] >= 0:
        return least_s(t, b, w, which)
    for a in range(n):
        terms += heads[a] > 0
        last_terms += units[a] > 0
    if last_terms == LEAST_TERMS:  # one device has all units
        return least_s(t, b, w, which)
    embed, lm_head, longest_s = b.embed[which], b.lm_head[which], 0.0
    rest_s = ends_s(t, embed, lm_head) + t.sums_s[lm_head * (n + 2) + last_terms]
    if t.busy[0] == 1:
        return rest_s + least_in_turn_s(t, b, w, which, limit - rest_s, terms, last_terms)
    for a in range(n):
        place = a * t.row + heads[a]
        done_s = t.hop_s[embed * n + a] + t.heads_s[place] + t.columns_s[place]
        w.done_s[a] = done_s if heads[a] > 0 else -np.inf
    for turn in range(n):
        by = w.longest[1] + turn  # most likely the same device as last time
        by = by if by < n else by - n
        if units[by] > 0:
            gathered_s = _gathered_s(t, w, embed, by)
            done_s = gathered_s + t.sums_s[by * (n + 2) + terms] + t.units_s[by * t.units_row + units[by]]
            sent_s = _partial_sent_s(t, w.done_s[by], by, lm_head, units[lm_head])
            longest_s = max(longest_s, max(done_s, sent_s) + t.sum_hop_s[by * n + lm_head])
            if rest_s + longest_s >= limit:
                _note_way(t, w, embed, by, gathered_s)
                w.longest[0] = by if sent_s > done_s else w.longest[0]
                w.longest[2] = 0 + (sent_s > done_s)
                break
    return rest_s + longest_s


def ends_s(t: StepTables, embed: int, lm_head: int) -> float:
    """Time of the embedding and the output matrix, and of the token on its way between them."""
    token = lm_head * t.n + embed
    return t.token_bits * t.s_per_bit[token] + t.delay_s[token] + t.embed_s[embed] + t.lm_head_s[lm_head]


def _x_sent_s(t: StepTables, embed: int, source: int, target: int) -> float:
    """How long a link is busy with x, which goes to each device that adds up partial results, before one of these.

    0 where messages keep processors busy.
    """
    way = source * t.n + target
    return t.hidden_bits * t.s_per_bit[way] if source == embed and source != target and t.busy[0] == 0 else 0.0


def _partial_sent_s(t: StepTables, done_s: float, source: int, lm_head: int, units: int) -> float:
    """When a link to the output matrix has carried the partial result of heads, before that of units.

    `units`: of the output matrix's device, which adds up partial results only if it has some.
    """
    way = source * t.n + lm_head
    return done_s + t.partial_bits * t.s_per_bit[way] if units > 0 and source != lm_head and t.busy[0] == 0 else 0.0


def _gathered_s(t: StepTables, w: Scratch, embed: int, device: int) -> float:
    """When a device has the partial results of all that have heads."""
    gathered_s = 0.0
    for a in range(t.n):
        gathered_s = max(gathered_s, w.done_s[a] + t.sum_hop_s[a * t.n + device])
    if w.done_s[embed] >= 0.0:
        gathered_s = max(gathered_s, _x_sent_s(t, embed, embed, device) + t.sum_hop_s[embed * t.n + device])
    return gathered_s


def _note_way(t: StepTables, w: Scratch, embed: int, by: int, gathered_s: float) -> None:
    """Note the way by a device that has the last of the partial results then: one that has waited for x, or another."""
    w.longest[0] = embed
    w.longest[1] = by
    for over in range(t.n):
        if w.done_s[over] + t.sum_hop_s[over * t.n + by] == gathered_s:
            w.longest[0] = over
