"""Lower bounds of decode steps of a divided layer, of a model of one, whose messages keep processors busy.

They are what steps take, but for what some devices send besides: as in `share_busy` each sends one message after the
other, and takes in one after the other. As soon as one device alone takes as long as a limit, no other is looked at.
"""

import numpy as np

from edgeemu.policies.compiled.share_busy import add_message, all_taken_in_s, own_s
from edgeemu.policies.compiled.tables import Batch, Scratch, StepTables
from edgeemu_kernels.arrays import Ints


def least_in_turn_s(
    t: StepTables, b: Batch, w: Scratch, which: int, limit_s: float, terms: int, last_terms: int
) -> float:
    """Lower bound of what goes on in a layer of one placement; if it is not below a limit, any above.

    From when the embedding is done until the output matrix can add up the partial results. `terms`, `last_terms`: of
    the sums of heads and of units.
    """
    n, embed, lm_head, longest_s = t.n, b.embed[which], b.lm_head[which], 0.0
    heads, units = b.heads[which * n :], b.units[which * n :]
    _begin(t, w, heads, units, embed)
    for turn in range(n):
        by = w.longest[1] + turn  # most likely the same device as last time
        by = by if by < n else by - n
        if units[by] > 0:
            joined_s = _gathered_s(t, w, heads, units, embed, by, last_terms - 1) + t.sums_s[by * (n + 2) + terms]
            w.joined_s[by] = joined_s + t.units_s[by * t.units_row + units[by]]
            longest_s = max(longest_s, w.joined_s[by] + t.sum_hop_s[by * n + lm_head])
            if longest_s >= limit_s:
                _note_way(t, w, by)
                return longest_s
    return max(longest_s, _collected_s(t, w, heads, units, lm_head))


def _begin(t: StepTables, w: Scratch, heads: Ints, units: Ints, embed: int) -> None:
    """Find when devices have x, and when their heads are done; and to how many each device's sum is not the first."""
    n, each_s, sent, receivers = t.n, own_s(t, embed, t.hidden_bits), 0, 0
    for a in range(n):
        w.sent[a] = receivers
        receivers += units[a] > 0
        w.x_s[a] = t.hop_s[embed * n + a] + sent * each_s
        w.x_taken_s[a] = own_s(t, a, t.hidden_bits)
        sent += (heads[a] > 0 or units[a] > 0) and a != embed
    w.x_s[embed] = sent * each_s
    w.x_taken_s[embed] = 0.0
    for a in range(n):
        place = a * t.row + heads[a]
        w.done_s[a] = w.x_s[a] + t.heads_s[place] + t.columns_s[place] if heads[a] > 0 else -np.inf


def _there_s(t: StepTables, w: Scratch, units: Ints, source: int, device: int) -> float:
    """When the partial result of heads comes to another device: they are sent in the order of devices."""
    before = w.sent[device] - (units[source] > 0 and source < device)
    came_s = w.done_s[source] + before * own_s(t, source, t.partial_bits) + t.sum_hop_s[source * t.n + device]
    return came_s - own_s(t, device, t.partial_bits)


def _gathered_s(t: StepTables, w: Scratch, heads: Ints, units: Ints, embed: int, device: int, receivers: int) -> float:
    """When a device with units, one of so many, has taken in the partial results of heads."""
    count, begin_s, own = 0, 0.0, own_s(t, device, t.partial_bits)
    for a in range(t.n):
        if heads[a] > 0 and a == device:
            begin_s = w.done_s[a] + (receivers - 1) * own
        elif heads[a] > 0:
            there_s = _there_s(t, w, units, a, device)
            if a == embed:  # after x over the same link
                x_came_s = w.x_s[device] - w.x_taken_s[device]
                there_s = max(there_s, x_came_s + t.partial_bits * t.wire_s_per_bit[a * t.n + device])
            count = add_message(w, count, there_s, own)
    return all_taken_in_s(w, count, begin_s, device)


def _collected_s(t: StepTables, w: Scratch, heads: Ints, units: Ints, lm_head: int) -> float:
    """When the output matrix's device has taken in the partial results of units."""
    count, begin_s, own = 0, 0.0, own_s(t, lm_head, t.partial_bits)
    for a in range(t.n):
        if units[a] > 0 and a == lm_head:
            begin_s = w.joined_s[a]
        elif units[a] > 0:
            there_s = w.joined_s[a] + t.sum_hop_s[a * t.n + lm_head] - own
            if heads[a] > 0 and units[lm_head] > 0:  # after that of heads over the same link
                first_s = _there_s(t, w, units, a, lm_head)
                there_s = max(there_s, first_s + t.partial_bits * t.wire_s_per_bit[a * t.n + lm_head])
            count = add_message(w, count, there_s, own)
    if units[lm_head] == 0:  # x, which comes from another one then, is not waited for
        w.x_s[lm_head] = 0.0
        w.x_taken_s[lm_head] = 0.0
    return all_taken_in_s(w, count, begin_s, lm_head)


def _note_way(t: StepTables, w: Scratch, by: int) -> None:
    """Note the way by a device that has the last of the partial results as one that waits for no other."""
    w.longest[1] = by
    for over in range(t.n):
        last_s = w.done_s[w.longest[0]] + t.sum_hop_s[w.longest[0] * t.n + by]
        if w.done_s[over] + t.sum_hop_s[over * t.n + by] > last_s:
            w.longest[0] = over
